from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, Paging, SyntheticProject
from tests.emulator.client import Answered, ask, engage

PEOPLE: list[dict[str, object]] = [
    {"$distinct_id": "a", "$properties": {"$name": "Zürich", "plan": "pro", "$created": "2024-01-01T00:00:00"}},
    {"$distinct_id": 7, "$properties": {"plan": "free", "$created": "2024-02-01T00:00:00"}},
    {"$distinct_id": "c", "$properties": {"plan": "pro", "$last_seen": "2024-03-01T10:00:00"}},
]
COHORTS = [{"id": 5, "name": "Some", "members": ["a", "gone", 7]}]
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)


def fixed() -> FixedProject:
    events = {date(2024, 5, 31): [b'{"event":"buy","properties":{"distinct_id":"a"}}', b"{broken"] * 2}
    groups = {"-123": [{"$distinct_id": "g1", "$properties": {"seats": 3}}]}
    return FixedProject(events, PEOPLE, groups, cohorts=COHORTS)


def ids(answer: Answered) -> list[object]:
    return [each["$distinct_id"] for each in answer.json["results"]]


def test_a_page_has_the_documented_shape() -> None:
    """A page has the documented keys."""
    with Emulator(fixed()) as emulator:
        answer = engage(emulator).json
    assert answer.pop("session_id")
    assert answer == {"page": 0, "page_size": 1000, "status": "ok", "total": 3, "results": PEOPLE}


def test_pages_of_a_session() -> None:
    """Pages of one session return all profiles, with the same total and session id."""
    project = SyntheticProject(profiles=2500)
    with Emulator(project, now=lambda: NOW) as emulator:
        first = engage(emulator)
        session = first.json["session_id"]
        pages = [first, *(engage(emulator, page=page, session_id=session) for page in (1, 2, 3))]
    assert [len(page.json["results"]) for page in pages] == [1000, 1000, 500, 0]
    assert {page.json["total"] for page in pages} == {2500}
    assert {page.json["session_id"] for page in pages} == {session}
    every = [each for page in pages for each in page.json["results"]]
    assert every == list(project.profiles(None, now=NOW))
    assert first.headers["content-encoding"] == "gzip"
    assert "content-length" in first.headers


def test_a_session_is_a_snapshot() -> None:
    """Later pages of a session show the profiles as of its first page."""
    clock = [datetime(2024, 2, 1, tzinfo=UTC)]
    with Emulator(SyntheticProject(profiles=20), now=lambda: clock[0]) as emulator:
        session = engage(emulator, page_size=10).json["session_id"]
        clock[0] = NOW
        page = engage(emulator, page_size=10, page=1, session_id=session).json
    assert page["results"] == list(emulator.project.profiles(None, now=datetime(2024, 2, 1, tzinfo=UTC)))[10:]


def pages_of(paging: Paging, count: int) -> list[Answered]:
    """Request pages of two profiles out of three, each with the latest session id."""
    with Emulator(fixed(), paging=paging) as emulator:
        answers = [engage(emulator, page_size=2)]
        session = answers[0].json["session_id"]
        for number in range(1, count):
            answers.append(engage(emulator, page_size=2, page=number, session_id=session))
            session = answers[-1].json.get("session_id", session)
    return answers


def test_pages_can_omit_size_total_and_session() -> None:
    """A first page always has its session id."""
    own, fields = {"page", "status", "results"}, {"page_size", "total", "session_id"}
    every, first, none = Paging(fields="every"), Paging(fields="first"), Paging(fields="none")
    assert [page.json.keys() for page in pages_of(every, 2)] == [own | fields, own | fields]
    assert [page.json.keys() for page in pages_of(first, 2)] == [own | fields, own]
    assert [page.json.keys() for page in pages_of(none, 2)] == [own | {"session_id"}, own]


def test_a_page_beyond_the_end() -> None:
    """A page beyond the end is empty, or as configured a 400 or the first page again."""
    assert ids(pages_of(Paging(), 3)[2]) == []
    assert pages_of(Paging(beyond_end="error"), 3)[2].error == "request for page in uncached query for params"
    assert ids(pages_of(Paging(beyond_end="first"), 3)[2]) == ["a", 7]


def test_totals_can_be_off_and_session_ids_change() -> None:
    """With new session ids on each page the older ones stay valid."""
    pages = [page.json for page in pages_of(Paging(total_excess=2, rotate_session_ids=True), 3)]
    assert [page["total"] for page in pages] == [5, 5, 5]
    assert len({page["session_id"] for page in pages}) == 3


@pytest.mark.parametrize("form", [{}, {"session_id": "123-NONE"}])
def test_a_later_page_needs_a_valid_session(form: dict[str, str]) -> None:
    """A later page without a valid session id gets a 400."""
    with Emulator(fixed()) as emulator:
        answer = engage(emulator, page=1, **form)
    assert (answer.status, answer.error) == (400, "request for page in uncached query for params")


def test_a_session_is_bound_to_its_parameters() -> None:
    """A session id with other parameters gets a 400."""
    with Emulator(fixed()) as emulator:
        session = engage(emulator).json["session_id"]
        answer = engage(emulator, page=1, session_id=session, where="true")
    assert answer.status == 400


def test_a_session_expires() -> None:
    """After its lifetime a session gets a 400."""
    with Emulator(fixed(), session_lifetime=0.05) as emulator:
        session = engage(emulator).json["session_id"]
        assert engage(emulator, page=1, session_id=session).status == 200
        time.sleep(0.1)
        assert engage(emulator, page=1, session_id=session).error == "request for page in uncached query for params"


def test_a_page_size_over_the_maximum_is_lowered() -> None:
    """A page size over the maximum is lowered, and the response contains the size used."""
    with Emulator(fixed(), max_page_size=2) as emulator:
        answer = engage(emulator, page_size=5000).json
    assert (answer["page_size"], len(answer["results"]), answer["total"]) == (2, 2, 3)


def test_where_accepts_properties_and_user() -> None:
    """`where` reads a profile as `properties` or as `user`."""
    with Emulator(fixed()) as emulator:
        assert ids(engage(emulator, where='properties["plan"] == "pro"')) == ["a", "c"]
        assert ids(engage(emulator, where='user["$last_seen"] >= "2024-01-15T00:00:00"')) == ["c"]
        assert ids(engage(emulator, where='properties["$distinct_id"] == 7')) == [7]


def test_output_properties_select_properties() -> None:
    """`output_properties` selects the properties returned."""
    with Emulator(fixed()) as emulator:
        results = engage(emulator, output_properties='["plan"]').json["results"]
    assert [each["$properties"] for each in results] == [{"plan": "pro"}, {"plan": "free"}, {"plan": "pro"}]


def test_distinct_ids_are_compared_as_text() -> None:
    """`distinct_id` and `distinct_ids` match numeric ids as text."""
    with Emulator(fixed()) as emulator:
        assert ids(engage(emulator, distinct_id="7")) == [7]
        assert ids(engage(emulator, distinct_ids='["a", 7, "nobody"]')) == ["a", 7]


def test_groups_have_their_own_profiles() -> None:
    """`data_group_id` selects the profiles of a group."""
    with Emulator(fixed()) as emulator:
        assert ids(engage(emulator, data_group_id="-123")) == ["g1"]
        assert ids(engage(emulator, data_group_id="99")) == []


def test_a_cohort_includes_members_without_a_profile() -> None:
    """Members without a profile are included unless `include_all_users` is false."""
    cohort = json.dumps({"id": 5})
    with Emulator(fixed()) as emulator:
        everyone = engage(emulator, filter_by_cohort=cohort)
        known = engage(emulator, filter_by_cohort=cohort, include_all_users="false")
        pages: list[Any] = [engage(emulator, filter_by_cohort=cohort, page_size=2).json]
        pages.append(
            engage(emulator, filter_by_cohort=cohort, page_size=2, page=1, session_id=pages[0]["session_id"]).json
        )
    assert ids(everyone) == ["a", 7, "gone"]
    assert everyone.json["results"][-1] == {"$distinct_id": "gone", "$properties": {}}
    assert ids(known) == ["a", 7]
    assert [each["$distinct_id"] for page in pages for each in page["results"]] == ["a", 7, "gone"]


def test_a_cohort_of_a_deleted_group_is_404() -> None:
    """Members of a cohort whose group was deleted get a 404 `Missing Datagroup`."""
    project = FixedProject(cohorts=[{"id": 5, "name": "", "data_group_id": -77, "members": ["company"]}])
    with Emulator(project) as emulator:
        answer = engage(emulator, filter_by_cohort='{"id":5}', data_group_id="-77")
    assert (answer.status, answer.error) == (404, "Missing Datagroup")


def test_as_of_omits_profiles_created_later() -> None:
    """`as_of_timestamp` omits profiles created later."""
    moment = int(datetime(2024, 1, 15, tzinfo=UTC).timestamp())
    with Emulator(fixed()) as emulator:
        assert ids(engage(emulator, as_of_timestamp=moment)) == ["a", "c"]


def test_behaviors_count_events() -> None:
    """`behaviors` counts events that `where` can compare."""
    behaviors = json.dumps([{"window": "30d", "name": "b", "event_selectors": [{"event": "buy"}]}])
    with Emulator(fixed(), now=lambda: NOW) as emulator:
        assert ids(engage(emulator, behaviors=behaviors, where='behaviors["b"] > 1')) == ["a"]
        assert ids(engage(emulator, behaviors=behaviors, where='behaviors["b"] == 0')) == [7, "c"]


def test_behaviors_need_as_of_for_a_second_page() -> None:
    """With `behaviors` a second page gets a 400 unless `as_of_timestamp` is set."""
    behaviors = json.dumps([{"window": "1d", "name": "b", "event_selectors": []}])
    with Emulator(SyntheticProject(profiles=1001, events_per_day=1)) as emulator:
        for instant, status in (({}, 400), ({"as_of_timestamp": 1_720_000_000}, 200)):
            first = engage(emulator, behaviors=behaviors, **instant)
            assert (first.status, len(first.json["results"])) == (200, 1000)
            second = engage(emulator, behaviors=behaviors, page=1, session_id=first.json["session_id"], **instant)
            assert second.status == status
    # Only the session with an instant has a second page.
    assert second.json["total"] == 1001


def test_a_data_view_filters_profiles() -> None:
    """`workspace_id` filters by a data view, an unknown one gets an error."""
    with Emulator(fixed(), data_views={"9": 'properties["plan"] == "pro"'}) as emulator:
        url = f"{emulator.api_url}/query/engage"
        answers = [ask(emulator, url, query, form={}) for query in ({}, {"workspace_id": "9"}, {"workspace_id": "8"})]
        assert [ids(answer) for answer in answers[:2]] == [["a", 7, "c"], ["a", "c"]]
        assert "workspace_id" in answers[2].error
    with Emulator(fixed()) as emulator:
        url = f"{emulator.api_url}/query/engage"
        assert ids(ask(emulator, url, {"workspace_id": "9"}, form={})) == ["a", 7, "c"]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"filter_by_cohort": "5"}, "filter_by_cohort must be an object"),
        ({"filter_by_cohort": '{"id":6}'}, "no cohort 6"),
        ({"filter_by_cohort": '{"id":5}', "behaviors": "[]"}, "cannot be used together"),
        ({"behaviors": "[1]"}, "Invalid parameter: behaviors"),
        ({"distinct_ids": "a"}, "distinct_ids must be JSON"),
        ({"distinct_ids": json.dumps(list(range(2001)))}, "at most 2000"),
        ({"output_properties": '"plan"'}, "output_properties must be a JSON list"),
        ({"page_size": "0"}, "page_size must be at least 1"),
        ({"page": "x"}, "page must be an integer"),
        ({"page": "-1"}, "page must not be negative"),
        ({"as_of_timestamp": "9" * 30}, "as_of_timestamp"),
        ({"where": "plan"}, "Invalid parameter: where"),
    ],
)
def test_an_invalid_engage_parameter_is_rejected(form: dict[str, str], text: str) -> None:
    """An invalid parameter gets a 400 that names it."""
    with Emulator(fixed()) as emulator:
        answer = engage(emulator, **form)
    assert answer.status == 400
    assert text in answer.error


def test_engage_requests_are_recorded() -> None:
    """The emulator records kind, method, form and query of a request."""
    with Emulator(fixed()) as emulator:
        engage(emulator, where='properties["x"] == "ü"')
    (seen,) = emulator.requests
    assert (seen.kind, seen.method, seen.form, seen.query["project_id"]) == (
        "engage",
        "POST",
        {"where": 'properties["x"] == "ü"'},
        "2526451",
    )
