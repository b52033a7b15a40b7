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
from tap_mixpanel_stream.mixpanel.response_body import Counts, decompressed_blocks, read_all
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


def test_a_gzip_body_is_decompressed(ask: Ask, deflate: str) -> None:
    """A gzip body is decompressed completely, and its compressed size is counted."""
    counts = Counts()
    assert b"".join(decompressed_blocks(ask(gzip_in_chunks(packed(LINES))), counts)) == LINES
    assert counts.received == len(packed(LINES))


@pytest.mark.parametrize("encoding", [["Content-Encoding: identity"], []])
def test_an_uncompressed_body_arrives_unchanged(ask: Ask, encoding: list[str]) -> None:
    """A body without compression arrives unchanged, with a length or in chunks."""
    assert read_all(ask(answer(LINES, headers=encoding)), 10**9) == LINES
    in_chunks = answer(chunked(LINES), headers=[*encoding, "Transfer-Encoding: chunked"], length=False)
    assert read_all(ask(in_chunks), 10**9) == LINES


def test_an_empty_body_is_complete(ask: Ask) -> None:
    """An empty body with valid framing is complete."""
    assert read_all(ask(answer()), 0) == b""
    assert read_all(ask(answer(chunked(b""), headers=["Transfer-Encoding: chunked"], length=False)), 0) == b""


def test_truncated_gzip_in_valid_chunks_fails(ask: Ask, deflate: str) -> None:
    """Gzip data truncated at any place is an error, even in well-formed chunks."""
    whole = packed(SMALL)
    for end in [*range(12), len(whole) // 2, *range(len(whole) - 10, len(whole))]:
        with pytest.raises(BrokenBody, match="is truncated"):
            read_all(ask(gzip_in_chunks(whole[:end])), 10**9)


@pytest.mark.parametrize("place", [-1, -4, -5, -8])
def test_a_wrong_checksum_or_length_fails(ask: Ask, deflate: str, place: int) -> None:
    """A wrong checksum or length in the gzip trailer is an error."""
    damaged = bytearray(packed(SMALL))
    damaged[place] ^= 1
    with pytest.raises(BrokenBody, match="corrupt"):
        read_all(ask(gzip_in_chunks(bytes(damaged))), 10**9)


def test_several_gzip_members_are_concatenated(ask: Ask, deflate: str) -> None:
    """Further gzip members, also empty ones, belong to the body."""
    assert read_all(ask(gzip_in_chunks(packed(SMALL) + packed(b"") + packed(b"more"))), 10**9) == SMALL + b"more"


@pytest.mark.parametrize(
    "garbage", [b"garbage that is long enough to be seen", b"terminated early\n", b"\0\0\0\0\0\0\0\0"]
)
def test_garbage_after_the_gzip_trailer_fails(ask: Ask, deflate: str, garbage: bytes) -> None:
    """Garbage after a complete gzip member is an error."""
    with pytest.raises(BrokenBody, match=r"after a complete gzip member|is truncated"):
        read_all(ask(gzip_in_chunks(packed(SMALL) + garbage)), 10**9)


def test_a_truncated_second_member_fails(ask: Ask, deflate: str) -> None:
    """A truncated second gzip member is an error."""
    with pytest.raises(BrokenBody, match="is truncated"):
        read_all(ask(gzip_in_chunks(packed(SMALL) + packed(SMALL)[:-1])), 10**9)


def test_a_missing_last_chunk_fails(ask: Ask) -> None:
    """A chunked body without its last chunk is an error."""
    whole = gzip_in_chunks(packed(SMALL))
    for cut in (len(b"0\r\n\r\n"), 6, 30):
        with pytest.raises(BrokenBody, match="connection closed"):
            read_all(ask(whole[:-cut]), 10**9)


def test_an_invalid_chunk_size_fails(ask: Ask) -> None:
    """A chunk size that is not a number is an error."""
    with pytest.raises(BrokenBody, match="connection"):
        read_all(ask(answer(b"5\r\nabcde\r\nxyz\r\n", headers=["Transfer-Encoding: chunked"], length=False)), 10**9)


def test_a_body_below_content_length_fails(ask: Ask) -> None:
    """A body shorter than Content-Length is an error."""
    for cut in (1, len(LINES)):
        with pytest.raises(BrokenBody, match="connection closed after"):
            read_all(ask(answer(LINES)[:-cut]), 10**9)


def test_a_body_without_framing_names_a_proxy(ask: Ask) -> None:
    """A body without length and chunks is an error that names a proxy as its cause."""
    for headers in ([], ["Content-Encoding: gzip"], ["Connection: close"]):
        with pytest.raises(BrokenBody, match="proxy"):
            read_all(ask(answer(packed(SMALL), headers=headers, length=False)), 10**9)


def test_an_unknown_transfer_encoding_fails(ask: Ask) -> None:
    """A transfer coding other than `chunked` is an error."""
    with pytest.raises(BrokenBody, match="Transfer-Encoding: 'gzip, chunked'"):
        read_all(ask(answer(chunked(b"x"), headers=["Transfer-Encoding: gzip, chunked"], length=False)), 10**9)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_an_unexpected_content_encoding_fails(ask: Ask, encoding: str) -> None:
    """A content coding other than gzip is a lasting error."""
    with pytest.raises(Refused, match="accepts only gzip"):
        read_all(ask(answer(b"x", headers=[f"Content-Encoding: {encoding}"])), 10**9)


def test_a_stalled_body_names_request_timeout(ask: Ask) -> None:
    """The error for a body that stalls names `request_timeout`."""
    with pytest.raises(BrokenBody, match="request_timeout"):
        read_all(ask(begins(gzip_in_chunks(packed(LINES))[:300])), 10**9)


def test_a_reset_connection_is_described(ask: Ask) -> None:
    """The error for a reset connection names the bytes received and the cause."""

    def reset(taken: socket.socket) -> None:
        taken.sendall(gzip_in_chunks(packed(LINES))[:300])
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.close()

    with pytest.raises(
        BrokenBody, match=r"connection failed after \d+ bytes of the response: Connection reset by peer"
    ):
        read_all(ask(reset), 10**9)


def test_decompressed_blocks_are_at_most_64_kib(ask: Ask, deflate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have at most 64 KiB, and memory stays below 4 MB, whatever the compression ratio."""
    monkeypatch.setattr(decompression, "_UNCHECKED_BYTES", 200_000_000)
    bomb = gzip_in_chunks(packed(b"\0" * 100_000_000))
    response = ask(bomb)
    tracemalloc.start()
    try:
        total = 0
        for block in decompressed_blocks(response):
            assert 0 < len(block) <= 64 * 1024
            total += len(block)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert total == 100_000_000


def test_a_decompression_bomb_fails(ask: Ask, deflate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that decompresses to more than 500 times its size is an error."""
    monkeypatch.setattr(decompression, "_UNCHECKED_BYTES", 1_000_000)
    line = b'{"event":"A","properties":{"time":1704067200,"padding":"%b"}}\n'
    made = 0
    with pytest.raises(BrokenBody, match=r"more than 500 times its size \(\d+ bytes to \d+\)"):
        for block in decompressed_blocks(ask(gzip_in_chunks(packed(line % (b"x" * 50_000) * 2000)))):
            made += len(block)
    assert made < 40_000_000


def test_uniform_events_stay_below_the_ratio(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are all alike stay below the maximum compression ratio."""
    monkeypatch.setattr(decompression, "_UNCHECKED_BYTES", 1_000_000)
    alike = LINES[:1000] * 10_000
    assert len(alike) > 150 * len(packed(alike))
    assert sum(map(len, decompressed_blocks(ask(gzip_in_chunks(packed(alike)))))) == len(alike)


def test_a_body_over_the_limit_is_rejected(ask: Ask) -> None:
    """A body over the size limit is an error that names the remedy."""
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
def test_decompression_is_independent_of_block_sizes(
    size: int, level: int, cut: int, library: str, *, patterned: bool
) -> None:
    """The result is the same however the compressed bytes are cut, with both libraries."""
    content = (LINES * 3)[:size] if patterned else random.Random(size).randbytes(size)
    whole = gzip.compress(content, level)
    pieces = [whole[start : start + cut] for start in range(0, len(whole), cut)]
    with pytest.MonkeyPatch.context() as patch:
        if library == "zlib":
            patch.setattr(decompression, "_deflate", zlib)
        assert b"".join(decompression.decompress(pieces, "gzip")) == content


def test_a_flipped_bit_never_changes_the_content(deflate: str) -> None:
    """A flipped bit is either an error or, in the header, without effect on the content."""
    content = random.Random(7).randbytes(200) + SMALL
    whole = packed(content)
    broken = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        try:
            # Some bits do not affect the content, such as the time in the header.
            assert b"".join(decompression.decompress([bytes(damaged)], "gzip")) == content
        except BrokenBody:
            broken += 1
    assert broken >= len(whole) - 10
