from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.records import LineCutter, LineTooLong


def cut_all(cutter: LineCutter, chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    return [cutter.cut(chunk) for chunk in chunks], cutter.rest()


@given(st.binary().map(lambda body: body.replace(b"\x01", b"\n")), st.lists(st.integers(0, 300)))
def test_no_byte_is_lost(body: bytes, places: list[int]) -> None:
    """However the chunks are cut, no byte is lost and every block ends with a newline."""
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    blocks, rest = cut_all(LineCutter(), [body[start:end] for start, end in pairwise(edges)])
    assert b"".join(blocks) + rest == body
    assert all(not block or block.endswith(b"\n") for block in blocks)
    assert b"\n" not in rest


def test_complete_lines_are_returned_at_once() -> None:
    """A line is returned as soon as its newline has arrived."""
    cutter = LineCutter()
    assert cutter.cut(b"a") == b""
    assert cutter.cut(b"b\nc\nd") == b"ab\nc\n"
    assert cutter.cut(b"") == b""
    assert cutter.rest() == b"d"
    assert cutter.rest() == b""


def test_only_a_newline_ends_a_line() -> None:
    """Other line separators do not end a line."""
    body = "a\rb\u2028c\u2029d\x85e\x0bf\x0cg\x1ch\n".encode()
    assert LineCutter().cut(body) == body


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_the_line_length_limit(size: int) -> None:
    """A line of the maximum length is returned, a longer one is an error."""

    def chunks(body: bytes) -> list[bytes]:
        return [body[start : start + size] for start in range(0, len(body), size)]

    assert b"".join(cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 10 + b"\nyy\n"))[0]) == b"x\naaaaaaaaaa\nyy\n"
    assert cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 10))[1] == b"a" * 10
    with pytest.raises(LineTooLong, match="exceeds 10 bytes"):
        cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 11 + b"\nyy\n"))
    with pytest.raises(LineTooLong):
        cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 11))


def test_a_long_line_takes_linear_time() -> None:
    """A line over 16,000 chunks takes linear time."""
    cutter = LineCutter()
    started = time.process_time()
    for _ in range(16_000):
        cutter.cut(b"x" * 1024)
    assert len(cutter.cut(b"\n")) == 16_000 * 1024 + 1
    assert time.process_time() - started < 2  # Copying the line with each chunk would copy 130 GB.
