"""A server on loopback that answers each request with the next of the bytes it was given."""

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
    """A body in chunks, the last one included."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def answer(body: bytes = b"", *, status: str = "200 OK", headers: Sequence[str] = (), length: bool = True) -> bytes:
    """A whole answer, of a known length unless told otherwise."""
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def gzip_in_chunks(packed: bytes) -> bytes:
    """Packed bytes in well-formed chunks."""
    return answer(chunked(packed), headers=["Content-Encoding: gzip", "Transfer-Encoding: chunked"], length=False)


def packed(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


class Server:
    """Answers requests in order; each connection serves until an answer asks for its end.

    Attributes:
        requests: What was asked, head and body, as text.
        connections: How many connections there were.
    """

    def __init__(self, *scripts: Script, close: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self._scripts = list(scripts)
        self._close = close
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._taken: list[socket.socket] = []
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
        self._threads[0].join(5)  # it may be taking in a last connection
        self._listening.close()
        for taken in self._taken:
            with contextlib.suppress(OSError):
                taken.shutdown(socket.SHUT_RDWR)
            taken.close()
        for thread in self._threads:
            thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                taken, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._taken.append(taken)
            thread = threading.Thread(target=self._serve, args=(taken,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, taken: socket.socket) -> None:
        try:
            if self._tls:
                taken = self._tls.wrap_socket(taken, server_side=True)
                self._taken.append(taken)
            while request := _request(taken):
                with self._lock:
                    self.requests.append(request)
                    script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                if isinstance(script, bytes):
                    taken.sendall(script)
                else:
                    script(taken)
                if self._close:
                    taken.shutdown(socket.SHUT_RDWR)
                    return
        except OSError:
            return


def _request(taken: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        received = taken.recv(65536)
        if not received:
            return ""
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += taken.recv(65536)
    return (head + b"\r\n\r\n" + body).decode()


def silent(taken: socket.socket) -> None:
    """Says nothing until the other side has gone."""
    while taken.recv(1):
        time.sleep(0.01)


def begins(start: bytes) -> Callable[[socket.socket], None]:
    """Says so much and then nothing."""

    def script(taken: socket.socket) -> None:
        taken.sendall(start)
        silent(taken)

    return script
