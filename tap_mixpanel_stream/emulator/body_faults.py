"""Faults in the body of a response, in the text and in the gzip data.

A body is a function that returns an iterator over blocks of bytes. Since it can be called repeatedly, the position of a
fault, which is a fraction of the length, is found without holding the whole body in memory. An injector is a generator
function that yields the body with the fault.
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
Injector = Callable[[Body, "Fault"], Iterator[bytes]]

HTML = b"<!DOCTYPE html>\n<html><head><title>Mixpanel</title></head><body><h1>Something went wrong</h1></body></html>\n"

_BLOCK_SIZE = 64 * 1024
_TRAILER_SIZE = 8
_FIRST_OBJECT = re.compile(rb'("\$?properties"\s*:\s*\{)(\s*\})?')
_INTEGER_TIME = re.compile(rb'("time":)(\d+)')
_TIME = re.compile(rb'"time"\s*:\s*[^,}]+')


def length(body: Body) -> int:
    """Return the length of a body in bytes."""
    return sum(map(len, body()))


def truncate(body: Body, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a body."""
    for block in body():
        yield block[:size]
        size -= len(block)
        if size <= 0:
            return


def compress(body: Body, level: int) -> Iterator[bytes]:
    """Yield a body compressed with gzip."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, 31)
    for block in body():
        if piece := compressor.compress(block):
            yield piece
    yield compressor.flush()


def inject_text_faults(body: Body, faults: list[Fault]) -> Body:
    """Return the body with the faults that change its text."""
    for fault in faults:
        injector = (
            _end_with(f"{fault.sentinel}\n".encode()) if fault.sentinel is not None else TEXT_INJECTORS.get(fault.name)
        )
        if injector is not None:
            body = partial(injector, body, fault)
    return body


def inject_gzip_faults(body: Body, faults: list[Fault]) -> Body:
    """Return the compressed body with the faults that change the gzip data."""
    for fault in faults:
        if fault.name in GZIP_INJECTORS:
            body = partial(GZIP_INJECTORS[fault.name], body, fault)
    return body


def _lines(body: Body) -> Iterator[bytes]:
    rest = b""
    for block in body():
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _lines_with_target(body: Body, fault: Fault) -> Iterator[tuple[bytes, bool]]:
    """Yield each line, and whether it is at the position of the fault. An empty body yields one empty line."""
    total = length(body)
    target = min(int(total * fault.at), total - 1)
    seen, found = 0, False
    for line in _lines(body):
        seen += len(line)
        is_target = not found and seen > target
        found = found or is_target
        yield line, is_target
    if not found:
        yield b"", True


def _end_with(ending: bytes) -> Injector:
    """Return an injector that ends the body with `ending`, after the line at the position of the fault."""

    def inject(body: Body, fault: Fault) -> Iterator[bytes]:
        for line, is_target in _lines_with_target(body, fault):
            # At position 0, the ending is the whole body.
            if not is_target or fault.at > 0:
                yield line
            if is_target:
                yield ending
                return

    return inject


def _change_line(change: Callable[[bytes], bytes]) -> Injector:
    """Return an injector that changes the line at the position of the fault."""

    def inject(body: Body, fault: Fault) -> Iterator[bytes]:
        for line, is_target in _lines_with_target(body, fault):
            yield change(line) if is_target else line

    return inject


def _half_line(body: Body, fault: Fault) -> Iterator[bytes]:
    for line, is_target in _lines_with_target(body, fault):
        yield line[: len(line) // 2] if is_target else line
        if is_target:
            return


def _with_property(text: bytes) -> Injector:
    """Return an injector that adds a property to the first object of a line."""
    return _change_line(lambda line: _add_property(text, line))


def _add_property(text: bytes, line: bytes) -> bytes:
    return _FIRST_OBJECT.sub(lambda found: found[1] + text + (found[2] or b","), line, count=1)


def _long_line(body: Body, fault: Fault) -> Iterator[bytes]:
    return _with_property(b'"long":"%b"' % (b"x" * fault.integer(5_000_000)))(body, fault)


def _deep_line(body: Body, fault: Fault) -> Iterator[bytes]:
    depth = fault.integer(1_000_000)
    return _with_property(b'"deep":%b%b' % (b"[" * depth, b"]" * depth))(body, fault)


def _byte_order_mark(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001 - the signature of an injector
    yield b"\xef\xbb\xbf"
    yield from body()


def _replace_newlines(replacement: bytes) -> Injector:
    def inject(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
        for block in body():
            yield block.replace(b"\n", replacement)

    return inject


def _no_final_newline(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
    held = b""
    for block in body():
        yield held
        held = block
    yield held.removesuffix(b"\n")


def _endless_line(body: Body, fault: Fault) -> Iterator[bytes]:
    size = fault.integer(64 << 20)
    for line, is_target in _lines_with_target(body, fault):
        yield line
        if is_target:
            yield b'{"event":"Endless","properties":{"text":"'
            for done in range(0, size, _BLOCK_SIZE):
                yield b"x" * min(_BLOCK_SIZE, size - done)
            return


def _bomb(body: Body, fault: Fault) -> Iterator[bytes]:
    size = fault.integer(1 << 30)
    for line, is_target in _lines_with_target(body, fault):
        yield line
        if is_target:
            block = b'{"event":"Bomb","properties":{"time":1704067200,"padding":"%b"}}\n' % (b"x" * _BLOCK_SIZE)
            for _ in range(0, size, len(block)):
                yield block
            return


def _truncated(body: Body, fault: Fault) -> Iterator[bytes]:
    total = length(body)
    return truncate(body, min(int(total * fault.at), total - 1))


def _truncated_json(body: Body, fault: Fault) -> Iterator[bytes]:
    held = b""
    # Keep at least one byte, and end within the JSON text. Otherwise the result would be a different fault.
    for block in truncate(body, max(1, int(length(body) * fault.at))):
        yield held
        held = block
    yield held.removesuffix(b"\n").removesuffix(b"}")


def _short_body(body: Body, fault: Fault) -> Iterator[bytes]:
    for line, is_target in _lines_with_target(body, fault):
        if is_target:
            return
        yield line


def _other_days(body: Body, fault: Fault) -> Iterator[bytes]:
    seconds = fault.integer(30) * 86_400
    for line in _lines(body):
        yield _INTEGER_TIME.sub(lambda found: b"%b%d" % (found[1], int(found[2]) - seconds), line, count=1)


def _replace_with(text: bytes) -> Injector:
    def inject(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
        yield text

    return inject


def _no_trailer(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
    return truncate(body, length(body) - _TRAILER_SIZE)


def _wrong_trailer(body: Body, fault: Fault) -> Iterator[bytes]:
    trailer = b"".join(_tail(body))
    yield from _no_trailer(body, fault)
    yield bytes(byte ^ 0xFF for byte in trailer[:4]) + trailer[4:]


def _tail(body: Body) -> Iterator[bytes]:
    """Yield the gzip trailer."""
    skipped = length(body) - _TRAILER_SIZE
    for block in body():
        yield block[max(0, skipped) :]
        skipped -= len(block)


def _garbage(body: Body, fault: Fault) -> Iterator[bytes]:  # noqa: ARG001
    yield from body()
    yield b"garbage after the end"


TEXT_INJECTORS: dict[str, Injector] = {
    "error-line": _end_with(b'{"error":'),
    "error-object": _end_with(b'{"error":"Internal error while exporting","status":"error"}\n'),
    "half-line": _half_line,
    "bad-line": _change_line(lambda line: line + b"this line is no JSON\n"),
    "bad-utf8": _with_property(b'"broken":"Z\xfcrich \xff"'),
    "nul": _with_property(b'"nul":"a\\u0000b"'),
    "lone-surrogate": _with_property(b'"surrogate":"a\\ud800b"'),
    "duplicate-keys": _with_property(b'"twice":1,"twice":2'),
    "line-separators": _with_property('"separators":"a\u2028b\u2029c\x85d"'.encode()),
    "big-numbers": _with_property(b'"big":%d,"huge":1e400' % 2**70),
    "time-null": _change_line(lambda line: _TIME.sub(b'"time":null', line, count=1)),
    "long-line": _long_line,
    "deep-line": _deep_line,
    "bom": _byte_order_mark,
    "crlf": _replace_newlines(b"\r\n"),
    "blank-lines": _replace_newlines(b"\n\n"),
    "no-final-newline": _no_final_newline,
    "endless-line": _endless_line,
    "bomb": _bomb,
    "cut-json": _truncated_json,
    "short-body": _short_body,
    "other-days": _other_days,
    "empty-body": _replace_with(b""),
    "empty-object": _replace_with(b"{}"),
    "page-html": _replace_with(HTML),
}
"""Injectors of the faults in the text."""

GZIP_INJECTORS: dict[str, Injector] = {
    "gzip-cut": _truncated,
    "gzip-trailer": _wrong_trailer,
    "gzip-no-trailer": _no_trailer,
    "gzip-garbage": _garbage,
}
"""Injectors of the faults in the gzip data."""
