from __future__ import annotations

import gzip
import random
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
import requests
from hypothesis import given, settings, strategies as st

from tap_mixpanel_stream.mixpanel import decompression
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, Refused
from tap_mixpanel_stream.mixpanel.response_body import Counts, decompress, read_all
from tests.mixpanel.loopback import Script, Server, answer, begins, chunked, gzip_in_chunks, packed

LINES = b"".join(b'{"event":"Signed up","properties":{"time":%d}}\n' % number for number in range(5000))
SMALL = LINES[:2000]

Ask = Callable[[Script], requests.Response]


@pytest.fixture
def ask() -> Iterator[Ask]:
    servers: list[Server] = []
    session = requests.Session()

    def ask(script: Script) -> requests.Response:
        server = Server(script, close=True).__enter__()
        servers.append(server)
        return session.get(server.url, stream=True, timeout=(2, 0.3))

    yield ask
    session.close()
    for server in servers:
        server.__exit__()


@pytest.fixture(params=["isal", "zlib"])
def deflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":
        monkeypatch.setattr(decompression, "_deflate", zlib)
    return str(request.param)


def test_a_body_arrives_as_it_was_packed(ask: Ask, deflate: str) -> None:
    counts = Counts()
    assert b"".join(decompress(ask(gzip_in_chunks(packed(LINES))), counts)) == LINES
    assert counts.received == len(packed(LINES))


@pytest.mark.parametrize("encoding", [["Content-Encoding: identity"], []])
def test_a_body_arrives_as_it_was_sent(ask: Ask, encoding: list[str]) -> None:
    assert read_all(ask(answer(LINES, headers=encoding)), 10**9) == LINES
    in_chunks = answer(chunked(LINES), headers=[*encoding, "Transfer-Encoding: chunked"], length=False)
    assert read_all(ask(in_chunks), 10**9) == LINES


def test_an_empty_body_is_whole(ask: Ask) -> None:
    assert read_all(ask(answer()), 0) == b""
    assert read_all(ask(answer(chunked(b""), headers=["Transfer-Encoding: chunked"], length=False)), 0) == b""


def test_gzip_that_stops_early_in_well_formed_chunks_is_broken(ask: Ask, deflate: str) -> None:
    whole = packed(SMALL)
    for end in [*range(12), len(whole) // 2, *range(len(whole) - 10, len(whole))]:
        with pytest.raises(BrokenBody, match="is truncated"):
            read_all(ask(gzip_in_chunks(whole[:end])), 10**9)


@pytest.mark.parametrize("place", [-1, -4, -5, -8])
def test_a_wrong_checksum_or_length_is_broken(ask: Ask, deflate: str, place: int) -> None:
    damaged = bytearray(packed(SMALL))
    damaged[place] ^= 1
    with pytest.raises(BrokenBody, match="corrupt"):
        read_all(ask(gzip_in_chunks(bytes(damaged))), 10**9)


def test_another_gzip_member_is_part_of_the_body(ask: Ask, deflate: str) -> None:
    assert read_all(ask(gzip_in_chunks(packed(SMALL) + packed(b"") + packed(b"more"))), 10**9) == SMALL + b"more"


@pytest.mark.parametrize(
    "garbage", [b"garbage that is long enough to be seen", b"terminated early\n", b"\0\0\0\0\0\0\0\0"]
)
def test_garbage_behind_the_gzip_trailer_is_broken(ask: Ask, deflate: str, garbage: bytes) -> None:
    with pytest.raises(BrokenBody, match=r"after a complete gzip member|is truncated"):
        read_all(ask(gzip_in_chunks(packed(SMALL) + garbage)), 10**9)


def test_a_second_member_must_be_whole_too(ask: Ask, deflate: str) -> None:
    with pytest.raises(BrokenBody, match="is truncated"):
        read_all(ask(gzip_in_chunks(packed(SMALL) + packed(SMALL)[:-1])), 10**9)


def test_chunks_without_the_last_one_are_broken(ask: Ask) -> None:
    whole = gzip_in_chunks(packed(SMALL))
    for cut in (len(b"0\r\n\r\n"), 6, 30):
        with pytest.raises(BrokenBody, match="connection closed"):
            read_all(ask(whole[:-cut]), 10**9)


def test_nonsense_for_a_chunk_size_is_broken(ask: Ask) -> None:
    with pytest.raises(BrokenBody, match="connection"):
        read_all(ask(answer(b"5\r\nabcde\r\nxyz\r\n", headers=["Transfer-Encoding: chunked"], length=False)), 10**9)


def test_less_than_content_length_is_broken(ask: Ask) -> None:
    for cut in (1, len(LINES)):
        with pytest.raises(BrokenBody, match="connection closed after"):
            read_all(ask(answer(LINES)[:-cut]), 10**9)


def test_no_framing_at_all_names_a_proxy(ask: Ask) -> None:
    for headers in ([], ["Content-Encoding: gzip"], ["Connection: close"]):
        with pytest.raises(BrokenBody, match="proxy"):
            read_all(ask(answer(packed(SMALL), headers=headers, length=False)), 10**9)


def test_a_framing_that_nobody_agrees_on_is_broken(ask: Ask) -> None:
    with pytest.raises(BrokenBody, match="Transfer-Encoding: 'gzip, chunked'"):
        read_all(ask(answer(chunked(b"x"), headers=["Transfer-Encoding: gzip, chunked"], length=False)), 10**9)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_a_packing_that_was_not_asked_for_is_refused(ask: Ask, encoding: str) -> None:
    with pytest.raises(Refused, match="accepts only gzip"):
        read_all(ask(answer(b"x", headers=[f"Content-Encoding: {encoding}"])), 10**9)


def test_silence_inside_a_body_names_the_setting(ask: Ask) -> None:
    with pytest.raises(BrokenBody, match="request_timeout"):
        read_all(ask(begins(gzip_in_chunks(packed(LINES))[:300])), 10**9)


def test_a_reset_inside_a_body_is_said_in_words(ask: Ask) -> None:
    def reset(taken: socket.socket) -> None:
        taken.sendall(gzip_in_chunks(packed(LINES))[:300])
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()

    with pytest.raises(
        BrokenBody, match=r"connection failed after \d+ bytes of the response: Connection reset by peer"
    ):
        read_all(ask(reset), 10**9)


def test_blocks_are_small_however_far_a_body_unpacks(ask: Ask, deflate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "_UNCHECKED_BYTES", 200_000_000)
    bomb = gzip_in_chunks(packed(b"\0" * 100_000_000))
    response = ask(bomb)
    tracemalloc.start()
    try:
        total = 0
        for block in decompress(response):
            assert 0 < len(block) <= 64 * 1024
            total += len(block)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert total == 100_000_000


def test_a_body_out_of_all_proportion_is_given_up(ask: Ask, deflate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "_UNCHECKED_BYTES", 1_000_000)
    line = b'{"event":"A","properties":{"time":1704067200,"padding":"%b"}}\n'
    made = 0
    with pytest.raises(BrokenBody, match=r"more than 500 times its size \(\d+ bytes to \d+\)"):
        for block in decompress(ask(gzip_in_chunks(packed(line % (b"x" * 50_000) * 2000)))):
            made += len(block)
    assert made < 40_000_000


def test_events_that_are_all_alike_are_in_proportion(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "_UNCHECKED_BYTES", 1_000_000)
    alike = LINES[:1000] * 10_000
    assert len(alike) > 150 * len(packed(alike))
    assert sum(map(len, decompress(ask(gzip_in_chunks(packed(alike)))))) == len(alike)


def test_a_body_over_the_limit_is_refused_with_the_remedy(ask: Ask) -> None:
    assert len(read_all(ask(answer(SMALL)), len(SMALL))) == len(SMALL)
    with pytest.raises(Refused, match="larger than 1999 bytes: ask for less"):
        read_all(ask(answer(SMALL)), len(SMALL) - 1, remedy="ask for less")


@settings(max_examples=60, deadline=None)
@given(
    size=st.one_of(st.integers(0, 3000), st.sampled_from([64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 128 * 1024])),
    level=st.sampled_from([0, 1, 9]),
    cut=st.integers(1, 70_000),
    patterned=st.booleans(),
    library=st.sampled_from(["isal", "zlib"]),
)
def test_unpacking_does_not_depend_on_how_the_bytes_are_cut(
    size: int, level: int, cut: int, library: str, *, patterned: bool
) -> None:
    content = (LINES * 3)[:size] if patterned else random.Random(size).randbytes(size)
    whole = gzip.compress(content, level)
    pieces = [whole[start : start + cut] for start in range(0, len(whole), cut)]
    with pytest.MonkeyPatch.context() as patch:
        if library == "zlib":
            patch.setattr(decompression, "_deflate", zlib)
        assert b"".join(decompression.decompress(pieces, "gzip")) == content


def test_no_turned_bit_changes_what_is_believed(deflate: str) -> None:
    content = random.Random(7).randbytes(200) + SMALL
    whole = packed(content)
    broken = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        try:
            # Some bits say nothing about the content, such as the header's time.
            assert b"".join(decompression.decompress([bytes(damaged)], "gzip")) == content
        except BrokenBody:
            broken += 1
    assert broken >= len(whole) - 10
