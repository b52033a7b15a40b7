"""HTTP responses within limits of time and size, and with framing that leaves no doubt.

`http.client` applies its timeout to each byte, follows interim responses and trailers without end, and accepts `-1` as
the size of a chunk. A server could block a run, or have it read without end. So

* the head arrives whole within the read timeout, interim responses included, and is at most 64 KiB,
* a body may pause for the read timeout, and over time brings at least 128 bytes a second,
* the body of an error arrives within 10 s, as far as it is read at all, and so do trailers,
* the size of a chunk is a hexadecimal number, and there is one `Content-Length`.

Only the time spent in waiting for the server counts, not what is done with the bytes between two reads.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import HeaderParsingError
from urllib3.util.response import assert_header_parsing

if TYPE_CHECKING:
    import socket

    from _typeshed import WriteableBuffer

_HEAD_BYTES = 64 * 1024
"""Bytes of a head, interim responses included. Common servers send at most 8 or 16 KiB."""

PACE = 128
"""Bytes a second that a body must bring over time, as sent."""

_ERROR_SECONDS = 10.0
"""Seconds for the body of an error or for trailers. Both are short texts that are ready when the head is."""

_ERROR_BYTES = 64 * 1024
"""Bytes of the body of an error, as sent, or of trailers."""

_CHUNK_LINE = 4096
"""Bytes of the line before a chunk."""

_PIECE = 64 * 1024
"""Bytes that are read at a time."""

_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")


class FramingError(http.client.HTTPException):
    """The response breaks the rules of HTTP or a limit of size. The message says how."""


class SlowError(TimeoutError):
    """The body came, but more slowly than allowed."""


class Response(http.client.HTTPResponse):
    """A response within the limits. Its connection serves no other request.

    What a server sends past the end of a response can then not be taken for the response to another request.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._source = _Source(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._source, _PIECE)

    def begin(self) -> None:
        """Read the head.

        Raises:
            FramingError: It is malformed or too large, or there are several lengths.
        """
        try:
            super().begin()
        except http.client.HTTPException as error:
            if type(error) is http.client.HTTPException:  # All others have a class of their own.
                raise FramingError("it has more than 100 headers") from None
            raise
        try:
            assert_header_parsing(self.headers)
        except HeaderParsingError:
            raise FramingError("a header is malformed") from None
        lengths = set(self.headers.get_all("Content-Length", []))
        if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length.strip(" \t")) for length in lengths):
            raise FramingError("Content-Length is given twice or is not a number")
        # No cookie is kept, and what a server writes into one cannot upset the libraries: they would log a traceback.
        del self.headers["Set-Cookie"], self.headers["Set-Cookie2"]
        self.will_close = True
        if self.status == http.HTTPStatus.OK:
            self._source.allow_body()
        else:
            self._source.allow_rest()

    def read(self, amt: int | None = None) -> bytes:
        """Read up to `amt` bytes of the body, fewer only at its end.

        Raises:
            FramingError: A chunk is malformed.
            http.client.IncompleteRead: The connection ended inside the body.
        """
        if not self.chunked or self.fp is None:
            return super().read(amt)
        pieces: list[bytes] = []
        left = sys.maxsize if amt is None else amt
        while left and (in_chunk := self.chunk_left or self._next_chunk()):
            wanted = min(in_chunk, left, _PIECE)
            piece = self.fp.read(wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                raise http.client.IncompleteRead(b"".join(pieces))
            left -= wanted
            self.chunk_left = in_chunk - wanted
        return b"".join(pieces)

    def _next_chunk(self) -> int:
        """Return the size of the next chunk. After the last one, whose size is 0, close the body."""
        if self.chunk_left is not None and (end := self.fp.read(2)) != b"\r\n":
            raise FramingError("a chunk is longer than its size") if end else http.client.IncompleteRead(b"")
        line = self.fp.readline(_CHUNK_LINE)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise FramingError("the size of a chunk is not a number") if line else http.client.IncompleteRead(b"")
        in_chunk = int(size[1], 16)
        if not in_chunk:
            self._source.allow_rest()
            while self.fp.readline(_CHUNK_LINE) not in {b"\r\n", b"\n", b""}:
                pass
            self.close()
        return in_chunk


class _Source(io.RawIOBase):
    """The bytes of a connection, as long as they come in time and are not too many."""

    def __init__(self, file: io.RawIOBase, sock: socket.socket) -> None:
        super().__init__()
        self._file = file
        self._socket = sock
        self._patience: float = sock.gettimeout() or math.inf
        self._seconds = self._patience
        self._seconds_per_byte = 0.0
        self._bytes: float = _HEAD_BYTES

    def allow_body(self) -> None:
        """Expect a body of any size, at the minimum pace."""
        self._seconds, self._seconds_per_byte, self._bytes = self._patience, 1 / PACE, math.inf

    def allow_rest(self) -> None:
        """Expect no more than the body of an error, or trailers."""
        self._seconds, self._seconds_per_byte, self._bytes = min(self._patience, _ERROR_SECONDS), 0.0, _ERROR_BYTES

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Wait for bytes.

        Raises:
            FramingError: There were too many.
            TimeoutError: None came in time.
        """
        if self._bytes <= 0:
            raise FramingError("it has more headers or trailers, or more text with an error, than 64 KiB")
        begin = time.monotonic()
        self._socket.settimeout(max(self._seconds, 0.001))
        view = memoryview(buffer)
        try:
            # Never past the limit: how much a server may send must not depend on how the bytes arrive.
            count = self._socket.recv_into(view, int(min(len(view), self._bytes)))
        except TimeoutError:
            if self._seconds < self._patience / 2:
                raise SlowError from None
            raise
        self._seconds += count * self._seconds_per_byte - (time.monotonic() - begin)
        self._seconds = min(self._seconds, self._patience)
        self._bytes -= count
        return count

    def close(self) -> None:
        """Let go of the connection."""
        if not self.closed:
            self._file.close()
            del self._socket
        super().close()
