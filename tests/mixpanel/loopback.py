"""A server on loopback that sends a scripted response to each request, in order."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from tap_mixpanel_stream.mixpanel.request import Hosts

if TYPE_CHECKING:
    import ssl

Script = bytes | Callable[[socket.socket], None]


def chunked(body: bytes, size: int = 1000) -> bytes:
    """Return a body in chunked transfer coding, with the final empty chunk."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def answer(body: bytes = b"", *, status: str = "200 OK", headers: Sequence[str] = (), length: bool = True) -> bytes:
    """Return a complete response, with `Content-Length` unless `length` is false."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def gzip_in_chunks(packed: bytes) -> bytes:
    """Return a response with a gzip body in well-formed chunks."""
    return answer(chunked(packed), headers=["Content-Encoding: gzip", "Transfer-Encoding: chunked"], length=False)


def packed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


class Server:
    """A server that sends one scripted response for each request; the last one repeats.

    Attributes:
        requests: The requests received, head and body, as text.
        connections: The number of connections accepted.
    """

    def __init__(self, *scripts: Script, close: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self._scripts = list(scripts)
        self._close = close
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._accepted: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def hosts(self) -> Hosts:
        return Hosts(f"{self.url}/api/2.0", f"{self.url}/api")

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(5)  # It may be accepting a last connection.
        self._listening.close()
        for connection in self._accepted:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._accepted.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._accepted.append(connection)
            while request := _request(connection):
                with self._lock:
                    self.requests.append(request)
                    script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                if isinstance(script, bytes):
                    connection.sendall(script)
                else:
                    script(connection)
                if self._close:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
        except OSError:
            return


def _request(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            return ""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return (head + b"\r\n\r\n" + body).decode()


def silent(connection: socket.socket) -> None:
    """Send nothing until the client closes the connection."""
    while connection.recv(1):
        time.sleep(0.01)


def begins(start: bytes) -> Callable[[socket.socket], None]:
    """Return a script that sends `start` and then nothing more."""

    def script(connection: socket.socket) -> None:
        connection.sendall(start)
        silent(connection)

    return script
