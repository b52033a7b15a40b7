"""Decompress a body while it arrives, and accept it only if its gzip trailer is correct.

This module does not import an HTTP library, so that worker processes start fast.
"""

from __future__ import annotations

import importlib
import zlib
from typing import TYPE_CHECKING, Literal, Protocol

from .errors import BrokenBody

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

ContentEncoding = Literal["gzip", "identity"]

_BLOCK_BYTES = 64 * 1024
"""Maximum size of a decompressed block, so that a body which expands a thousand times needs no more memory.

The records of a block of this size also fit into memory that the C library reuses for the next block. From 128 KiB on
it may return the memory to the system each time, and the page faults cost more than the decompression.
"""

_GZIP = 31
"""zlib's `wbits` for data with gzip header and trailer, both of which zlib checks."""

MAX_EXPANSION_RATIO = 500
"""Maximum ratio of decompressed to compressed size.

Gzip reaches 1032 for one repeated character. Measured: events that differ in little except their ids expand 10 to 90
times, and one line repeated many times about 200 times.
"""

_UNCHECKED_BYTES = 96 * 1024 * 1024
"""Decompressed size up to which the ratio is not checked."""


class _Decompressor(Protocol):
    """The common interface of both libraries' decompression objects."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _deflate_library() -> ModuleType:
    """Return ISA-L if the platform has a wheel for it; otherwise zlib, which is a third as fast."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


_deflate = _deflate_library()


def decompress(blocks: Iterable[bytes], content_encoding: ContentEncoding) -> Iterator[bytes]:
    """Yield a decompressed body.

    Args:
        blocks: The body as sent. Must raise if the HTTP framing is incomplete.
        content_encoding: The content encoding of the body.

    Yields:
        Blocks of 1 byte to 64 KiB.

    Raises:
        BrokenBody: The gzip data is incomplete or corrupt, or is followed by other data. Or it expands far more than
            events or profiles do, and could fill memory or disk.
    """
    return _gunzip(blocks) if content_encoding == "gzip" else iter(blocks)


def _gunzip(compressed: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress gzip members one after another, at most 64 KiB at a time."""
    member: _Decompressor | None = None
    members = compressed_bytes = decompressed_bytes = 0
    for received in compressed:
        data = received
        compressed_bytes += len(received)
        while data:
            if member is None:
                member = _deflate.decompressobj(wbits=_GZIP)
            try:
                block = member.decompress(data, _BLOCK_BYTES)
            except _deflate.error as error:
                follows = " after a complete gzip member" if members else ""
                raise BrokenBody(f"the response's gzip body is corrupt ({error}){follows}") from None
            decompressed_bytes += len(block)
            if decompressed_bytes > max(_UNCHECKED_BYTES, MAX_EXPANSION_RATIO * compressed_bytes):
                raise BrokenBody(
                    f"the response expands to more than {MAX_EXPANSION_RATIO} times its size ({compressed_bytes} bytes "
                    f"to {decompressed_bytes}), far more than events or profiles do: it may be a decompression bomb"
                )
            if block:
                yield block
            data = member.unconsumed_tail
            if member.eof:
                data, member, members = member.unused_data, None, members + 1
    if member is not None or not members:
        raise BrokenBody("the response's gzip body is truncated, although the HTTP framing is complete")
