from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.records import LineCutter, LineTooLong


def cut_all(cutter: LineCutter, chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    return [cutter.cut(chunk) for chunk in chunks], cutter.rest()


@given(st.binary().map(lambda body: body.replace(b"\x01", b"\n")), st.lists(st.integers(0, 300)))
def test_no_byte_is_lost_and_every_block_ends_with_a_newline(body: bytes, places: list[int]) -> None:
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    blocks, rest = cut_all(LineCutter(), [body[start:end] for start, end in pairwise(edges)])
    assert b"".join(blocks) + rest == body
    assert all(not block or block.endswith(b"\n") for block in blocks)
    assert b"\n" not in rest


def test_lines_are_handed_on_as_soon_as_they_are_whole() -> None:
    cutter = LineCutter()
    assert cutter.cut(b"a") == b""
    assert cutter.cut(b"b\nc\nd") == b"ab\nc\n"
    assert cutter.cut(b"") == b""
    assert cutter.rest() == b"d"
    assert cutter.rest() == b""


def test_only_a_newline_ends_a_line() -> None:
    body = "a\rb\u2028c\u2029d\x85e\x0bf\x0cg\x1ch\n".encode()
    assert LineCutter().cut(body) == body


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_line_of_the_greatest_length_passes_and_a_longer_one_does_not(size: int) -> None:
    def chunks(body: bytes) -> list[bytes]:
        return [body[start : start + size] for start in range(0, len(body), size)]

    assert b"".join(cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 10 + b"\nyy\n"))[0]) == b"x\naaaaaaaaaa\nyy\n"
    assert cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 10))[1] == b"a" * 10
    with pytest.raises(LineTooLong, match="exceeds 10 bytes"):
        cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 11 + b"\nyy\n"))
    with pytest.raises(LineTooLong):
        cut_all(LineCutter(10), chunks(b"x\n" + b"a" * 11))


def test_a_line_over_many_chunks_takes_time_in_proportion() -> None:
    cutter = LineCutter()
    started = time.process_time()
    for _ in range(16_000):
        cutter.cut(b"x" * 1024)
    assert len(cutter.cut(b"\n")) == 16_000 * 1024 + 1
    assert time.process_time() - started < 2  # Copied anew with each chunk it would be 130 GB.
