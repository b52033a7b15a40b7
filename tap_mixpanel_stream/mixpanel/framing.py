"""HTTP responses with strict framing and with limits on time and size.

`http.client` applies its timeout to each byte, reads any number of interim responses and trailers, and accepts `-1` as
a chunk size, so a server could block a run forever. This module enforces these limits:

* The head, including interim responses, must arrive within the read timeout and be at most 64 KiB long.
* A body may pause for up to the read timeout, and must arrive at 128 bytes a second or more on average.
* The body of an error, of which at most 64 KiB are read, must arrive within 10 s, and so must trailers.
* A chunk size must be a hexadecimal number, and there must be at most one `Content-Length`.

Only the time spent waiting for the server counts, not the time between two reads.
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

_MAX_HEAD_BYTES = 64 * 1024
"""Maximum size of a head, interim responses included. Common servers send at most 8 or 16 KiB."""

MIN_BYTES_PER_SECOND = 128
"""Minimum average rate of a body, as sent."""

_ERROR_TIMEOUT = 10.0
"""Seconds for the body of an error or for trailers. Both are short and are ready together with the head."""

_MAX_ERROR_BYTES = 64 * 1024
"""Maximum size of the body of an error, as sent, or of trailers."""

_MAX_CHUNK_LINE = 4096
"""Maximum length of the line before a chunk, in bytes."""

_READ_BYTES = 64 * 1024
"""Maximum number of bytes to read at once."""

_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")


class FramingError(http.client.HTTPException):
    """The response is not valid HTTP or exceeds a size limit. The message gives the reason."""


class SlowError(TimeoutError):
    """The body arrived more slowly than allowed."""


class StrictResponse(http.client.HTTPResponse):
    """A response with enforced limits. Its connection is not reused.

    Otherwise, data that a server sends after the end of a response could be mistaken for the next response.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._source = _Source(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._source, _READ_BYTES)

    def begin(self) -> None:
        """Read the head.

        Raises:
            FramingError: The head is malformed or too large, or has several lengths.
        """
        try:
            super().begin()
        except http.client.HTTPException as error:
            if type(error) is http.client.HTTPException:  # Other errors are of subclasses.
                raise FramingError("it has more than 100 headers") from None
            raise
        try:
            assert_header_parsing(self.headers)
        except HeaderParsingError:
            raise FramingError("a header is malformed") from None
        lengths = set(self.headers.get_all("Content-Length", []))
        if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length.strip(" \t")) for length in lengths):
            raise FramingError("Content-Length is given twice or is not a number")
        # Cookies are not used, and the libraries would log a traceback for a malformed one.
        del self.headers["Set-Cookie"], self.headers["Set-Cookie2"]
        self.will_close = True
        if self.status == http.HTTPStatus.OK:
            self._source.set_body_limits()
        else:
            self._source.set_error_limits()

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes of the body, or fewer at its end.

        Raises:
            FramingError: A chunk is malformed.
            http.client.IncompleteRead: The connection ended inside the body.
        """
        if not self.chunked or self.fp is None:
            return super().read(amt)
        pieces: list[bytes] = []
        left = sys.maxsize if amt is None else amt
        while left and (in_chunk := self.chunk_left or self._next_chunk()):
            wanted = min(in_chunk, left, _READ_BYTES)
            piece = self.fp.read(wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                raise http.client.IncompleteRead(b"".join(pieces))
            left -= wanted
            self.chunk_left = in_chunk - wanted
        return b"".join(pieces)

    def _next_chunk(self) -> int:
        """Return the size of the next chunk. After the last one, read the trailers, close the body and return 0."""
        if self.chunk_left is not None and (end := self.fp.read(2)) != b"\r\n":
            raise FramingError("a chunk is longer than its size") if end else http.client.IncompleteRead(b"")
        line = self.fp.readline(_MAX_CHUNK_LINE)
        size = _CHUNK_SIZE.fullmatch(line)
        if size is None:
            raise FramingError("the size of a chunk is not a number") if line else http.client.IncompleteRead(b"")
        in_chunk = int(size[1], 16)
        if not in_chunk:
            self._source.set_error_limits()
            while self.fp.readline(_MAX_CHUNK_LINE) not in {b"\r\n", b"\n", b""}:
                pass
            self.close()
        return in_chunk


class _Source(io.RawIOBase):
    """Reads the bytes of a connection and enforces the limits on time and size."""

    def __init__(self, file: io.RawIOBase, sock: socket.socket) -> None:
        super().__init__()
        self._file = file
        self._socket = sock
        self._read_timeout: float = sock.gettimeout() or math.inf
        # The time and the bytes that are still allowed. Each byte received adds `_seconds_per_byte`.
        self._seconds_left = self._read_timeout
        self._seconds_per_byte = 0.0
        self._bytes_left: float = _MAX_HEAD_BYTES

    def set_body_limits(self) -> None:
        """Allow a body of any size at the minimum rate."""
        self._seconds_left, self._bytes_left = self._read_timeout, math.inf
        self._seconds_per_byte = 1 / MIN_BYTES_PER_SECOND

    def set_error_limits(self) -> None:
        """Allow only the body of an error, or trailers."""
        self._seconds_left = min(self._read_timeout, _ERROR_TIMEOUT)
        self._seconds_per_byte, self._bytes_left = 0.0, _MAX_ERROR_BYTES

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read bytes into a buffer, and return their number.

        Raises:
            FramingError: The size limit is exceeded.
            TimeoutError: The time limit is exceeded.
        """
        if self._bytes_left <= 0:
            raise FramingError("its headers, trailers or error body exceed 64 KiB")
        started = time.monotonic()
        self._socket.settimeout(max(self._seconds_left, 0.001))
        view = memoryview(buffer)
        try:
            # Read no further than the limit, so that the result does not depend on how the bytes arrive.
            count = self._socket.recv_into(view, int(min(len(view), self._bytes_left)))
        except TimeoutError:
            if self._seconds_left < self._read_timeout / 2:
                raise SlowError from None
            raise
        self._seconds_left += count * self._seconds_per_byte - (time.monotonic() - started)
        self._seconds_left = min(self._seconds_left, self._read_timeout)
        self._bytes_left -= count
        return count

    def close(self) -> None:
        """Release the connection."""
        if not self.closed:
            self._file.close()
            del self._socket
        super().close()
