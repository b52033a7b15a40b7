from __future__ import annotations

import json
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from http.client import HTTPConnection

import pytest
import requests

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.emulator.client import ask, basic, export

DAY = date(2024, 3, 1)
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def row(event: str, **properties: object) -> bytes:
    return json.dumps({"event": event, "properties": properties}).encode()


def test_an_export_has_all_lines_of_the_project() -> None:
    """An export contains exactly the project's lines of its days."""
    project = SyntheticProject(events_per_day=500)
    with Emulator(project, now=lambda: NOW) as emulator:
        answer = export(emulator, DAY, date(2024, 3, 3))
    assert answer.text == b"".join(line + b"\n" for line in project.lines(DAY, date(2024, 3, 3), now=NOW))
    assert answer.text.count(b"\n") == 1500


def test_a_large_body_is_chunked_gzip() -> None:
    """A large body is gzip in chunks, with `text/plain` without a charset."""
    with Emulator(SyntheticProject()) as emulator:
        answer = export(emulator, DAY)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["transfer-encoding"] == "chunked"
    unpacker = zlib.decompressobj(31)
    unpacker.decompress(answer.raw)
    assert unpacker.eof
    assert not unpacker.unused_data


def test_a_small_body_has_a_length() -> None:
    """A small body is not compressed and has Content-Length."""
    with Emulator(FixedProject({DAY: [b'{"event":"a"}']})) as emulator:
        answer = export(emulator, DAY)
    assert answer.raw == b'{"event":"a"}\n'
    assert answer.headers["content-length"] == "14"
    assert "content-encoding" not in answer.headers


def test_a_client_without_gzip_gets_plain_text() -> None:
    """A client that does not accept gzip gets an uncompressed body."""
    with Emulator(SyntheticProject(events_per_day=10)) as emulator:
        query = {"from_date": DAY, "to_date": DAY}
        answer = ask(emulator, f"{emulator.data_api_url}/export", query, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.raw.count(b"\n") == 10


def test_a_day_without_events_is_an_empty_body() -> None:
    """A day without events is a 200 with an empty body."""
    with Emulator(FixedProject()) as emulator:
        answer = export(emulator, DAY)
    assert (answer.status, answer.raw) == (200, b"")


def test_fixed_lines_are_sent_byte_for_byte() -> None:
    """The lines of a fixed project are sent unchanged."""
    lines = [b"no json", b'{"event":"\xff"}', '{"event":"a\u2028b"}'.encode(), b'{"event" : "c", "event":1e400}']
    with Emulator(FixedProject({DAY: lines})) as emulator:
        assert export(emulator, DAY).raw == b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"to_date": DAY}, "Missing required parameter: from_date"),
        ({"from_date": DAY}, "Missing required parameter: to_date"),
        ({"from_date": "20240301", "to_date": DAY}, "from_date must be YYYY-MM-DD"),
        ({"from_date": "2024-02-30", "to_date": DAY}, "from_date must be YYYY-MM-DD"),
        ({"from_date": "2024-03-02", "to_date": DAY}, "from_date cannot be later than to_date"),
        ({"from_date": DAY, "to_date": "2024-06-02"}, "to_date cannot be later than today"),
        ({"from_date": DAY, "to_date": DAY, "event": "signup"}, "Invalid parameter: event"),
        ({"from_date": DAY, "to_date": DAY, "limit": "0"}, "Invalid parameter: limit"),
        ({"from_date": DAY, "to_date": DAY, "limit": "100001"}, "Invalid parameter: limit"),
        ({"from_date": DAY, "to_date": DAY, "where": "properties["}, "Invalid parameter: where"),
    ],
)
def test_an_invalid_export_parameter_is_rejected(query: dict[str, object], text: str) -> None:
    """A missing or invalid parameter gets a 400 that names it."""
    with Emulator(FixedProject(), now=lambda: NOW) as emulator:
        answer = ask(emulator, f"{emulator.data_api_url}/export", query)
    assert answer.status == 400
    assert text in answer.error
    assert answer.json["status"] == "error"


def test_today_is_in_the_project_time_zone() -> None:
    """`to_date` may be today in the project's time zone."""
    evening = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
    for zone, status in (("UTC", 400), ("Europe/Zurich", 200)):
        with Emulator(FixedProject(zone=zone), now=lambda: evening) as emulator:
            assert export(emulator, "2024-03-02").status == status


def test_event_where_and_limit_filter_lines() -> None:
    """`event`, `where` and `limit` filter lines; malformed lines are not filtered by them."""
    lines = [row("a", n=1), row("b", n=2), row("a", n=3), b"{broken", row("c", n=4), row("a")]
    with Emulator(FixedProject({DAY: lines})) as emulator:
        assert export(emulator, DAY, event='["a","b"]').raw.split(b"\n")[:-1] == [*lines[:4], lines[5]]
        assert export(emulator, DAY, where='properties["n"] > 1').raw.split(b"\n")[:-1] == lines[1:5]
        assert export(emulator, DAY, event='["a"]', limit=2).raw.split(b"\n")[:-1] == [lines[0], lines[2]]


@pytest.mark.parametrize("in_ms", ["false", "true"])
def test_where_reads_the_time_of_an_event(in_ms: str) -> None:
    """`event["$time"]` is the time of an event in seconds, whatever the unit of the rows."""
    where = 'event["$time"] >= datetime("2024-03-01T12:00:00")'
    with Emulator(SyntheticProject(events_per_day=400)) as emulator:
        rows = [json.loads(line) for line in export(emulator, DAY, time_in_ms=in_ms).text.splitlines()]
        late = export(emulator, DAY, where=where, time_in_ms=in_ms).text.count(b"\n")
    noon = 1_709_294_400 * (1000 if in_ms == "true" else 1)
    assert 0 < late < len(rows)
    assert late == sum(row["properties"]["time"] >= noon for row in rows)


def test_a_limit_counts_across_blocks() -> None:
    """`limit` counts lines across blocks and days."""
    with Emulator(SyntheticProject(events_per_day=400)) as emulator:
        assert export(emulator, DAY, limit=300).text.count(b"\n") == 300
        assert export(emulator, DAY, date(2024, 3, 5), limit=1999).text.count(b"\n") == 1999


def test_where_filters_by_processing_time() -> None:
    """`where` can select rows by `mp_processing_time_ms`."""
    project = SyntheticProject(events_per_day=2000)
    edge = 1_709_424_000_000  # 2024-03-03
    where = f'properties["mp_processing_time_ms"] >= {edge} or not defined(properties["mp_processing_time_ms"])'
    with Emulator(project) as emulator:
        rows = [json.loads(line)["properties"] for line in export(emulator, DAY, where=where).text.splitlines()]
    times = [properties.get("mp_processing_time_ms") for properties in rows]
    assert None in times
    assert any(times)
    assert all(each is None or each >= edge for each in times)


def test_time_in_ms_sends_milliseconds() -> None:
    """With `time_in_ms` rows have their time in milliseconds."""
    with Emulator(SyntheticProject(events_per_day=50)) as emulator:
        seconds, milliseconds = (
            [
                json.loads(line)["properties"]["time"]
                for line in export(emulator, DAY, time_in_ms=requested).text.splitlines()
            ]
            for requested in ("false", "true")
        )
    assert [each // 1000 for each in milliseconds] == [int(each) for each in seconds]
    assert any(each % 1000 for each in milliseconds)


def test_a_connection_serves_many_requests() -> None:
    """One connection serves several requests, which are recorded in order."""
    with Emulator(SyntheticProject()) as emulator, requests.Session() as session:
        session.auth = (emulator.credentials.username, emulator.credentials.secret)
        for number in range(1, 4):
            query = {"project_id": "2526451", "from_date": str(DAY), "to_date": str(DAY), "limit": str(number)}
            session.get(f"{emulator.data_api_url}/export", params=query).raise_for_status()
        seen = emulator.requests
    assert [(each.kind, each.number, each.status, each.query["limit"]) for each in seen] == [
        ("export", 1, 200, "1"),
        ("export", 2, 200, "2"),
        ("export", 3, 200, "3"),
    ]
    assert seen[0].headers["accept-encoding"].startswith("gzip")
    assert seen[0].path == "/api/2.0/export"


def test_an_identical_request_is_served_from_the_cache() -> None:
    """An identical request is served from the cache, another one is not."""
    project = FixedProject({DAY: [b"x" * 90] * 900})
    with Emulator(project, cache_bytes=1 << 20) as emulator:
        first = export(emulator, DAY).text
        project.events[DAY] = []
        assert export(emulator, DAY).text == first
        assert export(emulator, DAY, limit=800).text == b""


def test_a_body_over_the_cache_size_is_not_cached() -> None:
    """A body larger than the cache is generated again for each request."""
    project = FixedProject({DAY: [b"x" * 90] * 900})
    with Emulator(project, cache_bytes=100) as emulator:
        assert export(emulator, DAY).text != b""
        project.events[DAY] = []
        assert export(emulator, DAY).text == b""


def test_an_http_1_0_body_ends_with_the_connection() -> None:
    """An HTTP/1.0 client gets an unchunked body that ends with the connection."""
    with Emulator(SyntheticProject()) as emulator:
        authorization = basic(emulator.credentials.username, emulator.credentials.secret)
        target = f"/api/2.0/export?project_id=2526451&from_date={DAY}&to_date={DAY}"
        with socket.create_connection(("127.0.0.1", emulator.port)) as connection:
            connection.sendall(f"GET {target} HTTP/1.0\r\nAuthorization: {authorization}\r\n\r\n".encode())
            with connection.makefile("rb") as file:
                head, body = file.read().split(b"\r\n\r\n", 1)
    assert b"Transfer-Encoding" not in head
    assert body.count(b"\n") == 1000


def test_concurrent_clients_get_the_same_body() -> None:
    """Twenty clients at once get the same body, and requests are numbered without gaps."""
    with Emulator(SyntheticProject()) as emulator, ThreadPoolExecutor(20) as pool:
        bodies = set(pool.map(lambda _: export(emulator, DAY).text, range(40)))
        assert len(emulator.requests) == 40
        assert sorted(seen.number for seen in emulator.requests) == list(range(1, 41))
    assert len(bodies) == 1


def test_an_unused_emulator_can_be_closed() -> None:
    """An emulator that was never started can be closed."""
    Emulator(FixedProject()).close()


def test_the_emulator_listens_on_127_0_0_1_only() -> None:
    """The emulator listens on 127.0.0.1 only."""
    with Emulator(FixedProject()) as emulator:
        assert emulator.data_api_url == f"http://127.0.0.1:{emulator.port}/api/2.0"
        assert emulator.api_url == f"http://127.0.0.1:{emulator.port}/api"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", emulator.port))


def test_a_client_that_disconnects_is_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """A client that disconnects during a body causes no output."""
    with Emulator(SyntheticProject(events_per_day=20_000)) as emulator:
        connection = HTTPConnection("127.0.0.1", emulator.port)
        authorization = basic(emulator.credentials.username, emulator.credentials.secret)
        target = f"/api/2.0/export?project_id=2526451&from_date={DAY}&to_date={DAY}"
        connection.request("GET", target, headers={"Authorization": authorization})
        response = connection.getresponse()
        response.read(1000)
        response.close()
        connection.close()
    assert capfd.readouterr() == ("", "")


def test_closing_ends_a_running_export() -> None:
    """Closing the emulator ends an export that filters years of lines."""
    before = threading.active_count()
    with Emulator(SyntheticProject(first_day=date(1990, 1, 1), events_per_day=10_000), now=lambda: NOW) as emulator:
        connection = socket.create_connection(("127.0.0.1", emulator.port))
        authorization = basic(emulator.credentials.username, emulator.credentials.secret)
        query = "project_id=2526451&from_date=1990-01-01&to_date=2024-01-01&event=%5B%22None%22%5D"
        connection.sendall(f"GET /api/2.0/export?{query} HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n".encode())
        while not emulator.requests:
            time.sleep(0.01)
        begun = time.monotonic()
    assert time.monotonic() - begun < 1
    assert threading.active_count() == before
    connection.close()


def test_an_unknown_path_is_404() -> None:
    """A path or method that Mixpanel does not have gets a 404."""
    with Emulator(FixedProject()) as emulator:
        assert ask(emulator, f"{emulator.api_url}/query/nonsense").status == 404
        assert ask(emulator, f"{emulator.data_api_url}/export", form={}).status == 404
    assert [seen.kind for seen in emulator.requests] == ["unknown", "unknown"]


def test_responses_have_the_emulators_date() -> None:
    """The `Date` of a response is from the emulator's clock."""
    with Emulator(FixedProject(), now=lambda: NOW) as emulator:
        assert export(emulator, DAY).headers["date"] == "Sat, 01 Jun 2024 12:00:00 GMT"
