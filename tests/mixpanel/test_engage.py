from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from tap_mixpanel_stream.mixpanel import engage
from tap_mixpanel_stream.mixpanel.auth import ServiceAccount
from tap_mixpanel_stream.mixpanel.client import Client
from tap_mixpanel_stream.mixpanel.engage import EngageOptions, Page, pages, parsed
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, Refused, SessionExpired, Transient
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.mixpanel.retry import Retrying
from tests.mixpanel.loopback import Script, Server, answer, gzip_in_chunks, packed
from tests.mixpanel.turned_clock import START

if TYPE_CHECKING:
    from tests.mixpanel.turned_clock import TurnedClock

ESCAPED = r"\u6771"
EXPIRED = answer(b"request for page in uncached query for params", status="400 Bad Request")


def page(number: int, count: int, total: int | None, *, size: int = 3, **more: object) -> bytes:
    """An answer with `count` profiles."""
    found: dict[str, object] = {
        "page": number,
        "page_size": size,
        "session_id": "17-EXAMPL",
        "status": "ok",
        "total": total,
        "results": [{"$distinct_id": f"{number}-{each}", "$properties": {"n": each}} for each in range(count)],
        **more,
    }
    return gzip_in_chunks(packed(json.dumps(found).encode()))


Fetch = Callable[..., list[Page]]


@pytest.fixture
def fetch(clock: TurnedClock) -> Iterator[Fetch]:
    clients: list[Client] = []

    def fetch(server: Server, options: EngageOptions | None = None, retries: int = 2) -> list[Page]:
        client = Client(server.hosts, ServiceAccount("name", "hunter2", "1"), Quota(clock, max_wait=0, hourly=9), clock)
        clients.append(client)
        return list(pages(client, options or EngageOptions(), Retrying(clock, retries)))

    yield fetch
    for client in clients:
        client.close()


def forms(server: Server) -> list[dict[str, str]]:
    return [
        {name: values[0] for name, values in parse_qs(request.split("\r\n\r\n")[1]).items()}
        for request in server.requests
    ]


def test_pages_come_until_one_is_not_full_by_its_own_size(fetch: Fetch) -> None:
    with Server(page(0, 3, 7), page(1, 3, 7), page(2, 1, 7)) as server:
        found = fetch(server, EngageOptions(page_size=50))
        assert [len(each.results) for each in found] == [3, 3, 1]
        assert [each.is_last for each in found] == [False, False, True]
        assert forms(server) == [
            {"page": "0", "page_size": "50"},
            {"page": "1", "page_size": "50", "session_id": "17-EXAMPL"},
            {"page": "2", "page_size": "50", "session_id": "17-EXAMPL"},
        ]


def test_profiles_are_not_looked_into(fetch: Fetch) -> None:
    profile = b'{ "$distinct_id" : 7, "$properties":{"a":1e400,"b":1.0,"a":2} }'
    body = b'{"page":0,"page_size":2,"session_id":"s","total":1,"results":[%s]}' % profile
    with Server(answer(body)) as server:
        assert [bytes(raw) for raw in fetch(server)[0].results] == [profile]


def test_a_full_last_page_is_followed_by_an_empty_one(fetch: Fetch) -> None:
    with Server(page(0, 3, 3), page(1, 0, 3)) as server:
        assert [len(each.results) for each in fetch(server)] == [3, 0]


def test_no_profiles_is_one_empty_page(fetch: Fetch) -> None:
    with Server(page(0, 0, 0)) as server:
        assert [each.results for each in fetch(server)] == [[]]


def test_further_pages_do_not_count_towards_the_hour(fetch: Fetch) -> None:
    scripts = [page(number, 3, 60) for number in range(20)]
    with Server(*scripts, page(20, 0, 60)) as server:
        assert len(fetch(server)) == 21


def test_a_short_page_is_fetched_again(fetch: Fetch) -> None:
    with Server(page(0, 3, 5), page(1, 1, 5), page(1, 2, 5)) as server:
        assert [len(each.results) for each in fetch(server)] == [3, 2]
        assert [form["page"] for form in forms(server)] == ["0", "1", "1"]


def test_a_session_that_ends_short_says_how_many_of_how_many(fetch: Fetch) -> None:
    with Server(page(0, 3, 4211), page(1, 1, 4211)) as server:
        with pytest.raises(BrokenBody, match=r"profiles page 1: .* after 4 of 4211 profiles \(tried 3 times\)"):
            fetch(server)
        assert len(server.requests) == 4


def test_without_a_total_the_page_size_alone_decides(fetch: Fetch) -> None:
    with Server(page(0, 3, None), page(1, 1, None)) as server:
        assert [len(each.results) for each in fetch(server)] == [3, 1]


def test_an_expired_session_starts_again_and_says_so(fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Server(page(0, 3, 5), EXPIRED, page(0, 3, 5), page(1, 2, 5)) as server:
        assert [each.number for each in fetch(server)] == [0, 0, 1]
        assert [form.get("session_id") for form in forms(server)] == [None, "17-EXAMPL", None, "17-EXAMPL"]
    assert "come again" in caplog.text


def test_sessions_that_keep_expiring_end_with_an_error(fetch: Fetch) -> None:
    with Server(*[page(0, 3, 5), EXPIRED] * 9) as server:
        with pytest.raises(SessionExpired, match="4 sessions"):
            fetch(server)
        assert len(server.requests) == 8


@pytest.mark.parametrize(
    "script",
    [
        answer(b"<html>Sorry</html>"),
        answer(b"{}"),
        answer(b""),
        answer(b'{"error":"query timed out"}'),
        answer(b'{"page":0,"page_size":3,"session_id":"s","results":['),
        answer(b'{"page":0,"page_size":3,"session_id":"s","results":{}}'),
        answer(b'{"page":0,"page_size":3,"session_id":null,"results":[]}'),
        answer(b'{"page":0,"page_size":3,"session_id":"s","results":[\xff]}'),
        answer(b'{"page":0,"page_size":3,"session_id":"s","results":[' + b"[" * 10**6),
        page(1, 1, 1),
        page(0, 0, 0, size=0),
        answer(b"upstream", status="502 Bad Gateway"),
        gzip_in_chunks(packed(b'{"page":0}')[:-1]),
    ],
)
def test_what_is_no_page_is_asked_for_again(fetch: Fetch, script: Script) -> None:
    with Server(script, page(0, 1, 1)) as server:
        assert len(fetch(server)) == 1
    with Server(script) as server, pytest.raises(Transient, match="profiles page 0: "):
        fetch(server, retries=1)


@pytest.mark.parametrize(
    "wrong", [{"page": 7, "session_id": "s\x1b" * 500_000}, {"page": int("9" * 4000)}, {"page_size": -int("9" * 4000)}]
)
def test_a_wrong_page_is_one_short_line(fetch: Fetch, wrong: dict[str, object]) -> None:
    """A session id of 1 MB or a page number of 4,000 digits is cut short, without control characters."""
    said = {"page": 0, "page_size": 3, "session_id": "s", "results": [], "total": 0} | wrong
    with Server(answer(json.dumps(said).encode())) as server, pytest.raises(BrokenBody) as raised:
        fetch(server)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


def test_a_page_nested_too_deep_is_said_to_be(fetch: Fetch) -> None:
    body = b'{"page":0,"page_size":3,"session_id":"s","results":[' + b"[" * 10**6 + b"]" * 10**6 + b"]}"
    with Server(answer(body)) as server, pytest.raises(BrokenBody, match="nested too deep"):
        fetch(server, retries=0)


def test_no_profile_reaches_the_log(fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    cut = b'{"page":0,"page_size":3,"session_id":"s","results":[{"$distinct_id":"me@example.com"'
    with Server(answer(cut)) as server, pytest.raises(BrokenBody) as broken:
        fetch(server)
    assert "its JSON is cut" in str(broken.value)
    assert "me@example.com" not in str(broken.value) + caplog.text


def test_a_page_too_large_to_hold_is_refused_with_the_remedy(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engage, "_PAGE_LIMIT", 100)
    with (
        Server(page(0, 3, 3)) as server,
        pytest.raises(Refused, match="larger than 100 bytes: lower profiles_page_size"),
    ):
        fetch(server)


@pytest.mark.parametrize(("half", "times"), [("", 1), (r"\ud83d", 3)])
def test_a_page_is_held_in_memory_as_often_as_is_said(half: str, times: int) -> None:
    # Escapes all through it, as where Mixpanel spells out what is not ASCII.
    profile = f'{{"$distinct_id":"u","$properties":{{"a":"{half}{ESCAPED * 300}"}}}}'
    results = ",".join([profile] * 5000)
    body = bytearray(f'{{"page":0,"page_size":9,"session_id":"s","results":[{results}]}}'.encode())
    tracemalloc.start()
    try:
        found = parsed(body, "profiles page 0", 0, START, 0)
        peak = len(body) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bytes(found.results[0]).decode() == profile
    assert peak < (times + 0.3) * len(body)


def test_what_narrows_the_profiles_is_passed_on() -> None:
    assert EngageOptions(
        where='properties["a"] == 1',
        output_properties=("$email", "ü"),
        page_size=10,
        distinct_ids=("a", "b"),
        behaviors=[{"window": "30d"}],
        as_of_timestamp=1705363200,
        data_group_id="-9007199254740993",
    ).form() == {
        "page": "0",
        "page_size": "10",
        "where": 'properties["a"] == 1',
        "output_properties": '["$email", "\\u00fc"]',
        "distinct_ids": '["a", "b"]',
        "behaviors": '[{"window": "30d"}]',
        "as_of_timestamp": "1705363200",
        "data_group_id": "-9007199254740993",
    }


@pytest.mark.parametrize(("asked", "sent"), [(False, "false"), (True, "true")])
def test_a_cohort_brings_only_members_with_a_profile_unless_asked(*, asked: bool, sent: str) -> None:
    form = EngageOptions(cohort_id=12345, include_all_users=asked).form()
    assert json.loads(form["filter_by_cohort"]) == {"id": 12345}
    assert form["include_all_users"] == sent
    assert "include_all_users" not in EngageOptions(include_all_users=asked).form()
