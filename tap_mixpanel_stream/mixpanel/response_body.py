"""Read the body of a response, and accept it only if it is complete.

Truncated exports arrive with HTTP 200, as others have seen on the live API, and urllib3 accepts a truncated gzip body
in complete HTTP framing. This module therefore reads the body as sent and decompresses it with `decompression`. The
body is complete if

* the HTTP framing is complete: the last chunk arrived, or `Content-Length` was reached,
* each gzip member has a trailer with the right checksum and length, and
* only gzip members follow a gzip member.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING

import urllib3

from . import decompression
from .errors import BrokenBody, Refused, TooLarge, printable
from .framing import MIN_BYTES_PER_SECOND, FramingError, SlowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

_READ_BYTES = 64 * 1024
"""Maximum number of bytes to read from the connection at once."""


@dataclass(slots=True)
class Counts:
    """The progress of reading a body.

    Attributes:
        received: The number of bytes read, as sent.
    """

    received: int = 0


def decompressed_blocks(response: requests.Response, counts: Counts | None = None) -> Iterator[bytes]:
    """Yield a decompressed body, in blocks of 1 byte to 64 KiB.

    Args:
        response: A response to a request with `stream=True`, whose body has not been read.
        counts: Updated while the body is read.

    Raises:
        BrokenBody: The body is incomplete, or it is unknown whether it is complete.
        Refused: The request does not accept the content encoding.
    """
    yield from decompression.decompress(raw_blocks(response, counts or Counts()), content_encoding_of(response))


def content_encoding_of(response: requests.Response) -> decompression.ContentEncoding:
    """Return the content encoding of a body.

    Raises:
        Refused: The request does not accept the content encoding.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in {"gzip", "x-gzip"}:
        return "gzip"
    if coding in {"", "identity"}:
        return "identity"
    raise Refused(
        f"the response has the content encoding {printable(coding)!r}, but the request accepts only gzip: "
        "check any proxy",
        status=response.status_code,
    )


def read_all(
    response: requests.Response,
    limit: int,
    counts: Counts | None = None,
    *,
    remedy: str = "",
    check: Callable[[], None] | None = None,
) -> bytearray:
    """Return a whole body, decompressed, in memory.

    Args:
        response: As for `decompressed_blocks`.
        limit: The maximum size of the decompressed body, in bytes.
        counts: As for `decompressed_blocks`.
        remedy: What the user can do about a larger response, for the message.
        check: Called for each block. May raise to stop reading.

    Raises:
        BrokenBody: As for `decompressed_blocks`.
        Refused: As for `decompressed_blocks`.
        TooLarge: The body exceeds the limit.
    """
    body = bytearray()
    for block in decompressed_blocks(response, counts):
        if check:
            check()
        body += block
        if len(body) > limit:
            raise TooLarge(
                f"the response is larger than {limit} bytes" + (f": {remedy}" if remedy else ""),
                status=response.status_code,
            )
    return body  # Not converted to bytes, since the copy would double the memory.


def raw_blocks(response: requests.Response, counts: Counts) -> Iterator[bytes]:
    """Yield a body as sent, without decompressing it.

    Args:
        response: A response to a request with `stream=True`, whose body has not been read.
        counts: Updated while the body is read.

    Yields:
        Blocks of 1 byte to 64 KiB.

    Raises:
        BrokenBody: The HTTP framing is incomplete or invalid.
    """
    raw = response.raw
    coding = response.headers.get("Transfer-Encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        # requests, urllib3 and http.client disagree on how to read such a body.
        raise BrokenBody(f"the response has an unsupported Transfer-Encoding: {printable(coding)!r}")
    if coding is None and raw.length_remaining is None:
        raise BrokenBody(
            "the response has neither Content-Length nor chunked encoding, so its end is unknown: "
            "a proxy probably removed them; let it pass HTTP/1.1, or bypass it with NO_PROXY"
        )
    while True:
        try:
            block: bytes = raw.read(_READ_BYTES, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenBody(_reason(error, counts.received)) from None
        if not block:
            break
        counts.received += len(block)
        yield block
    if coding is None and raw.length_remaining != 0:
        raise BrokenBody(f"the response was truncated after {counts.received} bytes: Content-Length is larger")


def _reason(error: Exception, received: int) -> str:
    """Return the reason why a body is incomplete."""
    after = f"after {received} bytes of the response"
    causes = [error, error.__cause__, error.__context__, *error.args]
    if any(isinstance(cause, SlowError) for cause in causes):
        rate = f"{MIN_BYTES_PER_SECOND} bytes a second"
        return f"the response was slower than {rate} for longer than request_timeout, {after}"
    if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
        return f"the read timed out {after}: no data for longer than request_timeout"
    framing = next((cause for cause in causes if isinstance(cause, FramingError)), None)
    if framing is not None:
        return f"the response's HTTP framing is invalid {after}: {framing}"
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return f"the connection closed {after}, before its end"
    os_error = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    if os_error is not None:
        return f"the connection failed {after}: {printable(str(os_error.strerror))}"
    return f"the connection failed {after}: {type(error).__name__}"
