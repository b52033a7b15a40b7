"""Decompresses a body while it arrives, and accepts it only with a correct gzip trailer.

This module knows no HTTP: worker processes, which receive a body block by block, import it alone.
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

_BLOCK = 64 * 1024
"""Decompressed bytes yielded at a time, so that a body which expands a thousand times needs no more memory.

The records of a block are then small enough, too, for the C library to keep the memory from one block to the next. From
128 KiB on it may return the memory to the system each time, and the page faults cost more than the decompression.
"""

_GZIP = 31
"""zlib's `wbits` for a gzip header and trailer, both checked."""

MAX_EXPANSION_RATIO = 500
"""How many times its size a body may expand to. Gzip reaches 1032 for one repeated character. Measured: events that
differ in little but their ids expand 10 to 90 times, the same line repeated about 200 times."""

_UNCHECKED_BYTES = 96 * 1024 * 1024
"""Decompressed bytes up to which the ratio is not checked."""


class _Decompressor(Protocol):
    """What the decompression objects of both libraries have."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _deflate_library() -> ModuleType:
    """Return ISA-L, or zlib, a third as fast, where a platform has no wheel for ISA-L."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


_deflate = _deflate_library()


def decompress(blocks: Iterable[bytes], content_encoding: ContentEncoding) -> Iterator[bytes]:
    """Yield a decompressed body.

    Args:
        blocks: The body as sent. It ends only where the HTTP framing ended.
        content_encoding: The content encoding of the body.

    Yields:
        Blocks of 1 byte to 64 KiB.

    Raises:
        BrokenBody: The body is not complete gzip, or something follows it, or it expands to far more than events or
            profiles can, perhaps to fill memory or disk.
    """
    return _gunzip(blocks) if content_encoding == "gzip" else iter(blocks)


def _gunzip(compressed: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress gzip members one after another, at most 64 KiB at a time."""
    member: _Decompressor | None = None
    members = came = made = 0
    for received in compressed:
        data = received
        came += len(received)
        while data:
            if member is None:
                member = _deflate.decompressobj(wbits=_GZIP)
            try:
                block = member.decompress(data, _BLOCK)
            except _deflate.error as error:
                follows = " after a complete gzip member" if members else ""
                raise BrokenBody(f"the response's gzip body is corrupt ({error}){follows}") from None
            made += len(block)
            if made > max(_UNCHECKED_BYTES, MAX_EXPANSION_RATIO * came):
                raise BrokenBody(
                    f"the response expands to more than {MAX_EXPANSION_RATIO} times its size ({came} bytes to "
                    f"{made}), far more than events or profiles do: it may be a decompression bomb"
                )
            if block:
                yield block
            data = member.unconsumed_tail
            if member.eof:
                data, member, members = member.unused_data, None, members + 1
    if member is not None or not members:
        raise BrokenBody("the response's gzip body is truncated, although the HTTP framing is complete")
