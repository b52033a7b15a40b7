from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.contract.openapi import CORRECTIONS, FOLDER, Contract, read
from tests.harness import catalog_of, run_tap

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"Mixpanel's OpenAPI files are not in {FOLDER}, so no request was checked against them"
)

NOW = datetime(2024, 2, 15, 12, tzinfo=UTC)
GROUP = "-1234567890123456789"
# Settings with which a run sends every parameter.
SETTINGS: dict[str, Any] = {
    "start_date": "2024-02-10",
    "end_date": "2024-02-14",
    "event_names": ["Page View", "Search", "Purchase"],
    "events_where": 'properties["$city"] != "nowhere"',
    "time_in_ms": True,
    "window_days": 2,
    "profiles_where": 'properties["plan"] != "none"',
    "profile_properties": ["$email", "$last_seen", "plan"],
    "profiles_page_size": 100,
    "group_profiles": [{"name": "companies", "data_group_id": GROUP}],
    "insights_reports": [{"name": "By day", "bookmark_id": 4001}, {"name": "By city", "bookmark_id": 4002}],
    "workspace_id": "42",
}
# Settings that cannot be combined with others, for runs with only profiles.
PROFILES: list[dict[str, Any]] = [
    {"cohort_id": 1000, "include_all_users": True, "distinct_ids": ["user-000000", "gone-1000-1"]},
    {
        "behaviors": [{"window": "3d", "name": "bought", "event_selectors": [{"event": "Purchase"}]}],
        "profiles_where": 'behaviors["bought"] > 0',
        "as_of_timestamp": 1_707_900_000,
    },
]
Exchange = tuple[requests.PreparedRequest, requests.Response]


def _mixpanels(emulator: Emulator, url: str) -> str:
    """Return the URL that the request would have at Mixpanel."""
    return url.replace(emulator.data_api_url + "/export", "https://data.mixpanel.com/api/2.0/export").replace(
        emulator.api_url, "https://mixpanel.com/api"
    )


def _exchanges(emulator: Emulator) -> list[Exchange]:
    """Return all requests of the run, with the emulator's responses."""
    exchanges = []
    with requests.Session() as session:
        session.trust_env = False
        for seen in list(emulator.requests):
            names = ("authorization", "accept-encoding", "content-type")
            request = requests.Request(
                seen.method,
                f"http://127.0.0.1:{emulator.port}{seen.path}",
                params=seen.query,
                data=seen.form,
                headers={name: seen.headers[name] for name in names if name in seen.headers},
            ).prepare()
            response = session.send(request)
            request.url = _mixpanels(emulator, str(request.url))
            exchanges.append((request, response))
    return exchanges


@pytest.fixture(scope="module")
def recorded() -> list[Exchange]:
    """Return the requests and responses of a run with all streams."""
    project = SyntheticProject(first_day=date(2024, 2, 1), events_per_day=50, profiles=250)
    with Emulator(project, now=lambda: NOW) as emulator:
        config = {**emulator.settings, **SETTINGS}
        catalog = json.loads(run_tap(config, "--discover").stdout)
        for stream in catalog["streams"]:
            next(each for each in stream["metadata"] if not each["breadcrumb"])["metadata"]["selected"] = True
        run = run_tap(config, catalog=catalog).well()
        written = {message["stream"] for message in run.messages if message["type"] == "RECORD"}
        assert written == {stream["tap_stream_id"] for stream in catalog["streams"]}
        by_listed_names = {name: value for name, value in config.items() if name != "event_names"}
        assert run_tap(by_listed_names, catalog=catalog_of("event_counts")).well().records("event_counts")
        for settings in PROFILES:
            own = {**emulator.settings, "start_date": "2024-02-10", "end_date": "2024-02-14", **settings}
            assert run_tap(own, catalog=catalog_of("profiles")).well().records("profiles")
        return _exchanges(emulator)


def test_requests_and_responses_follow_the_contract(recorded: list[Exchange]) -> None:
    """A run of all streams sends only documented requests, and the emulator responds like Mixpanel."""
    contract = Contract()
    assert [problem for exchange in recorded for problem in contract.problems(*exchange)] == []
    assert {response.status_code for _, response in recorded} == {200}


def _sent(recorded: list[Exchange], path: str, **form: str) -> requests.PreparedRequest:
    """Return a copy of the first request to a path, with other form fields."""
    request = next(request for request, _ in recorded if path in str(request.url)).copy()
    if form:
        request.prepare_body({**dict(parse_qsl(str(request.body))), **form}, None)
    return request


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("/export", "from_date=", "first_date="),
        ("/export", "limit=", "limit="),
        ("/export", "time_in_ms=true", "time_in_ms=maybe"),
        ("/engage", "project_id=2526451", "project_id=mine"),
        ("/funnels?", "funnel_id=", "funnel="),
        ("/funnels?", "unit=day", "unit=eon"),
        ("/annotations", "/projects/2526451/", "/projects/mine/"),
        ("/events?", "unit=day", "unit=eon"),
        ("/events?", "from_date=", "first_date="),
        ("/events/names?", "type=general", "type=any"),
        ("/insights?", "bookmark_id=", "report="),
        ("/schemas", "/projects/2526451/", "/projects/mine/"),
    ],
)
def test_an_invalid_request_breaks_the_contract(recorded: list[Exchange], path: str, old: str, new: str) -> None:
    """A parameter that is renamed, or has another type, breaks the contract."""
    request = _sent(recorded, path)
    request.url = str(request.url).replace(old, new) + ("&limit=all" if old == "limit=" else "")
    assert Contract().problems(request)


@pytest.mark.parametrize("form", [{"page": "first"}, {"pagesize": "5"}, {"as_of_timestamp": "today"}])
def test_an_invalid_form_breaks_the_contract(recorded: list[Exchange], form: dict[str, str]) -> None:
    """A form field that is unknown, or has another type, breaks the contract."""
    assert not Contract().problems(_sent(recorded, "/engage"))
    assert Contract().problems(_sent(recorded, "/engage", **form))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/engage", lambda answer: answer | {"page": "0"}),
        ("/engage", lambda answer: answer | {"results": [{"$distinct_id": 1.5}]}),
        ("/cohorts/list", lambda answer: {"cohorts": answer}),
        ("/funnels?", lambda answer: answer | {"data": {"2024-02-01": []}}),
        ("/annotations", lambda answer: answer | {"more": 1}),
        ("/events?", lambda answer: answer | {"data": []}),
        ("/events/names?", lambda answer: {"names": answer}),
        ("/insights?", lambda answer: answer | {"series": []}),
        ("/schemas", lambda answer: answer | {"results": [{"name": "A"}]}),
    ],
)
def test_an_invalid_response_breaks_the_contract(recorded: list[Exchange], path: str, change: Any) -> None:
    """A response of another shape breaks the contract."""
    request, response = next((request, response) for request, response in recorded if path in str(request.url))
    wrong = requests.Response()
    wrong.status_code = 200
    wrong.headers = response.headers
    wrong._content = json.dumps(change(response.json())).encode()
    assert Contract().problems(request, wrong)


def test_a_wrong_content_type_breaks_the_contract(recorded: list[Exchange]) -> None:
    """A response with another content type breaks the contract."""
    request, response = recorded[0]
    wrong = requests.Response()
    wrong.status_code = 200
    wrong.headers = response.headers.copy()
    wrong.headers["Content-Type"] = "text/html"
    wrong._content = response.content
    assert Contract().problems(request, wrong)


def test_every_correction_is_needed() -> None:
    """A mistake that the files no longer have must be removed from the list."""
    for correction in CORRECTIONS:
        place: Any = read(correction.place[0])
        *parents, last = correction.place[1:]
        for key in parents:
            place = place[key]
        assert place.get(last) != correction.right, correction
