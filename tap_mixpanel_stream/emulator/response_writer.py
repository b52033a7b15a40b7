"""Sends a body: gzip, framing, and the faults of both."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from .body_faults import Body, compressed, damaged_gzip, damaged_text, length

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from .faults import Fault

# Mixpanel compresses bodies over this size, when the client takes gzip.
_SMALL = 1400

_GZIP_FAULTS = frozenset({"gzip-cut", "gzip-trailer", "gzip-no-trailer", "gzip-garbage", "bomb"})
_TRANSFER_FAULTS = frozenset({"chunk-cut", "length-short", "no-framing", "reset", "stall", "trickle"})
# Bodies that nobody could hold.
_ENDLESS = frozenset({"bomb", "endless-line"})
# How many pieces a body that trickles comes in.
_PIECES = 50


class HungUpError(ConnectionError):
    """The connection is over: a fault, or the emulator is closing."""


@dataclass(frozen=True)
class Response:
    """What goes out.

    Attributes:
        status: The HTTP status.
        content_type: The media type, as Mixpanel writes it.
        body: The body, before it is compressed.
        streamed: Whether its length is not known beforehand, so that it goes out in chunks.
        headers: Further headers.
    """

    status: int
    content_type: str
    body: Body
    streamed: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class ResponseWriter:
    """One connection, while a response is sent.

    Attributes:
        connection: The socket.
        send_head: Sends the status line and these headers.
        takes_gzip: Whether the client accepts gzip.
        takes_chunks: Whether it speaks HTTP/1.1.
        level: The gzip level.
        closing: Set when the emulator closes.
        hang_up: Has the connection closed after this response.
    """

    connection: socket.socket
    send_head: Callable[[int, list[tuple[str, str]]], None]
    takes_gzip: bool
    takes_chunks: bool
    level: int
    closing: threading.Event
    hang_up: Callable[[], None]

    def pause(self, seconds: float) -> None:
        """Pause.

        Raises:
            HungUpError: The emulator closes meanwhile.
        """
        if self.closing.wait(seconds):
            raise HungUpError

    def send(
        self, response: Response, faults: list[Fault], keep: Callable[[EncodedBody], None] | None = None, room: int = 0
    ) -> None:
        """Send an response.

        Args:
            response: The response.
            faults: What goes wrong with it.
            keep: Told a chunked body as it was coded, for the cache; only where nothing goes wrong.
            room: How large the body may be for that.

        Raises:
            ConnectionError: The connection ended before the response.
        """
        names = {fault.name for fault in faults}
        if "content-type" in names:
            response = replace(response, content_type="text/html; charset=ISO-8859-1")
        if names & _ENDLESS:
            response = replace(response, streamed=True)
        text = self._while_open(damaged_text(self._while_open(response.body), faults))
        body, small = _measured(text, once=not faults)
        coding = "br" if "encoding" in names else None
        # A fault of gzip needs gzip, also where Mixpanel would not have used it.
        if names & _GZIP_FAULTS or (self.takes_gzip and not small and coding is None):
            coding = "gzip"
            plain = body
            body = damaged_gzip(lambda: compressed(plain, self.level), faults)
        transfer_fault = next((fault for fault in faults if fault.name in _TRANSFER_FAULTS), None)
        if transfer_fault is not None:
            self._send_badly(response, coding, body, transfer_fault)
        elif response.streamed and not small and self.takes_chunks:
            self._head(response, coding, ("Transfer-Encoding", "chunked"))
            pieces: list[bytes] = []
            for piece in body():
                self._chunk(piece)
                room -= len(piece)
                if room >= 0:
                    pieces.append(piece)
                else:
                    pieces.clear()
            # Before the response ends: the next request may come at once.
            if keep is not None and room >= 0:
                keep(EncodedBody(coding, pieces))
            self.connection.sendall(b"0\r\n\r\n")
        elif response.streamed and not small:
            self._unframed(response, coding, body)
        else:
            whole = b"".join(body())
            self._head(response, coding, ("Content-Length", str(len(whole))))
            self.connection.sendall(whole)

    def send_kept(self, response: Response, coded: EncodedBody) -> None:
        """Send a body as it was coded before."""
        self._head(response, coded.coding, ("Transfer-Encoding", "chunked"))
        for piece in coded.pieces:
            self._chunk(piece)
        self.connection.sendall(b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection with RST, as a machine does that lost its state.

        Raises:
            HungUpError: Always.
        """
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise HungUpError

    def _while_open(self, body: Body) -> Body:
        """Return the body, which stops when the emulator closes, however long it is."""

        def blocks() -> Iterator[bytes]:
            for block in body():
                if self.closing.is_set():
                    raise HungUpError
                if block:
                    yield block

        return blocks

    def _head(self, response: Response, coding: str | None, *framing: tuple[str, str]) -> None:
        headers = [("Content-Type", response.content_type), *response.headers, *framing]
        if coding is not None:
            headers.append(("Content-Encoding", coding))
        self.send_head(response.status, headers)

    def _chunk(self, piece: bytes) -> None:
        # An empty chunk would be the last one.
        if piece:
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _unframed(self, response: Response, coding: str | None, body: Body) -> None:
        self.hang_up()
        self._head(response, coding, ("Connection", "close"))
        for piece in body():
            self.connection.sendall(piece)

    def _trickle(self, response: Response, coding: str | None, body: Body, fault: Fault) -> None:
        self._head(response, coding, ("Transfer-Encoding", "chunked"))
        size = 1 + length(body) // _PIECES
        for block in body():
            for start in range(0, len(block), size):
                self._chunk(block[start : start + size])
                self.pause(fault.seconds() / _PIECES)
        self.connection.sendall(b"0\r\n\r\n")

    def _send_badly(self, response: Response, coding: str | None, body: Body, fault: Fault) -> None:
        if fault.name == "no-framing":
            self._unframed(response, coding, body)
            return
        if fault.name == "trickle":
            self._trickle(response, coding, body, fault)
            return
        total = length(body)
        # Not before the first byte, and not after the last: there it would be another fault.
        before = max(1, int(total * fault.at))
        if fault.name == "length-short":
            before = min(before, total)
            self._head(response, coding, ("Content-Length", str(total + 1)))
            send: Callable[[bytes], None] = self.connection.sendall
        else:
            self._head(response, coding, ("Transfer-Encoding", "chunked"))
            send = self._chunk
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
            raise HungUpError


@dataclass(frozen=True)
class EncodedBody:
    """A body as it went out: its coding and its pieces."""

    coding: str | None
    pieces: list[bytes]

    @property
    def size(self) -> int:
        """How much memory it takes."""
        return sum(map(len, self.pieces))


def _measured(body: Body, *, once: bool) -> tuple[Body, bool]:
    """Return the body, and whether it is too small to be compressed.

    Args:
        body: The body.
        once: Whether the body will be started only once, and need not be made a second time for having been looked at.
    """
    blocks = body()
    seen: list[bytes] = []
    size = 0
    for block in blocks:
        seen.append(block)
        size += len(block)
        if size > _SMALL:
            break
    if once:
        return lambda: chain(seen, blocks), size <= _SMALL
    return body, size <= _SMALL
