"""The body of a response, which is accepted only if it arrived whole.

Truncated exports come with HTTP 200 (seen on the live API by others), and urllib3 accepts a gzip body that ends early
inside well-formed chunks. So the body is read as it was sent, decompressed by `decompression`, and is whole only if

* the HTTP framing ended: the last chunk was seen, or `Content-Length` was reached,
* each gzip member had its trailer, with the right checksum and length, and
* nothing but another gzip member followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TYPE_CHECKING

import urllib3

from . import decompression
from .errors import BrokenBody, Refused, TooLarge, printable
from .framing import PACE, FramingError, SlowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

_READ = 64 * 1024
"""Bytes read from the connection at a time."""


@dataclass(slots=True)
class Counts:
    """How much of a body has been read.

    Attributes:
        received: Bytes as sent.
    """

    received: int = 0


def decompress(response: requests.Response, counts: Counts | None = None) -> Iterator[bytes]:
    """Yield a decompressed body, in blocks of 1 byte to 64 KiB.

    Args:
        response: A response of a request with `stream=True`, not read yet.
        counts: Updated while the body is read.

    Raises:
        BrokenBody: The body did not arrive whole, or does not show whether it did.
        Refused: The content encoding is not one that the request accepts.
    """
    yield from decompression.decompress(as_sent(response, counts or Counts()), content_encoding_of(response))


def content_encoding_of(response: requests.Response) -> decompression.ContentEncoding:
    """Return the content encoding of a body.

    Raises:
        Refused: It is not one that the request accepts.
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
    """Return a whole body, of a response that is held in memory.

    Args:
        response: As for `decompress`.
        limit: The largest body allowed, in decompressed bytes.
        counts: As for `decompress`.
        remedy: What the user can do about a response over the limit.
        check: Called for each block; may raise to end it.

    Raises:
        BrokenBody: As for `decompress`.
        Refused: As for `decompress`.
        TooLarge: The body is over the limit.
    """
    body = bytearray()
    for block in decompress(response, counts):
        if check:
            check()
        body += block
        if len(body) > limit:
            raise TooLarge(
                f"the response is larger than {limit} bytes" + (f": {remedy}" if remedy else ""),
                status=response.status_code,
            )
    return body  # Not a copy, which would double the memory.


def as_sent(response: requests.Response, counts: Counts) -> Iterator[bytes]:
    """Yield a body as it was sent, until the HTTP framing ends.

    Args:
        response: A response of a request with `stream=True`, not read yet.
        counts: Updated while the body is read.

    Yields:
        Blocks of 1 byte to 64 KiB.

    Raises:
        BrokenBody: The framing did not end.
    """
    raw = response.raw
    coding = response.headers.get("Transfer-Encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        # requests, urllib3 and http.client read such a body differently.
        raise BrokenBody(f"the response has an unsupported Transfer-Encoding: {printable(coding)!r}")
    if coding is None and raw.length_remaining is None:
        raise BrokenBody(
            "the response has neither Content-Length nor chunked encoding, so its end is unknown: "
            "a proxy probably removed them; let it pass HTTP/1.1, or bypass it with NO_PROXY"
        )
    while True:
        try:
            block: bytes = raw.read(_READ, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise BrokenBody(_reason(error, counts.received)) from None
        if not block:
            break
        counts.received += len(block)
        yield block
    if coding is None and raw.length_remaining != 0:
        raise BrokenBody(f"the response was truncated after {counts.received} bytes: Content-Length is larger")


def _reason(error: Exception, received: int) -> str:
    """Return the reason why a body did not arrive whole."""
    after = f"after {received} bytes of the response"
    causes = [error, error.__cause__, error.__context__, *error.args]
    if any(isinstance(cause, SlowError) for cause in causes):
        return f"the response was slower than {PACE} bytes a second for longer than request_timeout, {after}"
    if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
        return f"the read timed out {after}: no data for longer than request_timeout"
    framing = next((cause for cause in causes if isinstance(cause, FramingError)), None)
    if framing is not None:
        return f"the response's HTTP framing is invalid {after}: {framing}"
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return f"the connection closed {after}, before its end"
    broke = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    if broke is not None:
        return f"the connection failed {after}: {printable(str(broke.strerror))}"
    return f"the connection failed {after}: {type(error).__name__}"
