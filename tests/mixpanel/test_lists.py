"""Cohorts, annotations, funnels and other reports, whose response is one JSON text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote_plus

import msgspec
import pytest

from tap_mixpanel_stream.mixpanel.annotations import list_annotations
from tap_mixpanel_stream.mixpanel.auth import ServiceAccount
from tap_mixpanel_stream.mixpanel.client import Client
from tap_mixpanel_stream.mixpanel.cohorts import Cohort, fetch_members, list_cohorts, read_distinct_id
from tap_mixpanel_stream.mixpanel.errors import BrokenBody, Refused
from tap_mixpanel_stream.mixpanel.event_counts import EventCount, count_events, list_event_names, name_batches
from tap_mixpanel_stream.mixpanel.funnels import Funnel, fetch_funnel_days, list_funnels
from tap_mixpanel_stream.mixpanel.insights import fetch_insights_report
from tap_mixpanel_stream.mixpanel.lexicon import list_schemas
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.mixpanel.retry import Retrying
from tests.mixpanel.loopback import Script, Server, answer, gzip_in_chunks, packed

if TYPE_CHECKING:
    from tests.mixpanel.fake_clock import FakeClock

T = TypeVar("T")
Ask = Callable[[Client, Retrying], T]
Asking = Callable[[Server, Ask[T]], T]

COHORT = b'{"id":1000,"name":"Cohort One","count":150,"data_group_id":null}'
FIRST, LAST = dt.date(2023, 4, 29), dt.date(2023, 4, 30)
DAYS = b'{"meta":{"dates":["2023-04-29"]},"data":{"2023-04-29":{"steps":[]},"$overall":{"steps":[1]}}}'


@pytest.fixture
def ask(clock: FakeClock) -> Iterator[Asking[object]]:
    clients: list[Client] = []

    def ask(server: Server, question: Ask[object]) -> object:
        client = Client(server.hosts, ServiceAccount("name", "hunter2", "1"), Quota(clock, max_wait=0), clock)
        clients.append(client)
        return question(client, Retrying(clock, 1))

    yield ask
    for client in clients:
        client.close()


def cohorts(client: Client, retrying: Retrying) -> object:
    return list_cohorts(client, retrying).content


def annotation_list(client: Client, retrying: Retrying) -> object:
    return list_annotations(client, retrying).content


def funnels(client: Client, retrying: Retrying) -> object:
    return list_funnels(client, retrying).content


def days(client: Client, retrying: Retrying) -> object:
    return fetch_funnel_days(client, Funnel(7, b'"Signup"'), FIRST, LAST, retrying).content


def event_names(client: Client, retrying: Retrying) -> object:
    return list_event_names(client, retrying).content


def event_counts(client: Client, retrying: Retrying) -> object:
    return count_events(client, ["A", "B", "\ud83d"], FIRST, LAST, retrying).content


def schemas(client: Client, retrying: Retrying) -> object:
    return list_schemas(client, retrying).content


def report(client: Client, retrying: Retrying) -> object:
    cells = fetch_insights_report(client, 7, retrying).content
    return [(cell.date, cell.dimensions, cell.value) for cell in cells]


COUNTS = b'{"data":{"series":["2023-04-29","2023-04-30"],"values":{"A":{"2023-04-29":6},"B":{}}},"legend_size":2}'
REPORT = b'{"headers":["$event"],"series":{"A":{"2023-04-29T00:00:00+02:00":6.50},"B":{"all":null}}}'
WHOLE: dict[Ask[object], tuple[bytes, object]] = {
    cohorts: (b"[%b]" % COHORT, [Cohort(1000, None, is_empty=False, text=COHORT)]),
    annotation_list: (b'{"status":"ok","results":[{"id":1,"user":{"id":3}}]}', [b'{"id":1,"user":{"id":3}}']),
    funnels: (b'[{"funnel_id":7509,"name":"K\\u00e4ufe"},{"funnel_id":1}]', None),
    days: (DAYS, {dt.date(2023, 4, 29): b'{"steps":[]}'}),
    event_names: (b'["A","\\u00e4"]', ["A", "ä"]),
    event_counts: (COUNTS, [EventCount(FIRST, b'"A"', 6)]),
    schemas: (b'{"status":"ok","results":[{"name":"A"}]}', [b'{"name":"A"}']),
    report: (REPORT, [("2023-04-29T00:00:00+02:00", b'{"$event":"A"}', b"6.50"), (None, b'{"$event":"B"}', b"null")]),
}
QUESTIONS = pytest.mark.parametrize("question", list(WHOLE), ids=lambda question: question.__name__)


@QUESTIONS
def test_a_valid_response_is_returned(question: Ask[object], ask: Asking[object]) -> None:
    """Each list and report is parsed into its values."""
    body, expected = WHOLE[question]
    with Server(gzip_in_chunks(packed(body))) as server:
        found = ask(server, question)
    assert found == (expected or [Funnel(7509, rb'"K\u00e4ufe"'), Funnel(1, b"null")])


@QUESTIONS
@pytest.mark.parametrize(
    "broken",
    [
        answer(b""),
        answer(b"{}"),
        answer(b"[[]]"),
        answer(b"7"),
        answer(b"<html>Sorry</html>"),
        answer(b'{"error":"query timed out","status":"error"}'),
        answer(b'{"status":"error","results":[]}'),
        answer(b'[{"id":"x","funnel_id":"x"}]'),
        answer(b'[{"id":%b,"funnel_id":%b}]' % (b"9" * 4000, b"9" * 4000)),
        answer(b'{"results":[],"data":[],"status":"ok" '),
        answer(b"[" * 10**6),
        answer(b'["\xff"]'),
        answer(b"upstream", status="502 Bad Gateway"),
        gzip_in_chunks(packed(b"[]" * 1000)[:-1]),
    ],
)
def test_an_invalid_response_is_retried(question: Ask[object], broken: Script, ask: Asking[object]) -> None:
    """A malformed or foreign response is requested again; after the last retry it is an error."""
    with Server(broken, answer(WHOLE[question][0])) as server:
        assert ask(server, question)
        assert len(server.requests) == 2
    with Server(broken) as server, pytest.raises(Exception, match=r"\(tried 2 times\)$") as error:
        ask(server, question)
    assert type(error.value).__name__ in {"BrokenBody", "Transient"}
    assert "\n" not in str(error.value)


@QUESTIONS
def test_a_truncated_response_is_rejected(question: Ask[object], ask: Asking[object]) -> None:
    """A response truncated at any byte is an error."""
    body = WHOLE[question][0]
    for end in range(len(body)):
        with Server(answer(body[:end])) as server, pytest.raises(BrokenBody):
            ask(server, question)


def test_an_empty_list_is_valid(ask: Asking[object]) -> None:
    """A project without cohorts or annotations gives an empty list."""
    with Server(answer(b"[]")) as server:
        assert ask(server, cohorts) == []
    with Server(answer(b'{"status":"ok","results":[]}')) as server:
        assert ask(server, annotation_list) == []


def test_an_error_quotes_no_annotation(ask: Asking[object]) -> None:
    """The error for a malformed response quotes no user text."""
    with Server(answer(b'{"status":"ok","results":[{"id":1,"description":"secret plan"}')) as server:
        with pytest.raises(BrokenBody, match="its JSON is truncated or malformed") as broken:
            ask(server, annotation_list)
        assert "secret" not in str(broken.value)


def test_unpaired_surrogates_are_kept(ask: Asking[object]) -> None:
    """An annotation with an unpaired surrogate is returned unchanged."""
    annotation = rb'{"id":1,"description":"\ud83d"}'
    with Server(answer(b'{"status":"ok","results":[%b]}' % annotation)) as server:
        assert ask(server, annotation_list) == [annotation]


def test_paths_of_cohorts_and_annotations(ask: Asking[object]) -> None:
    """Cohorts use POST on the query API; annotations use GET on the app API."""
    with Server(answer(b"[]")) as server:
        ask(server, cohorts)
        assert server.requests[0].startswith("POST /api/query/cohorts/list?project_id=1 ")
    with Server(answer(b'{"status":"ok","results":[]}')) as server:
        ask(server, annotation_list)
        assert server.requests[0].startswith("GET /api/app/projects/1/annotations ")


def test_a_funnel_request_has_daily_units(ask: Asking[object]) -> None:
    """A funnel request has its id, the date range and `unit=day`."""
    with Server(answer(DAYS)) as server:
        ask(server, days)
        line = server.requests[0].split("\r\n")[0]
    assert "/api/query/funnels?" in line
    for parameter in ("funnel_id=7", "from_date=2023-04-29", "to_date=2023-04-30", "unit=day"):
        assert parameter in line


def test_event_names_may_have_unpaired_surrogates(ask: Asking[object]) -> None:
    """An event name with an unpaired surrogate is requested and returned as the same JSON."""
    body = rb'{"data":{"series":["2023-04-29","2023-04-30"],"values":{"\ud83d":{"2023-04-29":6}}}}'
    with Server(answer(body)) as server:
        assert ask(server, event_counts) == [EventCount(FIRST, rb'"\ud83d"', 6)]
        assert "event=%5B%22A%22%2C+%22B%22%2C+%22%5Cud83d%22%5D" in server.requests[0]


@pytest.mark.parametrize(
    ("series", "day"),
    [("", "2023-05-01"), (', "2023-05-01"', "2023-05-01"), (', "April"', "April")],
)
def test_counts_of_unexpected_days_are_rejected(series: str, day: str, ask: Asking[object]) -> None:
    """Counts of days outside the request mean a response to another request."""
    body = f'{{"data":{{"series":["2023-04-29", "2023-04-30"{series}],"values":{{"A":{{"{day}":6}}}}}}}}'.encode()
    with Server(answer(body)) as server, pytest.raises(BrokenBody, match=r"event_counts 2023-04-29\.\.2023-04-30"):
        ask(server, event_counts)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"data":{"series":[],"values":{}},"legend_size":0}', "2 of 2 days are missing"),
        (
            COUNTS.replace(b'"2023-04-29","2023-04-30"', b'"2023-04-29"'),
            "1 of 2 days are missing, the first is 2023-04-30",
        ),
        (COUNTS.replace(b'"legend_size":2', b'"legend_size":3'), "it has 2 of 3"),
        (COUNTS.replace(b'"B"', b'"Other"'), "it has counts of an event that was not requested"),
        (COUNTS.replace(b'"B"', rb'"\udc00"'), "it has counts of an event that was not requested"),
    ],
)
def test_counts_of_other_days_or_names_are_rejected(body: bytes, problem: str, ask: Asking[object]) -> None:
    """A response that lacks days or names, or has other names, does not mean days without events."""
    with Server(answer(body)) as server, pytest.raises(BrokenBody, match=problem):
        ask(server, event_counts)


def test_a_count_of_zero_is_omitted(ask: Asking[object]) -> None:
    """A day with a count of 0 is returned like a day that is missing: not at all."""
    with Server(answer(COUNTS.replace(b'"B":{}', b'"B":{"2023-04-29":0,"2023-04-30":1}'))) as server:
        assert ask(server, event_counts) == [EventCount(FIRST, b'"A"', 6), EventCount(LAST, b'"B"', 1)]


def test_listed_names_with_surrogates_are_omitted(ask: Asking[object]) -> None:
    """Names with unpaired surrogates are omitted; a name that only spells one is kept."""
    with Server(answer(rb'["A","\ud83d","a\udc00b","\ud83d\ude00","\\ud83d"]')) as server:
        assert ask(server, event_names) == ["A", "😀", r"\ud83d"]


def test_names_are_batched_by_url_length() -> None:
    """No name is omitted, and each batch is as large as a URL allows."""
    names = [f"{number} {'ü' * (number % 50)} 🎉" for number in range(255)]
    batches = list(name_batches(names))
    assert [name for batch in batches for name in batch] == names
    sizes = [len(quote_plus(json.dumps(batch))) for batch in batches]
    assert all(5000 < size <= 6010 for size in sizes[:-1])
    assert list(name_batches([])) == []
    assert list(name_batches(["x" * 9000])) == [["x" * 9000]]


@pytest.mark.parametrize(
    "body",
    [
        b'{"meta":{"dates":["2023-04-29","2023-04-30"]},"data":{"2023-04-29":{}}}',
        b'{"meta":{"dates":[]},"data":{"2023-04-29":{},"Week 17":{}}}',
        b'{"data":{}}',
        b'{"data":{"$overall":{}}}',
        b'{"data":{"2023-04-29":{},"2023-05-01":{}}}',
    ],
)
def test_a_funnel_with_other_days_is_rejected(body: bytes, ask: Asking[object]) -> None:
    """A funnel response with missing, malformed, unrequested or no days is an error."""
    with Server(answer(body)) as server, pytest.raises(BrokenBody, match="of funnel 7"):
        ask(server, days)


@pytest.mark.parametrize(("status", "kind"), [("402 Payment Required", "plan"), ("403 Forbidden", "access")])
def test_402_is_plan_and_403_is_access(status: str, kind: str, ask: Asking[object]) -> None:
    """A 402 has the kind `plan`, a 403 the kind `access`."""
    with Server(answer(b'{"error":"no"}', status=status)) as server, pytest.raises(Refused) as rejected:
        ask(server, cohorts)
    assert rejected.value.kind == kind


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (b'{"$distinct_id":"\xc3\xbc","$properties":{"a":"\xfc"}}', b'"\xc3\xbc"'),
        (rb'{"$distinct_id":"\ud83d","$properties":{"a":"?"}}'.replace(b"?", b"\xfc"), rb'"\ud83d"'),
        (b'{"$distinct_id":"\xfc"}', b"null"),
        (b'{"$distinct_id":7}', b"7"),
        (b"{}", b"null"),
        (b"[]", b"null"),
    ],
)
def test_an_id_must_be_utf8(profile: bytes, expected: bytes) -> None:
    """The id is read if it is UTF-8, whatever the properties hold."""
    assert read_distinct_id(msgspec.Raw(profile)) == expected


def test_cohort_members_have_no_other_filter(ask: Asking[object]) -> None:
    """Members are requested by cohort and group only, with `include_all_users`."""
    page = {"page": 0, "page_size": 9, "session_id": "s", "total": 1, "results": [{"$distinct_id": 4}]}
    with Server(answer(json.dumps(page).encode())) as server:
        for group in (None, "-7"):
            cohort = Cohort(1000, group, is_empty=False, text=b"")
            found = ask(server, lambda client, retrying: list(fetch_members(client, cohort, retrying, page_size=9)))  # noqa: B023
            assert len(found) == 1  # type: ignore[arg-type]
        users, groups = (request.split("\r\n\r\n")[1] for request in server.requests)
    assert "include_all_users=true" in users
    assert "where" not in users
    assert "data_group_id" not in users
    assert groups == users + "&data_group_id=-7"
