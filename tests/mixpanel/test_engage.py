from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from tap_mixpanel_stream.mixpanel import engage
from tap_mixpanel_stream.mixpanel.auth import ServiceAccount
from tap_mixpanel_stream.mixpanel.client import Client
from tap_mixpanel_stream.mixpanel.engage import EngageOptions, Page, fetch_pages, read_page
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, Refused, SessionExpired, Transient
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.mixpanel.retry import Retrying
from tests.mixpanel.loopback import Script, Server, answer, gzip_in_chunks, packed

if TYPE_CHECKING:
    from tests.mixpanel.fake_clock import FakeClock

ESCAPED = r"\u6771"
EXPIRED = answer(b"request for page in uncached query for params", status="400 Bad Request")


def page(number: int, count: int, total: int | None = None, *, size: int = 3, **more: object) -> bytes:
    """Return a page with `count` profiles."""
    own = {"page_size": size, "session_id": "17-EXAMPL", "total": total}
    return bare_page(number, count, **{**own, **more})


def bare_page(number: int, count: int, **more: object) -> bytes:
    """Return a page with `count` profiles and without session keys."""
    found = {
        "page": number,
        "status": "ok",
        "results": [{"$distinct_id": f"{number}-{each}", "$properties": {"n": each}} for each in range(count)],
        **more,
    }
    return gzip_in_chunks(packed(json.dumps(found).encode()))


def sizes(found: list[Page]) -> list[int]:
    """Return the number of profiles on each page."""
    return [len(each.results) for each in found]


Fetch = Callable[..., list[Page]]


@pytest.fixture
def fetch(clock: FakeClock) -> Iterator[Fetch]:
    clients: list[Client] = []

    def fetch(server: Server, options: EngageOptions | None = None, retries: int = 2) -> list[Page]:
        client = Client(server.hosts, ServiceAccount("name", "hunter2", "1"), Quota(clock, max_wait=0, hourly=9), clock)
        clients.append(client)
        return list(fetch_pages(client, options or EngageOptions(), Retrying(clock, retries)))

    yield fetch
    for client in clients:
        client.close()


def forms(server: Server) -> list[dict[str, str]]:
    return [
        {name: values[0] for name, values in parse_qs(request.split("\r\n\r\n")[1]).items()}
        for request in server.requests
    ]


def test_pages_are_fetched_until_one_is_not_full(fetch: Fetch) -> None:
    """The first request has no page and no session; the page size in the response defines a full page."""
    with Server(page(0, 3, 7), page(1, 3, 7), page(2, 1, 7)) as server:
        assert sizes(fetch(server, EngageOptions(page_size=50))) == [3, 3, 1]
        assert forms(server) == [
            {"page_size": "50"},
            {"page": "1", "page_size": "50", "session_id": "17-EXAMPL"},
            {"page": "2", "page_size": "50", "session_id": "17-EXAMPL"},
        ]


def test_profiles_are_returned_byte_for_byte(fetch: Fetch) -> None:
    """Each profile is returned as the bytes that were sent."""
    profile = b'{ "$distinct_id" : 7, "$properties":{"a":1e400,"b":1.0,"a":2} }'
    body = b'{"page":0,"page_size":2,"session_id":"s","total":1,"results":[%s]}' % profile
    with Server(answer(body)) as server:
        assert [bytes(raw) for raw in fetch(server)[0].results] == [profile]


def test_a_full_last_page_is_followed_by_an_empty_one(fetch: Fetch) -> None:
    """After a full last page one more request returns an empty page."""
    with Server(page(0, 3, 3), page(1, 0, 3)) as server:
        assert [len(each.results) for each in fetch(server)] == [3, 0]


def test_no_profiles_is_one_empty_page(fetch: Fetch) -> None:
    """A project without profiles gives one empty page."""
    with Server(page(0, 0, 0)) as server:
        assert [each.results for each in fetch(server)] == [[]]


def test_later_pages_use_no_quota(fetch: Fetch) -> None:
    """Pages after the first do not count toward the hourly quota."""
    scripts = [page(number, 3, 60) for number in range(20)]
    with Server(*scripts, page(20, 0, 60)) as server:
        assert len(fetch(server)) == 21


LATER = {"page_size": None, "total": None}


@pytest.mark.parametrize(
    "more",
    [
        {**LATER, "session_id": "17-EXAMPL"},
        {**LATER, "session_id": None},
        {"page_size": None},
        {"page": None},
    ],
)
def test_later_pages_may_omit_session_keys(fetch: Fetch, more: dict[str, Any]) -> None:
    """Page size, total and session of the first page apply to the later pages."""
    with Server(page(0, 3, 8), page(1, 3, **more), page(2, 2, **more)) as server:
        found = fetch(server)
        assert sizes(found) == [3, 3, 2]
        assert [each.total for each in found] == [8, 8, 8]
        assert [form.get("session_id") for form in forms(server)] == [None, "17-EXAMPL", "17-EXAMPL"]


def test_a_later_page_without_size_and_total(fetch: Fetch) -> None:
    """1000 profiles of 1003, then a page with only number, session and results: 1003 profiles."""
    with Server(page(0, 1000, 1003, size=1000), bare_page(1, 3, session_id="1")) as server:
        assert sizes(fetch(server)) == [1000, 3]


def test_a_new_session_id_is_used(fetch: Fetch) -> None:
    """When a later page has a new session id, the next requests use it."""
    with Server(page(0, 3, 8), page(1, 3, 8, session_id="18-OTHER"), page(2, 2, 8)) as server:
        assert sizes(fetch(server)) == [3, 3, 2]
        assert [form.get("session_id") for form in forms(server)] == [None, "17-EXAMPL", "18-OTHER"]


def test_without_size_and_total_an_empty_page_ends(fetch: Fetch) -> None:
    """Without page size and total, only an empty page ends the session."""
    with Server(*(bare_page(number, count, session_id="1") for number, count in enumerate((3, 2, 3, 0)))) as server:
        assert sizes(fetch(server, EngageOptions(page_size=3))) == [3, 2, 3, 0]


def test_without_a_size_the_total_decides(fetch: Fetch) -> None:
    """Without a page size, the page that reaches the total is the last."""
    scripts = [bare_page(0, 3, session_id="1", total=5), bare_page(1, 2)]
    with Server(*scripts) as server:
        assert sizes(fetch(server, EngageOptions(page_size=50))) == [3, 2]
    with Server(bare_page(0, 3, total=3)) as server:
        assert sizes(fetch(server, EngageOptions(page_size=50))) == [3]


def test_a_missing_session_id_fails(fetch: Fetch) -> None:
    """Without a session id, later pages cannot be requested, so the fetch fails."""
    with Server(bare_page(0, 3)) as server:
        with pytest.raises(BrokenBody, match="after 3 of an unknown number of profiles, in 2 sessions"):
            fetch(server)
        assert len(server.requests) == 2


def test_a_short_session_is_read_again(fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    """Pages already returned are not repeated, and the short page is returned only when complete."""
    scripts = [page(0, 3, 8), page(1, 3, 8), page(2, 1, 8), page(0, 3, 8), page(1, 3, 8), page(2, 2, 8)]
    with caplog.at_level(logging.WARNING), Server(*scripts) as server:
        assert [(each.number, len(each.results)) for each in fetch(server)] == [(0, 3), (1, 3), (2, 2)]
        assert [form.get("page") for form in forms(server)] == [None, "1", "2", None, "1", "2"]
    assert "ended the session after 7 of 8 profiles; restarting" in caplog.text


def test_pages_repeat_from_the_first_that_changed(fetch: Fetch) -> None:
    """After a restart, pages are returned again from the first one that differs."""
    changed = page(1, 3, 8, results=[{"$distinct_id": "new", "$properties": {}}] * 3)
    scripts = [page(0, 3, 11), page(1, 3, 11), page(2, 3, 11), page(3, 1, 11)]
    with Server(*scripts, page(0, 3, 8), changed, page(2, 2, 8)) as server:
        assert [each.number for each in fetch(server)] == [0, 1, 2, 1, 2]


@pytest.mark.parametrize(("total", "count"), [(27, 25), (10, 9), (100, 90), (2000, 1980)])
def test_a_total_slightly_off_is_accepted(
    fetch: Fetch, caplog: pytest.LogCaptureFixture, total: int, count: int
) -> None:
    """At most a tenth and 10 profiles, or 1 %, missing twice alike: a warning names both numbers."""
    with caplog.at_level(logging.WARNING), Server(page(0, count, total, size=5000)) as server:
        found = fetch(server)
        assert sizes(found) == [count]
        assert found[-1].missing == total - count
        assert len(server.requests) == 2
    assert f"after {count} of {total} profiles, twice; accepted" in caplog.text


@pytest.mark.parametrize(
    ("total", "counts"), [(5000, (1000, 3)), (9, (8,)), (11, (9,)), (27, (24,)), (2000, (1979,)), (7, (0,))]
)
def test_a_session_that_stays_short_fails(fetch: Fetch, total: int, counts: tuple[int, ...]) -> None:
    """Fails if more profiles are missing than a total can be off, or none arrived."""
    first = page(0, counts[0], total, size=1000 if len(counts) > 1 else 5000)
    scripts = [first, *(bare_page(number, count) for number, count in enumerate(counts[1:], start=1))]
    with (
        Server(*scripts, *scripts) as server,
        pytest.raises(BrokenBody, match=rf"after {sum(counts)} of {total} profiles, in 2 sessions: run again"),
    ):
        fetch(server)


def test_two_different_short_counts_fail(fetch: Fetch) -> None:
    """Two short sessions with different counts mean lost pages, so the fetch fails."""
    with Server(page(0, 24, 27, size=50), page(0, 25, 27, size=50)) as server, pytest.raises(BrokenBody, match="25 of"):
        fetch(server)


@pytest.mark.parametrize("refusal", [EXPIRED, answer(b"Invalid parameter: page", status="400 Bad Request")])
def test_a_400_after_the_total_ends_the_session(fetch: Fetch, refusal: bytes) -> None:
    """A 400 after the total was reached ends the session: no profile can be missing."""
    with Server(page(0, 3, 6), page(1, 3, None), refusal) as server:
        assert sizes(fetch(server)) == [3, 3]
        assert len(server.requests) == 3


def test_a_400_before_the_total_fails(fetch: Fetch) -> None:
    """A 400 before the total was reached raises `Refused`, because profiles are missing."""
    refusal = answer(b"Invalid parameter: page", status="400 Bad Request")
    with Server(page(0, 3, 6), refusal) as server, pytest.raises(Refused, match="profiles page 1"):
        fetch(server)


def test_a_session_far_beyond_its_total_fails(fetch: Fetch) -> None:
    """A total can be slightly off, but a session far beyond it fails."""
    with Server(*(page(number, 3, 7) for number in range(9))) as server:
        with pytest.raises(BrokenBody, match="profiles page 5: the session continues after 18 of 7 profiles"):
            fetch(server)
        assert len(server.requests) == 6
    with Server(*(page(number, 3, 7) for number in range(5)), page(5, 1, 7)) as server:
        assert sum(sizes(fetch(server))) == 16


def test_a_session_without_a_total_has_a_page_limit(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the page limit ends an endless session without a total."""
    monkeypatch.setattr(engage, "_MAX_PAGES", 4)
    with (
        Server(*(page(number, 3, None) for number in range(9))) as server,
        pytest.raises(BrokenBody, match="continues after 12 profiles on 4 pages: raise profiles_page_size"),
    ):
        fetch(server)


def test_without_a_total_the_page_size_decides(fetch: Fetch) -> None:
    """Without a total, a page that is not full is the last."""
    with Server(page(0, 3, None), page(1, 1, None)) as server:
        assert sizes(fetch(server)) == [3, 1]


def test_an_expired_session_restarts(fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    """An expired session restarts with a warning; pages already returned are not repeated."""
    with caplog.at_level(logging.WARNING), Server(page(0, 3, 5), EXPIRED, page(0, 3, 5), page(1, 2, 5)) as server:
        assert [each.number for each in fetch(server)] == [0, 1]
        assert [form.get("session_id") for form in forms(server)] == [None, "17-EXAMPL", None, "17-EXAMPL"]
    assert "restarting from page 0" in caplog.text


def test_sessions_that_keep_expiring_fail(fetch: Fetch) -> None:
    """After 4 expired sessions the fetch raises `SessionExpired`."""
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
        answer(b'{"page":0,"page_size":3,"session_id":"s","results":[\xff]}'),
        answer(b'{"page":0,"page_size":3,"session_id":"s","results":[' + b"[" * 10**6),
        page(1, 1, 1),
        page(0, 0, 0, size=0),
        answer(b"upstream", status="502 Bad Gateway"),
        gzip_in_chunks(packed(b'{"page":0}')[:-1]),
    ],
)
def test_an_invalid_page_is_retried(fetch: Fetch, script: Script) -> None:
    """A response that is not a valid page is requested again; after the last retry it is an error."""
    with Server(script, page(0, 1, 1)) as server:
        assert len(fetch(server)) == 1
    with Server(script) as server, pytest.raises(Transient, match="profiles page 0: "):
        fetch(server, retries=1)


@pytest.mark.parametrize(
    "wrong", [{"page": 7, "session_id": "s\x1b" * 500_000}, {"page": int("9" * 4000)}, {"page_size": -int("9" * 4000)}]
)
def test_an_invalid_page_has_a_short_error(fetch: Fetch, wrong: dict[str, object]) -> None:
    """A session id of 1 MB or a page number of 4,000 digits is shortened, without control characters."""
    page_content = {"page": 0, "page_size": 3, "session_id": "s", "results": [], "total": 0} | wrong
    with Server(answer(json.dumps(page_content).encode())) as server, pytest.raises(BrokenBody) as raised:
        fetch(server)
    assert len(str(raised.value)) < 400
    assert str(raised.value).isprintable()


def test_a_page_nested_too_deeply_is_reported(fetch: Fetch) -> None:
    """The error for a page nested too deeply says so."""
    body = b'{"page":0,"page_size":3,"session_id":"s","results":[' + b"[" * 10**6 + b"]" * 10**6 + b"]}"
    with Server(answer(body)) as server, pytest.raises(BrokenBody, match="nested too deeply"):
        fetch(server, retries=0)


def test_no_profile_reaches_the_log(fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    """The error for a truncated page quotes no profile."""
    cut = b'{"page":0,"page_size":3,"session_id":"s","results":[{"$distinct_id":"me@example.com"'
    with Server(answer(cut)) as server, pytest.raises(BrokenBody) as broken:
        fetch(server)
    assert "its JSON is truncated" in str(broken.value)
    assert "me@example.com" not in str(broken.value) + caplog.text


def test_a_page_over_the_memory_limit_is_rejected(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page over the memory limit is rejected, and the error suggests a lower profiles_page_size."""
    monkeypatch.setattr(engage, "_MAX_PAGE_BYTES", 100)
    with (
        Server(page(0, 3, 3)) as server,
        pytest.raises(Refused, match="larger than 100 bytes: lower profiles_page_size"),
    ):
        fetch(server)


@pytest.mark.parametrize(("half", "times"), [("", 1), (r"\ud83d", 3)])
def test_memory_per_page_is_bounded(half: str, times: int) -> None:
    """Reading a page needs about its size in memory, three times that with unpaired surrogates."""
    # Escapes throughout, because Mixpanel escapes characters that are not ASCII.
    profile = f'{{"$distinct_id":"u","$properties":{{"a":"{half}{ESCAPED * 300}"}}}}'
    results = ",".join([profile] * 5000)
    body = bytearray(f'{{"page":0,"page_size":9,"session_id":"s","results":[{results}]}}'.encode())
    tracemalloc.start()
    try:
        found = read_page(body, 0)
        peak = len(body) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bytes(found.results[0]).decode() == profile
    assert peak < (times + 0.3) * len(body)


def test_profile_filters_are_sent() -> None:
    """Every filter option becomes a form parameter."""
    assert EngageOptions(
        where='properties["a"] == 1',
        output_properties=("$email", "ü"),
        page_size=10,
        distinct_ids=("a", "b"),
        behaviors=[{"window": "30d"}],
        as_of_timestamp=1705363200,
        data_group_id="-9007199254740993",
    ).form() == {
        "page_size": "10",
        "where": 'properties["a"] == 1',
        "output_properties": '["$email", "\\u00fc"]',
        "distinct_ids": '["a", "b"]',
        "behaviors": '[{"window": "30d"}]',
        "as_of_timestamp": "1705363200",
        "data_group_id": "-9007199254740993",
    }


@pytest.mark.parametrize(("requested", "sent"), [(False, "false"), (True, "true")])
def test_include_all_users_follows_the_setting(*, requested: bool, sent: str) -> None:
    """`include_all_users` is sent with a cohort only, with the setting's value."""
    form = EngageOptions(cohort_id=12345, include_all_users=requested).form()
    assert json.loads(form["filter_by_cohort"]) == {"id": 12345}
    assert form["include_all_users"] == sent
    assert "include_all_users" not in EngageOptions(include_all_users=requested).form()
