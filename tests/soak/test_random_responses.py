"""Random responses at the HTTP level for the installed command: bodies, gzip, framing, headers, statuses, timing.

Each run ends soon: with exit code 0 and all records, or with exit code 1, one error line and complete windows or pages.
`make soak SEEDS=100-400` uses other seeds.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import json
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from functools import cache
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.end_to_end.test_limits import limited
from tests.harness import Run, catalog_of, run_tap

SEEDS = 12
FIRST = dt.date(2024, 1, 1)
DAYS = 5
PROFILES, PAGE = 23, 5
SECRET = "c0ffee-decaf-5ecre7-t0ken"
SECONDS, MIB = 45, 400
"""Limits of a run. It makes at most a dozen requests, but the machine may be busy."""

TEXTS = (
    b"<html><title>x</title>Bad gateway</html>",
    b"terminated early",
    b'{"error":"you sent %b"}' % SECRET.encode(),
    b'{"error":"unable to authenticate',
    b"\x1b[31mred\x07\x9b \xe2\x80\xae" * 50,
    b"{}",
    b"[]",
    b"null",
    b"\0" * 3000,
    b"9" * 5000,
    b"[" * 100_000,
    b"<" * 60_000,
    b"6/" + b"9" * 5000 + b" queries running in the last hour",
)
VALUES = (
    b"",
    b" ",
    b"-1",
    b"9" * 5000,
    b"x" * 60_000,
    b"\x1b[31mred\x9b\xe2\x80\xae",
    b"http://[evil/",
    b"http://ev\x1bil/" + SECRET.encode(),
    b"//" + b"h" * 60_000,
    b"Fri, 31 Dec 9999 23:59:59 -2359",
    b"Mon, 01 Jan 99999 00:00:00 GMT",
    b"a=b; expires=Mon, 99 Foo 9999 00:00:00 GMT; version=x; domain=.; path=\xff",
    b"text/html; charset=\xff\x00;;=",
    b"gzip",
    b"identity, gzip",
    b"br",
    b"chunked",
    b"gzip, chunked",
    b"close",
    b"keep-alive, upgrade",
    b"\xd9\xa3",
    b"1e3",
    b'"project";q=0;w=3600;r=0;t=999999999, "project-concurrency";r=0',
    b"0",
    SECRET.encode(),
)
NAMES = (
    b"Retry-After Date Location Set-Cookie Content-Type Content-Encoding Connection Keep-Alive Upgrade Trailer Via "
    b"Transfer-Encoding Content-Length Content-Range WWW-Authenticate Proxy-Authenticate Strict-Transport-Security Age "
    b"Content-MD5 RateLimit RateLimit-Policy X-\xff X_y"
).split()


# --- The server's data ------------------------------------------------------------------------------------------------


def events_of(day: int) -> list[bytes]:
    midnight = int(dt.datetime.combine(FIRST, dt.time(), dt.UTC).timestamp()) + day * 86400
    return [
        json.dumps({"event": "E", "properties": {"time": midnight + number, "$insert_id": f"{day}-{number}"}}).encode()
        for number in range(day * 4 % 7 + 1)
    ]


def export(parameters: dict[str, list[str]]) -> bytes:
    first, last = ((dt.date.fromisoformat(parameters[name][0]) - FIRST).days for name in ("from_date", "to_date"))
    return b"".join(line + b"\n" for day in range(first, last + 1) for line in events_of(day))


def engage(parameters: dict[str, list[str]]) -> bytes:
    page = int(parameters["page"][0])
    people = [
        {"$distinct_id": f"u{number}", "$properties": {}}
        for number in range(page * PAGE, min(PROFILES, (page + 1) * PAGE))
    ]
    return json.dumps(
        {"page": page, "page_size": PAGE, "session_id": "s", "status": "ok", "total": PROFILES, "results": people}
    ).encode()


# --- Its responses ----------------------------------------------------------------------------------------------------


class Scrambled:
    """A response with faults in some of its layers.

    A wrong body that HTTP and gzip cannot reveal is not among them, since no client could detect it.
    """

    def __init__(self, rng: random.Random, body: bytes) -> None:
        self._rng = rng
        self.status = b"200 OK"
        self.headers: list[bytes] = []
        self.coding: bytes | None = b"gzip"
        self.before, self.after = b"", b""
        self.pauses = [0.0]
        self.reset = False
        self.body = body
        self.packed = self._packed(body)
        self.framed: bytes | None = None
        layers = [self._of_text, self._of_gzip, self._of_framing, self._of_headers, self._of_status, self._of_timing]
        # Mostly one at a time: two faults hide each other.
        for layer in rng.sample(layers, rng.choice([0] * 6 + [1] * 6 + [2, 3])):
            layer()

    def _packed(self, body: bytes) -> bytes:
        return gzip.compress(body, self._rng.choice([0, 1, 9]), mtime=0)

    def _of_text(self) -> None:
        wrong = self._rng.choice([*TEXTS, self.body[: -self._rng.randint(2, 40)], self._rng.randbytes(500)])
        self.packed = self._packed(wrong)

    def _of_gzip(self) -> None:
        rng, packed = self._rng, self.packed
        place = rng.randrange(len(packed))
        cut, other = packed[:place], bytes([packed[place] ^ 1 << rng.randrange(8)])
        self.packed, self.coding = rng.choice(
            [
                (cut, b"gzip"),
                # After the header, in which some bits are not part of the data.
                (packed[: max(10, place)] + other + packed[max(10, place) + 1 :], b"gzip"),
                (packed + rng.randbytes(20), b"gzip"),
                (packed + gzip.compress(b""), b"gzip"),
                (packed * 2 + b"\x1f\x8b", b"gzip"),
                (_blank_lines(rng.choice([10**6, 10**8])) + packed, b"gzip"),
                (_blank_lines(10**7)[:-4], b"gzip"),
                (gzip.compress(b"") * 1000 + cut, b"gzip"),
                (packed, None),
                (packed, b"deflate"),
                (self.body, b"gzip"),
                (b"", b"gzip"),
            ]
        )

    def _of_framing(self) -> None:
        rng, packed = self._rng, self.packed
        half = len(packed) // 2
        size = b"%x" % len(packed)
        chunked = b"Transfer-Encoding: chunked\r\n\r\n"
        wrong_size = rng.choice(
            [b"-1", b"-", b"0x5", b"", b"+" + size, b"f" * 15, b"f" * 17, b"\xff", size + b"0", b"1"]
        )
        self.framed = rng.choice(
            [
                chunked + _chunks(packed, rng.randint(1, 40)),
                chunked + _chunks(packed, 1 << 16)[: -rng.randint(6, 20)],
                chunked + wrong_size + b"\r\n" + packed + b"\r\n0\r\n\r\n",
                chunked + size + b";" + b"x" * rng.choice([10, 10**5]) + b"\r\n" + packed + b"\r\n0\r\n\r\n",
                chunked + size + b"\r\n" + packed + b"\r\n0\r\n" + b"A: b\r\n" * rng.choice([1, 10**5]) + b"\r\n",
                chunked + size + b"\r\n" + packed + b"xx0\r\n\r\n",
                b"\r\n" + packed,
                b"Content-Length: %d\r\n\r\n" % (len(packed) + 9) + packed,
                b"Content-Length: %d\r\n\r\n" % half + packed,
                b"Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(packed), half) + packed,
                b"Content-Length: -%d\r\n\r\n" % len(packed) + packed,
                b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % half + _chunks(packed, 9),
                b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _chunks(packed, 9),
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + _chunks(packed, 9),
            ]
        )

    def _of_headers(self) -> None:
        rng = self._rng
        count = rng.choice([1, 1, 2, 3, 5, 200, 3000])
        self.headers += [rng.choice(NAMES) + b": " + rng.choice(VALUES) for _ in range(count)]
        if rng.random() < 0.2:
            self.headers.insert(rng.randrange(count), rng.choice([b"no colon\x1b", b": x", b" folded", b"\xff", b"\r"]))

    def _of_status(self) -> None:
        rng = self._rng
        number = rng.choice([100, 101, 204, 206, 302, 304, 307, 400, 401, 403, 407, 408, 429, 500, 503, 999])
        self.status = b"%d " % number + rng.choice([b"", b"Reason", *VALUES])
        if rng.random() < 0.3:
            self.before = b"HTTP/1.1 100 Continue\r\n\r\n" * rng.choice([1, 3, 10**5])
        if rng.random() < 0.1:
            self.status, self.before = b"200 OK", rng.choice([b"\r\n", b"HTTP/9.9 ", b"garbage\n", b"\0" * 10**6])

    def _of_timing(self) -> None:
        rng = self._rng
        # A pause longer than the timeout, too slow a rate, or irregular pieces.
        self.pauses = rng.choice([[0.0, 2.5], [2.5], [0.02] * 9 + [0.0], [0.3] * 9 + [0.0]])
        self.reset = rng.random() < 0.3
        if rng.random() < 0.5:
            self.after = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 3

    def send(self, to: socket.socket) -> None:
        head = [b"HTTP/1.1 " + self.status, *self.headers]
        if self.coding:
            head.append(b"Content-Encoding: " + self.coding)
        framed = self.framed or b"Content-Length: %d\r\n\r\n" % len(self.packed) + self.packed
        whole = self.before + b"\r\n".join([*head, framed]) + self.after
        size = max(1, len(whole) // len(self.pauses))
        for number, pause in enumerate(self.pauses):
            time.sleep(pause)
            last = number == len(self.pauses) - 1
            to.sendall(whole[number * size :] if last else whole[number * size : (number + 1) * size])
        if self.reset:
            to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@cache
def _blank_lines(count: int) -> bytes:
    return gzip.compress(b"\n" * count, 9)


def _chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Server(socketserver.ThreadingTCPServer):
    """A server that answers each request with a response scrambled by the seed."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rng = random.Random(f"responses {seed}")
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that closed the connection."""


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline()).strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            url = urlsplit(line.split()[1].decode())
            parameters = parse_qs(url.query) | parse_qs(self.rfile.read(length).decode())
            body = export(parameters) if url.path.endswith("/export") else engage(parameters)
            with self.server.lock:
                rng = random.Random(self.server.rng.random())
            # Some responses are followed by another one on the connection; after all others it is closed.
            response = Scrambled(rng, body)
            response.send(self.connection)
            if not response.after:
                return


# --- The runs ---------------------------------------------------------------------------------------------------------


def run(seed: int, stream: str) -> Run:
    """Run the command, and check its duration, error line and memory."""
    rng = random.Random(f"settings {seed}")
    with Server(seed) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "service_account_username": "fuzz",
            "service_account_secret": SECRET,
            "project_id": "1",
            "data_api_url": f"{url}/api/2.0",
            "api_url": f"{url}/api",
            "project_timezone": "UTC",
            "start_date": str(FIRST),
            "end_date": str(FIRST + dt.timedelta(days=DAYS - 1)),
            "lookback_days": 0,
            "raw": True,
            "window_days": rng.choice([1, 2, 3]),
            "concurrent_exports": rng.choice([1, 2]),
            "worker_processes": rng.choice([None, None, 1]),
            "max_retries": rng.choice([0, 1, 1, 2]),
            "request_timeout": 1,
            "max_quota_wait": 2,
            "profiles_page_size": PAGE,
        }
        begin = time.monotonic()
        done = run_tap(config, catalog=_catalog(stream), within=limited(), timeout=2 * SECONDS)
    assert time.monotonic() - begin < SECONDS
    assert int(done.stderr.pop().removeprefix("peak ")) // 1024 < MIB
    assert done.exit_code in {0, 1}, done.stderr
    assert len(done.errors) == done.exit_code, done.stderr
    assert all(error.startswith(f"{stream} ") for error in done.errors), done.errors
    text = "\n".join(done.stderr)
    assert not re.search(r"Traceback|unexpected|Warning:", text), text
    assert all(line.isprintable() and len(line) < 1000 for line in done.stderr), text
    for secret in (SECRET, base64.b64encode(f"fuzz:{SECRET}".encode()).decode().rstrip("=")):
        assert secret not in text + done.stdout.decode()
    return done


@pytest.mark.seeds(SEEDS)
def test_random_responses_lose_nothing(seed: int) -> None:
    """Records are complete windows or pages from the first on, and all of them with exit code 0."""
    if seed % 2:
        _check_events(run(seed, "events"))
    else:
        _check_profiles(run(seed, "profiles"))


def _check_events(done: Run) -> None:
    # The bookmark is the midnight after the last day delivered.
    days = (dt.datetime.fromisoformat(done.bookmark).date() - FIRST).days if done.bookmark else 0
    received = Counter(record["properties"]["$insert_id"] for record in done.records())
    expected = [json.loads(line)["properties"]["$insert_id"] for day in range(days) for line in events_of(day)]
    assert received == Counter(expected)
    assert days == DAYS or done.exit_code == 1


def _check_profiles(done: Run) -> None:
    received = [record["$distinct_id"] for record in done.records("profiles")]
    assert received == [f"u{number}" for number in range(len(received))]
    assert len(received) == PROFILES or (done.exit_code == 1 and len(received) % PAGE == 0)


@cache
def _catalog(stream: str) -> dict[str, Any]:
    return catalog_of(stream, raw=True)
