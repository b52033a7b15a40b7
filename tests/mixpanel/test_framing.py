"""Servers that stall a run or send endless data, and surplus responses on a connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.mixpanel import framing
from tap_mixpanel_stream.mixpanel.auth import ServiceAccount
from tap_mixpanel_stream.mixpanel.client import Client
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, MixpanelError, Refused, Transient
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.mixpanel.request import Hosts, Request
from tests.mixpanel.fake_clock import START, FakeClock
from tests.mixpanel.loopback import Script, Server, answer, gzip_in_chunks, packed

if TYPE_CHECKING:
    import socket
    from pathlib import Path

QUERY = Request("events 2024-01-01", "data", "export")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMEOUT = 1.0

Connect = Callable[..., Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[Client] = []

    def connect(where: Server | Hosts, timeout: float = TIMEOUT) -> Client:
        hosts = where.hosts if isinstance(where, Server) else where
        clock = FakeClock(START)
        client = Client(
            hosts, ServiceAccount("name", "hunter2-hunter2", "1"), Quota(clock), clock, request_timeout=timeout
        )
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def error_of(client: Client) -> MixpanelError:
    with pytest.raises(MixpanelError) as raised, client.open(QUERY) as opened:
        opened.read(10**9)
    return raised.value


def endless(start: bytes, piece: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    """Return a script that repeats `piece` until the client closes the connection."""

    def script(taken: socket.socket) -> None:
        taken.sendall(start)
        while True:
            time.sleep(pause)
            taken.sendall(piece)

    return script


STALLS = {
    "100 Continue, fast": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), "not valid HTTP: its headers"),
    "100 Continue, slowly": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.3), "no response from 127.0.0.1 within"),
    "headers, fast": (
        endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"x" * 900 + b"\r\n"),
        "not valid HTTP: its headers",
    ),
    "short headers, fast": (endless(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n" * 999), "it has more than 100 headers"),
    "headers, one byte below the limit, then more": (
        endless(
            b"HTTP/1.1 200 OK\r\n" + (b"X: " + b"x" * 900 + b"\r\n") * 72 + b"X: " + b"x" * 353, b"\r\nX: y" * 9000, 0.3
        ),
        "not valid HTTP: its headers",
    ),
    "headers, a byte at a time": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.3), "no response from 127.0.0.1 within"),
    "the first line, a byte at a time": (endless(b"HTTP/1.1 200 ", b"x", 0.3), "no response from 127.0.0.1 within"),
    "trailers, fast": (
        endless(CHUNKED + b"0\r\n", b"X: x\r\n" * 999),
        "framing is invalid after 0 bytes of the response: its headers",
    ),
    "trailers, slowly": (endless(CHUNKED + b"0\r\n", b"X: x\r\n", 0.3), "for longer than request_timeout"),
    "a trailer, a byte at a time": (
        endless(CHUNKED + b"1\r\nx\r\n0\r\nX: ", b"x", 0.3),
        "for longer than request_timeout",
    ),
    "chunks, a byte at a time": (endless(CHUNKED, b"1\r\nx\r\n", 0.3), "slower than 128 bytes a second"),
    "a body of known length, a byte at a time": (
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x", 0.3),
        "slower than 128 bytes a second",
    ),
    "a chunk size, a digit at a time": (
        endless(CHUNKED, b"0", 0.3),
        "slower than 128 bytes a second",
    ),
    "an endless chunk extension": (endless(CHUNKED + b"1;", b"x" * 100), "the size of a chunk is not a number"),
}


@pytest.mark.parametrize("case", STALLS)
def test_no_server_stalls_a_run(connect: Connect, case: str) -> None:
    """Data without end is given up soon after the read timeout, as a transient error."""
    script, words = STALLS[case]
    with Server(script) as server:
        begin = time.monotonic()
        error = error_of(connect(server))
        assert time.monotonic() - begin < TIMEOUT + 2
    assert isinstance(error, Transient)
    assert words in str(error)


@pytest.mark.parametrize("headers", ["Content-Length: 90000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1;\r\n"])
def test_an_error_body_is_read_for_a_limited_time(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, headers: str
) -> None:
    """The status is enough: after a few seconds the rest of an error body is dropped."""
    monkeypatch.setattr(framing, "_ERROR_TIMEOUT", 1.0)
    with Server(endless(b"HTTP/1.1 403 No\r\n" + headers.encode(), b"x", 0.3)) as server:
        begin = time.monotonic()
        error = error_of(connect(server, timeout=60))
        assert time.monotonic() - begin < 3
    assert isinstance(error, Refused)
    assert "HTTP 403" in str(error)


def test_an_error_body_is_read_up_to_64_kib(connect: Connect) -> None:
    """An error body that decompresses to nothing is dropped after 64 KiB as sent."""
    start = b"HTTP/1.1 403 No\r\nContent-Length: 900000000\r\nContent-Encoding: gzip\r\n\r\n"
    with Server(endless(start, packed(b"") * 100)) as server:
        assert "HTTP 403" in str(error_of(connect(server, timeout=60)))


def test_a_slow_body_arrives(connect: Connect) -> None:
    """A body may pause for most of the read timeout, and take much longer, if it keeps the minimum rate."""
    body = b"x" * 1600

    def slow(taken: socket.socket) -> None:
        taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1600\r\n\r\n")
        for start in range(0, 1600, 200):
            time.sleep(0.6)
            taken.sendall(body[start : start + 200])

    with Server(slow) as server, connect(server).open(QUERY) as opened:
        assert opened.read(10**6) == body


def test_only_waiting_counts_toward_the_timeout(connect: Connect) -> None:
    """Time that the tap spends between two reads does not count toward the read timeout."""
    body = b"x" * 300_000
    with Server(answer(body)) as server, connect(server).open(QUERY) as opened:
        blocks = opened.blocks()
        received = len(next(blocks))
        time.sleep(1.5 * TIMEOUT)
        assert received + sum(map(len, blocks)) == len(body)


@pytest.mark.parametrize("size", [b"-1", b"+5", b"0x5", b"5_0", b" 5", b"", b"\xd9\xa5", b"f" * 16, b"5 5"])
def test_a_chunk_size_must_be_a_hex_number(connect: Connect, size: bytes) -> None:
    """Anything but hex digits is an error; the HTTP library read without end after `-1`."""
    with Server(endless(CHUNKED + size + b"\r\n", b"x" * 65536)) as server:
        error = error_of(connect(server))
    assert isinstance(error, BrokenBody)
    assert "the size of a chunk is not a number" in str(error)


@pytest.mark.parametrize("body", [b"5\r\nabcdefg\r\n0\r\n\r\n", b"5\r\nabcde0\r\n\r\n"])
def test_a_chunk_must_end_after_its_size(connect: Connect, body: bytes) -> None:
    """A line break must follow each chunk."""
    with Server(CHUNKED + body) as server:
        assert "a chunk is longer than its size" in str(error_of(connect(server)))


@pytest.mark.parametrize(
    "body",
    [b"3\r\nabc\r\n2;a=b\r\nde\r\n0\r\n\r\n", b"005 \r\nabcde\r\n000;x\r\nTrailer: x\r\n\r\n", b"5\nabcde\r\n0\n\n"],
)
def test_chunks_may_have_extensions_and_trailers(connect: Connect, body: bytes) -> None:
    """Chunk extensions, trailers and bare line feeds are accepted."""
    with Server(CHUNKED + body) as server, connect(server).open(QUERY) as opened:
        assert opened.read(10) == b"abcde"


@pytest.mark.parametrize(
    "lengths", [("5", "4"), ("5", "6"), ("5, 5",), ("5, 6",), ("+5",), ("5_0",), ("-5",), ("5 5",), ("x",), ("9" * 40,)]
)
def test_an_invalid_content_length_is_transient(connect: Connect, lengths: tuple[str, ...]) -> None:
    """A repeated or malformed Content-Length is a transient error, not an invalid URL."""
    head = "".join(f"Content-Length: {length}\r\n" for length in lengths)
    with Server(f"HTTP/1.1 200 OK\r\n{head}\r\nabcde".encode()) as server:
        error = error_of(connect(server))
    assert type(error) is Transient
    assert "the response is not valid HTTP: Content-Length is given twice or is not a number" in str(error)


def test_a_malformed_header_is_transient(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """The libraries would log a malformed header unescaped and ignore the headers after it."""
    with Server(b"HTTP/1.1 200 OK\r\nno header\x1b\r\nContent-Length: 5\r\n\r\nabcde") as server:
        error = error_of(connect(server))
    assert type(error) is Transient
    assert "a header is malformed" in str(error)
    assert caplog.text == ""


@pytest.mark.parametrize("pause", [0, 0.2])
def test_a_surplus_response_is_discarded(connect: Connect, pause: float) -> None:
    """Bytes after a response are never used as the response to the next request."""

    def two(taken: socket.socket) -> None:
        taken.sendall(gzip_in_chunks(packed(b"mine")))
        time.sleep(pause)
        taken.sendall(gzip_in_chunks(packed(b"nobody's")))

    with Server(two, two, gzip_in_chunks(packed(b"mine too"))) as server:
        client = connect(server)
        for expected in (b"mine", b"mine", b"mine too"):
            with client.open(QUERY) as opened:
                assert bytes(opened.read(100)) == expected
        assert (len(server.requests), server.connections) == (3, 3)
        assert all("Connection: close\r\n" in request for request in server.requests)


# --- Proxies ---------------------------------------------------------------------------------------------------------

AWAY = Hosts("https://data.example", "https://example")


@pytest.mark.parametrize("script", [STALLS["headers, fast"][0], STALLS["headers, a byte at a time"][0]])
def test_no_proxy_stalls_a_run(connect: Connect, monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    """The response of a proxy to CONNECT has the same limits."""
    monkeypatch.setattr("tap_mixpanel_stream.mixpanel.client._CONNECT_TIMEOUT", 1.0)
    with Server(script) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        begin = time.monotonic()
        error = error_of(connect(AWAY))
        assert time.monotonic() - begin < 4
    assert type(error) is Transient


def test_a_proxy_password_is_sent_as_utf8(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy password with non-ASCII letters is sent as UTF-8."""
    with Server(answer(b"", status="407 No")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:p%C4%85ss%E6%9D%B1@"))
        assert "407 No" in str(error_of(connect(AWAY)))
        assert "Proxy-Authorization: Basic dXNlcjpwxIVzc+adsQ==\r\n" in proxy.requests[0]


def test_a_proxy_message_has_no_password(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's message is shown without the password in any form and without control characters."""
    status_line = "407 you sent\x1b[31m user:hunter3-hunter3 as dXNlcjpodW50ZXIzLWh1bnRlcjM="
    with Server(answer(b"", status=status_line)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:hunter3-hunter3@"))
        message = str(error_of(connect(AWAY)))
    assert "407 you sent [31m user:*** as ***" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    "response",
    [
        answer(b"x", headers=["Content-Encoding: hunter2-hunter2"]),
        answer(b"x", headers=["Transfer-Encoding: bmFtZTpodW50ZXIyLWh1bnRlcjI="]),
        answer(b"", status="302 Found", headers=["Location: http://hunter2-hunter2/"]),
        answer(b"hunter2-hunter2 " * 90, status="400 No"),
        answer(b"x" * 195 + b"hunter2-hunter2", status="400 No"),
    ],
)
def test_an_echoed_secret_is_masked(connect: Connect, response: bytes) -> None:
    """A secret that any part of a response repeats is masked in the message."""
    with Server(response) as server:
        message = str(error_of(connect(server)))
    assert "hunter" not in message
    assert "bmFtZTp" not in message


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_unreadable_ca_bundle_is_reported(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes | None
) -> None:
    """A missing or invalid CA bundle is a lasting error that names variable and path."""
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, str(path))
    with Server(answer(b"x")) as server:
        error = error_of(connect(Hosts(server.url.replace("http:", "https:"), "https://example")))
    assert isinstance(error, Refused)
    assert f"{name} names {path}, which cannot be read as PEM certificates" in str(error)


# --- Stopping --------------------------------------------------------------------------------------------------------


def test_a_stop_ends_decompression(connect: Connect) -> None:
    """A few bytes can decompress to many; a stop does not wait for the rest."""
    with Server(gzip_in_chunks(packed(b"\0" * 200_000_000))) as server:
        client = connect(server)
        with client.open(QUERY) as opened:
            client.clock.stop()
            begin = time.monotonic()
            with pytest.raises(MixpanelError, match="stopped"):
                opened.read(10**9)
        assert time.monotonic() - begin < 0.1
