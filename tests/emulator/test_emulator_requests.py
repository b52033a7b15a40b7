from __future__ import annotations

import json
from datetime import date
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.emulator.client import basic

DAY = date(2024, 3, 1)
PEOPLE: list[dict[str, object]] = [{"$distinct_id": each, "$properties": {}} for each in ("a", "b", "c")]
PROJECT = FixedProject(
    {DAY: [b'{"event":"a","properties":{"n":1}}', b'{"event":"b","properties":{"n":2}}']},
    PEOPLE,
    cohorts=[{"id": 5, "name": "Some", "members": ["a"]}],
    annotations=[{"id": 1, "date": "2024-03-01 12:00:00"}],
    funnels=[{"funnel_id": 7, "name": "Signup", "days": {"2024-03-01": {"steps": []}}}],
)


def ask(method: str, target: str, body: str = "", content_type: str | None = None) -> tuple[int, Any]:
    """Send exactly this request with the service account."""
    with Emulator(PROJECT) as emulator:
        own = emulator.credentials
        headers = {"Authorization": basic(own.username, own.secret)}
        if content_type is not None:
            headers["Content-Type"] = content_type
        connection = HTTPConnection("127.0.0.1", emulator.port)
        connection.request(method, target, body=body or None, headers=headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
    return response.status, text if response.headers["Content-Type"].startswith("text/plain") else json.loads(text)


def ids(answer: tuple[int, Any]) -> list[str]:
    assert answer[0] == 200, answer
    return [each["$distinct_id"] for each in answer[1]["results"]]


def with_project(target: str) -> str:
    """Return a target with project_id, which the app API has in its path."""
    return target if "/api/app/" in target else f"{target}&project_id=2526451"


FORM, JSON = "application/x-www-form-urlencoded", "application/json"
PARAMETERS = {"project_id": "2526451", "distinct_ids": '["a","b"]'}


@pytest.mark.parametrize(
    ("method", "query", "body", "content_type"),
    [
        ("GET", PARAMETERS, "", None),
        ("POST", PARAMETERS, "", None),
        ("POST", {}, urlencode(PARAMETERS), FORM),
        ("POST", {}, urlencode(PARAMETERS), f"{FORM}; charset=utf-8"),
        ("POST", {}, json.dumps(PARAMETERS), JSON),
        ("POST", {}, json.dumps({"project_id": 2526451, "distinct_ids": ["a", "b"], "where": None}), JSON),
        ("POST", {"project_id": "2526451"}, json.dumps({"distinct_ids": ["a", "b"]}), JSON),
        ("POST", {"project_id": "1", "distinct_ids": '["c"]'}, urlencode(PARAMETERS), FORM),
    ],
)
def test_parameters_are_read_from_url_form_and_json(
    method: str, query: dict[str, str], body: str, content_type: str | None
) -> None:
    """Parameters, project_id included, may be in the URL, a form or JSON; the body wins."""
    assert ids(ask(method, f"/api/query/engage?{urlencode(query)}", body, content_type)) == ["a", "b"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/2.0/export/?from_date=2024-03-01&to_date=2024-03-01"),
        ("GET", "/api/2.0/engage?"),
        ("POST", "/api/2.0/engage/?"),
        ("POST", "/api/query/engage/?"),
        ("GET", "/api/2.0/cohorts/list?"),
        ("POST", "/api/2.0/cohorts/list/?"),
        ("GET", "/api/query/cohorts/list?"),
        ("GET", "/api/2.0/funnels/list/?"),
        ("GET", "/api/2.0/funnels?funnel_id=7&from_date=2024-03-01&to_date=2024-03-01"),
        ("GET", "/api/query/funnels/?funnel_id=7&from_date=2024-03-01&to_date=2024-03-01"),
        ("GET", "/api/app/projects/2526451/annotations/?"),
    ],
)
def test_older_paths_and_trailing_slashes_work(method: str, target: str) -> None:
    """The query API is also under /api/2.0, and a path may end with a slash."""
    status, answer = ask(method, with_project(target))
    assert status == 200
    assert answer


@pytest.mark.parametrize(
    "target",
    [
        "/api/2.0/export?from_date=2024-03-01&to_date=2024-03-01&page=1",
        "/api/query/engage?pagesize=5",
        "/api/query/cohorts/list?where=true",
        "/api/query/funnels/list?funnel_ids=7",
        "/api/query/funnels?funnel_id=7&from_date=2024-03-01&to_date=2024-03-01&days=3",
        "/api/app/projects/2526451/annotations?from_date=2024-03-01",
        "/api/app/projects/2526451/annotations?project_id=2526451",
    ],
)
def test_an_unknown_parameter_is_rejected(target: str) -> None:
    """Each endpoint rejects a parameter that it does not know, and names it."""
    name = target.rpartition("&" if "&" in target else "?")[2].partition("=")[0]
    status, answer = ask("GET", with_project(target))
    assert (status, answer["error"]) == (400, f"Invalid parameter: unknown parameter '{name}'")


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("[1]", JSON, "must be a JSON object"),
        ("{", JSON, "must be a JSON object"),
        ("<a/>", "text/xml", "Unsupported Content-Type: text/xml"),
    ],
)
def test_an_unreadable_body_is_rejected(body: str, content_type: str, text: str) -> None:
    """A body that is not a form or JSON object is rejected rather than ignored."""
    status, answer = ask("POST", "/api/query/engage?project_id=2526451", body, content_type)
    assert status == 400
    assert text in answer["error"]


def test_the_project_in_the_body_is_checked() -> None:
    """A foreign project_id in the body is rejected even if the URL has the right one."""
    target = "/api/query/engage?project_id=2526451"
    assert ask("POST", target, "project_id=99", FORM)[0] == 403
