"""Unpacking a body as it arrives, believed only up to a gzip trailer that is right.

No HTTP in here: a worker process, which has the body handed on to it, needs no more than this.
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
"""Unpacked bytes handed out at a time, so that a body which unpacks to a thousand times its size needs no more.

What is made of a block is then small enough, too, for the C library to keep the memory from one block to the next. From
128 KiB on it may give it back to the system each time, and the page faults cost more than the unpacking.
"""

_GZIP = 31
"""zlib's `wbits` for a gzip header and trailer, both checked."""

MAX_EXPANSION_RATIO = 500
"""How many times its size a body may unpack to. One character repeated makes up to 1032 times as much. Measured: events
that differ in little but their ids make 10 to 90 times as much, the very same line again and again about 200."""

_FROM = 96 * 1024 * 1024
"""Unpacked bytes up to which that does not matter."""


class _Unpacker(Protocol):
    """What both libraries' decompression objects can do."""

    eof: bool
    unconsumed_tail: bytes
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _deflate_library() -> ModuleType:
    """ISA-L, or zlib where a platform has no wheel for it: the same answers at a third of the speed."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


_deflate = _deflate_library()


def decompress(blocks: Iterable[bytes], content_encoding: ContentEncoding) -> Iterator[bytes]:
    """Yields a body unpacked.

    Args:
        blocks: The body as sent, which ends only where its framing did.
        content_encoding: How it is packed.

    Yields:
        Blocks of 1 byte to 64 KiB.

    Raises:
        BrokenBody: It is not whole gzip, or something follows it, or it unpacks to far more than any text of events or
            profiles could, which may be meant to fill memory or disk.
    """
    return _gunzipped(blocks) if content_encoding == "gzip" else iter(blocks)


def _gunzipped(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Unpacks gzip members one after another, at most 64 KiB at a time."""
    member: _Unpacker | None = None
    members = came = made = 0
    for received in packed:
        data = received
        came += len(received)
        while data:
            if member is None:
                member = _deflate.decompressobj(wbits=_GZIP)
            try:
                block = member.decompress(data, _BLOCK)
            except _deflate.error as error:
                follows = ", and it follows a whole one" if members else ""
                raise BrokenBody(f"the answer's gzip body is damaged ({error}){follows}") from None
            made += len(block)
            if made > max(_FROM, MAX_EXPANSION_RATIO * came):
                raise BrokenBody(
                    f"the answer unpacks to more than {MAX_EXPANSION_RATIO} times its size ({came} bytes so far made "
                    f"{made}), as no events or profiles do: it may be meant to fill memory or disk"
                )
            if block:
                yield block
            data = member.unconsumed_tail
            if member.eof:
                data, member, members = member.unused_data, None, members + 1
    if member is not None or not members:
        raise BrokenBody("the answer's gzip body stops before its end, although HTTP says that it is all there")
