"""How faults change a body: its text first, then the gzip made of it.

Each damage is a function from a body to a body. A body is something that can be started any number of times and yields
its bytes in blocks, so the length that `at` is a fraction of can be counted without ever holding the whole.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .faults import Fault

Body = Callable[[], Iterator[bytes]]
Damage = Callable[[Body, "Fault"], Iterator[bytes]]

HTML = b"<!DOCTYPE html>\n<html><head><title>Mixpanel</title></head><body><h1>Something went wrong</h1></body></html>\n"

_PIECE = 64 * 1024
_TRAILER = 8
_OBJECT = re.compile(rb'("\$?properties"\s*:\s*\{)(\s*\})?')
_STORED = re.compile(rb'("time":)(\d+)')
_TIME = re.compile(rb'"time"\s*:\s*[^,}]+')


def length(body: Body) -> int:
    """Return how many bytes a body has."""
    return sum(map(len, body()))


def cut(body: Body, size: int) -> Iterator[bytes]:
    """Yield a body's first bytes."""
    for block in body():
        yield block[:size]
        size -= len(block)
        if size <= 0:
            return


def compressed(body: Body, level: int) -> Iterator[bytes]:
    """Yield a body as gzip."""
    coder = zlib.compressobj(level, zlib.DEFLATED, 31)
    for block in body():
        if piece := coder.compress(block):
            yield piece
    yield coder.flush()


def damaged_text(body: Body, faults: list[Fault]) -> Body:
    """Return the body as the faults in its text leave it."""
    for fault in faults:
        damage = _ends_with(f"{fault.sentinel}\n".encode()) if fault.sentinel is not None else TEXT.get(fault.name)
        if damage is not None:
            body = partial(damage, body, fault)
    return body


def damaged_gzip(body: Body, faults: list[Fault]) -> Body:
    """Return the compressed body as the faults in its coding leave it."""
    for fault in faults:
        if fault.name in GZIP:
            body = partial(GZIP[fault.name], body, fault)
    return body


def _lines(body: Body) -> Iterator[bytes]:
    rest = b""
    for block in body():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _struck(body: Body, fault: Fault) -> Iterator[tuple[bytes, bool]]:
    """Yield each line, and whether it is the one that the fault strikes: an empty body has one empty line for it."""
    total = length(body)
    target = min(int(total * fault.at), total - 1)
    seen, struck = 0, False
    for line in _lines(body):
        seen += len(line)
        here = not struck and seen > target
        struck = struck or here
        yield line, here
    if not struck:
        yield b"", True


def _ends_with(ending: bytes) -> Damage:
    """Return a damage that ends the body, after a whole line, with something else."""

    def damage(body: Body, fault: Fault) -> Iterator[bytes]:
        for line, here in _struck(body, fault):
            # Struck at its very start the body has nothing else.
            if not here or fault.at > 0:
                yield line
            if here:
                yield ending
                return

    return damage


def _changes(change: Callable[[bytes], bytes]) -> Damage:
    """Return a damage that changes one line and lets the others pass."""

    def damage(body: Body, fault: Fault) -> Iterator[bytes]:
        for line, here in _struck(body, fault):
            yield change(line) if here else line

    return damage


def _half_line(body: Body, fault: Fault) -> Iterator[bytes]:
    for line, here in _struck(body, fault):
        yield line[: len(line) // 2] if here else line
        if here:
            return


def _with_property(text: bytes) -> Damage:
    """Return a damage that adds a property to a row."""
    return _changes(lambda line: _added(text, line))


def _added(text: bytes, line: bytes) -> bytes:
    return _OBJECT.sub(lambda found: found[1] + text + (found[2] or b","), line, count=1)


def _long_line(body: Body, fault: Fault) -> Iterator[bytes]:
    return _with_property(b'"long":"%b"' % (b"x" * fault.size(5_000_000)))(body, fault)


def _deep_line(body: Body, fault: Fault) -> Iterator[bytes]:
    depth = fault.size(1_000_000)
    return _with_property(b'"deep":%b%b' % (b"[" * depth, b"]" * depth))(body, fault)


def _bom(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001 - a damage's signature
    yield b"\xef\xbb\xbf"
    yield from body()


def _newlines(replacement: bytes) -> Damage:
    def damage(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
        for block in body():
            yield block.replace(b"\n", replacement)

    return damage


def _no_final_newline(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
    held = b""
    for block in body():
        yield held
        held = block
    yield held.removesuffix(b"\n")


def _endless_line(body: Body, fault: Fault) -> Iterator[bytes]:
    size = fault.size(64 << 20)
    for line, here in _struck(body, fault):
        yield line
        if here:
            yield b'{"event":"Endless","properties":{"text":"'
            for done in range(0, size, _PIECE):
                yield b"x" * min(_PIECE, size - done)
            return


def _bomb(body: Body, fault: Fault) -> Iterator[bytes]:
    size = fault.size(1 << 30)
    for line, here in _struck(body, fault):
        yield line
        if here:
            block = b'{"event":"Bomb","properties":{"time":1704067200,"padding":"%b"}}\n' % (b"x" * _PIECE)
            for _ in range(0, size, len(block)):
                yield block
            return


def _cut(body: Body, fault: Fault) -> Iterator[bytes]:
    total = length(body)
    return cut(body, min(int(total * fault.at), total - 1))


def _cut_json(body: Body, fault: Fault) -> Iterator[bytes]:
    held = b""
    # Not before the first byte, and not after a whole line: there it would be another fault.
    for block in cut(body, max(1, int(length(body) * fault.at))):
        yield held
        held = block
    yield held.removesuffix(b"\n").removesuffix(b"}")


def _short_body(body: Body, fault: Fault) -> Iterator[bytes]:
    for line, here in _struck(body, fault):
        if here:
            return
        yield line


def _other_days(body: Body, fault: Fault) -> Iterator[bytes]:
    seconds = fault.size(30) * 86_400
    for line in _lines(body):
        yield _STORED.sub(lambda found: b"%b%d" % (found[1], int(found[2]) - seconds), line, count=1)


def _instead(text: bytes) -> Damage:
    def damage(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
        yield text

    return damage


def _without_trailer(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
    return cut(body, length(body) - _TRAILER)


def _wrong_trailer(body: Body, fault: Fault) -> Iterator[bytes]:
    trailer = b"".join(_tail(body))
    yield from _without_trailer(body, fault)
    yield bytes(byte ^ 0xFF for byte in trailer[:4]) + trailer[4:]


def _tail(body: Body) -> Iterator[bytes]:
    """Yield the trailer."""
    skipped = length(body) - _TRAILER
    for block in body():
        yield block[max(0, skipped) :]
        skipped -= len(block)


def _garbage(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
    yield from body()
    yield b"garbage after the end"


TEXT: dict[str, Damage] = {
    "error-line": _ends_with(b'{"error":'),
    "error-object": _ends_with(b'{"error":"Internal error while exporting","status":"error"}\n'),
    "half-line": _half_line,
    "bad-line": _changes(lambda line: line + b"this line is no JSON\n"),
    "bad-utf8": _with_property(b'"broken":"Z\xfcrich \xff"'),
    "nul": _with_property(b'"nul":"a\\u0000b"'),
    "lone-surrogate": _with_property(b'"surrogate":"a\\ud800b"'),
    "duplicate-keys": _with_property(b'"twice":1,"twice":2'),
    "line-separators": _with_property('"separators":"a\u2028b\u2029c\x85d"'.encode()),
    "big-numbers": _with_property(b'"big":%d,"huge":1e400' % 2**70),
    "time-null": _changes(lambda line: _TIME.sub(b'"time":null', line, count=1)),
    "long-line": _long_line,
    "deep-line": _deep_line,
    "bom": _bom,
    "crlf": _newlines(b"\r\n"),
    "blank-lines": _newlines(b"\n\n"),
    "no-final-newline": _no_final_newline,
    "endless-line": _endless_line,
    "bomb": _bomb,
    "cut-json": _cut_json,
    "short-body": _short_body,
    "other-days": _other_days,
    "empty-body": _instead(b""),
    "empty-object": _instead(b"{}"),
    "page-html": _instead(HTML),
}
"""What faults do to the text."""

GZIP: dict[str, Damage] = {
    "gzip-cut": _cut,
    "gzip-trailer": _wrong_trailer,
    "gzip-no-trailer": _without_trailer,
    "gzip-garbage": _garbage,
}
"""What faults do to the gzip."""
