"""Sending a response: compression, framing, and the faults in both."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from .body_faults import Body, compress, inject_gzip_faults, inject_text_faults, length

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from .faults import Fault

# Mixpanel compresses bodies over this size in bytes if the client accepts gzip.
_MIN_COMPRESSED_SIZE = 1400

_GZIP_FAULTS = frozenset({"gzip-cut", "gzip-trailer", "gzip-no-trailer", "gzip-garbage", "bomb"})
_TRANSFER_FAULTS = frozenset({"chunk-cut", "length-short", "no-framing", "reset", "stall", "trickle"})
# The bodies of these faults are too large for memory, so they are always streamed.
_LARGE_BODY_FAULTS = frozenset({"bomb", "endless-line"})
# Number of pieces in which the fault `trickle` sends a body.
_PIECES = 50


class ConnectionClosedError(ConnectionError):
    """The connection must be closed, because of a fault or because the emulator is closing."""


@dataclass(frozen=True)
class Response:
    """A response before compression and framing.

    Attributes:
        status: HTTP status.
        content_type: Value of the `Content-Type` header.
        body: Uncompressed body.
        is_streamed: Whether to send the body in chunks, because its length is unknown in advance.
        headers: Additional headers.
    """

    status: int
    content_type: str
    body: Body
    is_streamed: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class ResponseWriter:
    """Sends responses over a connection.

    Attributes:
        connection: Socket of the connection.
        send_head: Function that sends the status line and the given headers.
        accepts_gzip: Whether the client accepts gzip.
        accepts_chunks: Whether the client accepts chunked encoding, that is, uses HTTP/1.1.
        gzip_level: Compression level.
        closing: Event that is set when the emulator closes.
        close_after_response: Function that marks the connection to be closed after the response.
    """

    connection: socket.socket
    send_head: Callable[[int, list[tuple[str, str]]], None]
    accepts_gzip: bool
    accepts_chunks: bool
    gzip_level: int
    closing: threading.Event
    close_after_response: Callable[[], None]

    def pause(self, seconds: float) -> None:
        """Wait, sending no data.

        Raises:
            ConnectionClosedError: The emulator is closing.
        """
        if self.closing.wait(seconds):
            raise ConnectionClosedError

    def send(
        self,
        response: Response,
        faults: list[Fault],
        store: Callable[[EncodedBody], None] | None = None,
        capacity: int = 0,
    ) -> None:
        """Send a response.

        Args:
            response: The response.
            faults: Faults to inject.
            store: Function that stores the encoded body in the cache. It is called for chunked bodies of up to
                `capacity` bytes. Pass it only without faults.
            capacity: Maximum size of a body to store, in bytes.

        Raises:
            ConnectionError: The connection was closed before the end of the response.
        """
        names = {fault.name for fault in faults}
        if "content-type" in names:
            response = replace(response, content_type="text/html; charset=ISO-8859-1")
        if names & _LARGE_BODY_FAULTS:
            response = replace(response, is_streamed=True)
        text = self._while_open(inject_text_faults(self._while_open(response.body), faults))
        body, is_small = _measure(text, is_read_once=not faults)
        coding = "br" if "encoding" in names else None
        # A gzip fault forces compression, even where Mixpanel would not compress.
        if names & _GZIP_FAULTS or (self.accepts_gzip and not is_small and coding is None):
            coding = "gzip"
            plain = body
            body = inject_gzip_faults(lambda: compress(plain, self.gzip_level), faults)
        transfer_fault = next((fault for fault in faults if fault.name in _TRANSFER_FAULTS), None)
        if transfer_fault is not None:
            self._send_with_fault(response, coding, body, transfer_fault)
        elif response.is_streamed and not is_small and self.accepts_chunks:
            self._send_headers(response, coding, ("Transfer-Encoding", "chunked"))
            pieces: list[bytes] = []
            for piece in body():
                self._send_chunk(piece)
                capacity -= len(piece)
                if capacity >= 0:
                    pieces.append(piece)
                else:
                    pieces.clear()
            # Store the body before the last chunk: the client may repeat the request as soon as the response ends.
            if store is not None and capacity >= 0:
                store(EncodedBody(coding, pieces))
            self.connection.sendall(b"0\r\n\r\n")
        elif response.is_streamed and not is_small:
            self._send_unframed(response, coding, body)
        else:
            whole = b"".join(body())
            self._send_headers(response, coding, ("Content-Length", str(len(whole))))
            self.connection.sendall(whole)

    def send_encoded(self, response: Response, encoded: EncodedBody) -> None:
        """Send an encoded body from the cache."""
        self._send_headers(response, encoded.coding, ("Transfer-Encoding", "chunked"))
        for piece in encoded.pieces:
            self._send_chunk(piece)
        self.connection.sendall(b"0\r\n\r\n")

    def reset(self) -> None:
        """Reset the connection (TCP RST).

        Raises:
            ConnectionClosedError: Always.
        """
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionClosedError

    def _while_open(self, body: Body) -> Body:
        """Return the body without empty blocks. It raises `ConnectionClosedError` when the emulator closes."""

        def blocks() -> Iterator[bytes]:
            for block in body():
                if self.closing.is_set():
                    raise ConnectionClosedError
                if block:
                    yield block

        return blocks

    def _send_headers(self, response: Response, coding: str | None, *framing: tuple[str, str]) -> None:
        headers = [("Content-Type", response.content_type), *response.headers, *framing]
        if coding is not None:
            headers.append(("Content-Encoding", coding))
        self.send_head(response.status, headers)

    def _send_chunk(self, piece: bytes) -> None:
        # An empty chunk would end the body.
        if piece:
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _send_unframed(self, response: Response, coding: str | None, body: Body) -> None:
        self.close_after_response()
        self._send_headers(response, coding, ("Connection", "close"))
        for piece in body():
            self.connection.sendall(piece)

    def _send_slowly(self, response: Response, coding: str | None, body: Body, fault: Fault) -> None:
        self._send_headers(response, coding, ("Transfer-Encoding", "chunked"))
        size = 1 + length(body) // _PIECES
        for block in body():
            for start in range(0, len(block), size):
                self._send_chunk(block[start : start + size])
                self.pause(fault.seconds() / _PIECES)
        self.connection.sendall(b"0\r\n\r\n")

    def _send_with_fault(self, response: Response, coding: str | None, body: Body, fault: Fault) -> None:
        if fault.name == "no-framing":
            self._send_unframed(response, coding, body)
            return
        if fault.name == "trickle":
            self._send_slowly(response, coding, body, fault)
            return
        total = length(body)
        # Send at least one byte. Otherwise the result would be a different fault.
        before = max(1, int(total * fault.at))
        if fault.name == "length-short":
            before = min(before, total)
            self._send_headers(response, coding, ("Content-Length", str(total + 1)))
            send: Callable[[bytes], None] = self.connection.sendall
        else:
            self._send_headers(response, coding, ("Transfer-Encoding", "chunked"))
            send = self._send_chunk
        for piece in body():
            if 0 < before <= len(piece):
                send(piece[:before])
                if fault.name != "stall":
                    break
                self.pause(fault.seconds())
                send(piece[before:])
            else:
                send(piece)
            before -= len(piece)
        if fault.name == "stall":
            self.connection.sendall(b"0\r\n\r\n")
        elif fault.name == "reset":
            self.reset()
        else:
            raise ConnectionClosedError


@dataclass(frozen=True)
class EncodedBody:
    """A compressed body, as a list of chunks.

    Attributes:
        coding: Value of the `Content-Encoding` header; None without compression.
        pieces: Chunks of the body.
    """

    coding: str | None
    pieces: list[bytes]

    @property
    def size(self) -> int:
        """The size of the body in bytes."""
        return sum(map(len, self.pieces))


def _measure(body: Body, *, is_read_once: bool) -> tuple[Body, bool]:
    """Return the body and whether it is too small to be compressed.

    Args:
        body: The body.
        is_read_once: Whether the caller reads the returned body only once. The blocks that were read here are then
            reused, not generated again.
    """
    blocks = body()
    seen: list[bytes] = []
    size = 0
    for block in blocks:
        seen.append(block)
        size += len(block)
        if size > _MIN_COMPRESSED_SIZE:
            break
    if is_read_once:
        return lambda: chain(seen, blocks), size <= _MIN_COMPRESSED_SIZE
    return body, size <= _MIN_COMPRESSED_SIZE
