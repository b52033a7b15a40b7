"""An answer's body, believed only once it has arrived whole.

Truncated exports come with HTTP 200 (seen on the live API by others), and the libraries below say little: urllib3 takes
no offence at a gzip body that stops early inside well-formed chunks. So the body is read as it was sent, unpacked by
`decompression`, and ends well only if

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
from .errors import BrokenBody, Refused, TooLarge, shown
from .framing import PACE, FramingError, SlowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

_READ = 64 * 1024
"""Bytes asked of the connection at a time."""


@dataclass(slots=True)
class Counts:
    """How much of a body has come so far.

    Attributes:
        received: Bytes as sent.
    """

    received: int = 0


def decompress(response: requests.Response, counts: Counts | None = None) -> Iterator[bytes]:
    """Yields a body unpacked, in blocks of 1 byte to 64 KiB.

    Args:
        response: An answer that was asked for with `stream=True` and not read yet.
        counts: Kept up to date while the body comes.

    Raises:
        BrokenBody: The body did not arrive whole, or cannot be told whole from cut.
        Refused: It is packed in a way that was not asked for.
    """
    yield from decompression.decompress(as_sent(response, counts or Counts()), content_encoding_of(response))


def content_encoding_of(response: requests.Response) -> decompression.ContentEncoding:
    """How a body is packed.

    Raises:
        Refused: In a way that was not asked for.
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if coding in {"gzip", "x-gzip"}:
        return "gzip"
    if coding in {"", "identity"}:
        return "identity"
    raise Refused(
        f"the answer is packed as {shown(coding)!r} and only gzip was asked for: check any proxy in between",
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
    """A whole body, for answers that are small or have to be held as one.

    Args:
        response: As for `decompress`.
        limit: Unpacked bytes at the most.
        counts: As for `decompress`.
        remedy: What to do about an answer over the limit.
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
                f"the answer is larger than {limit} bytes" + (f": {remedy}" if remedy else ""),
                status=response.status_code,
            )
    return body  # As it is: a copy would double the memory that a large answer takes.


def as_sent(response: requests.Response, counts: Counts) -> Iterator[bytes]:
    """Yields a body as it was sent, until its framing has ended.

    Args:
        response: An answer that was asked for with `stream=True` and not read yet.
        counts: Kept up to date while the body comes.

    Yields:
        Blocks of 1 byte to 64 KiB.

    Raises:
        BrokenBody: The framing did not end.
    """
    raw = response.raw
    coding = response.headers.get("Transfer-Encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        # The libraries below do not agree on what to make of it.
        raise BrokenBody(f"the answer's framing is not understood: Transfer-Encoding {shown(coding)!r}")
    if coding is None and raw.length_remaining is None:
        raise BrokenBody(
            "the answer has neither a length nor chunks, so nothing shows where it ends: "
            "most likely a proxy in between has taken them away; let it pass HTTP/1.1, or go around it with NO_PROXY"
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
        raise BrokenBody(f"the answer ended after {counts.received} bytes, and Content-Length says otherwise")


def _reason(error: Exception, received: int) -> str:
    """What broke a body, in words."""
    after = f"after {received} bytes of the answer"
    causes = [error, error.__cause__, error.__context__, *error.args]
    if any(isinstance(cause, SlowError) for cause in causes):
        return f"less than {PACE} bytes a second {after}, for longer than request_timeout"
    if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
        return f"silence {after}, for longer than request_timeout"
    framing = next((cause for cause in causes if isinstance(cause, FramingError)), None)
    if framing is not None:
        return f"the answer's framing broke {after}: {framing}"
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return f"the connection ended {after}, which was not all of it"
    broke = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    if broke is not None:
        return f"the connection broke {after}: {shown(str(broke.strerror))}"
    return f"the connection broke {after}: {type(error).__name__}"
