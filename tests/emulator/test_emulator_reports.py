"""Event counts, saved Insights reports and the Lexicon in the emulator."""

from __future__ import annotations

import datetime as dt
import json
from functools import partial
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, Quota, SyntheticProject
from tests.emulator.client import Answered, ask, basic

DAY = dt.date(2024, 1, 15)
NOW = dt.datetime(2024, 1, 20, 12, tzinfo=dt.UTC)


def event(name: str, user: str = "u", insert_id: str | None = "i", time: float = 1705328400) -> bytes:
    own = {} if insert_id is None else {"$insert_id": insert_id}
    return json.dumps({"event": name, "properties": {"time": time, "distinct_id": user, **own}}).encode()


PROJECT = FixedProject(
    {
        dt.date(2023, 12, 1): [event("Old")],
        DAY: [
            *(event("A"), event("A"), event("A", "another"), event("A", insert_id="j"), event("A", time=1705328401)),
            *(event("B", insert_id=None), event("B", insert_id=None), event("B", insert_id="")),
            b"no event",
        ],
        dt.date(2024, 1, 17): [event("A")],
    },
    schemas=[{"entityType": "event", "name": "A", "schemaJson": {}}],
    insights={7: {"headers": [], "series": {}}},
)
COUNTED = {"event": '["A","B","Never"]', "type": "general", "unit": "day"}


def query(path: str, **parameters: str) -> Answered:
    with Emulator(PROJECT, now=lambda: NOW) as emulator:
        return ask(emulator, f"{emulator.api_url}/query/{path}", parameters)


def test_event_counts_exclude_duplicates() -> None:
    """Events with equal name, time, user and insert id count once."""
    answer = query("events", **COUNTED, from_date="2024-01-14", to_date="2024-01-17").json
    assert answer == {
        "data": {
            "series": ["2024-01-14", "2024-01-15", "2024-01-16", "2024-01-17"],
            "values": {"A": {"2024-01-15": 4, "2024-01-17": 1}, "B": {"2024-01-15": 3}, "Never": {}},
        },
        "legend_size": 3,
    }


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"event": None}, "Missing required parameter: event"),
        ({"event": "A"}, "event must be a JSON list of strings"),
        ({"event": "[1]"}, "event must be a JSON list of strings"),
        ({"type": None}, "Missing required parameter: type"),
        ({"type": "unique"}, "type"),
        ({"unit": "week"}, "unit"),
        ({"from_date": None}, "Missing required parameter: from_date"),
        ({"from_date": "2024-01-18"}, "from_date cannot be later than to_date"),
        ({"format": "csv"}, "format"),
        ({"where": "1"}, "unknown parameter 'where'"),
    ],
)
def test_an_invalid_event_counts_parameter_is_rejected(parameters: dict[str, Any], text: str) -> None:
    """A missing, invalid or unknown parameter gets a 400."""
    given = {**COUNTED, "from_date": "2024-01-14", "to_date": "2024-01-17", **parameters}
    answer = query("events", **{name: value for name, value in given.items() if value is not None})
    assert answer.status == 400
    assert text in answer.error


def test_event_names_are_of_the_last_31_days() -> None:
    """The most frequent names come first, at most 255."""
    assert query("events/names", type="general").json == ["A", "B"]
    assert query("events/names", type="general", limit="1").json == ["A"]
    many = FixedProject({DAY: [event(f"{number}", insert_id=None) for number in range(300)]})
    with Emulator(many, now=lambda: NOW) as emulator:
        url = f"{emulator.api_url}/query/events/names"
        assert len(ask(emulator, url, {"type": "general", "limit": "1000"}).json) == 255


def test_an_insights_report_is_found_by_bookmark_id() -> None:
    """An unknown `bookmark_id` gets a 400."""
    assert query("insights", bookmark_id="7").json == {"headers": [], "series": {}}
    for number in ("8", "seven", ""):
        answer = query("insights", bookmark_id=number)
        assert (answer.status, "bookmark_id" in answer.error) == (400, True)


def test_the_lexicon_needs_a_service_account() -> None:
    """An OAuth token or a project secret gets a 401."""
    with Emulator(PROJECT) as emulator:
        url = f"{emulator.api_url}/app/projects/2526451/schemas"
        assert ask(emulator, url).json == {"status": "ok", "results": list(PROJECT.schemas())}
        own = emulator.credentials
        for authorization in (f"Bearer {own.oauth_token}", basic(own.project_secret, "")):
            assert ask(emulator, url, headers={"Authorization": authorization}).status == 401


def test_the_lexicon_allows_five_requests_a_minute() -> None:
    """The sixth request in a minute gets a 429, and other quotas are unaffected."""
    seconds = 0.0
    quota = Quota(hourly=1, clock=lambda: seconds, retry_after="seconds")
    with Emulator(PROJECT, quota=quota) as emulator:
        url = f"{emulator.api_url}/app/projects/2526451/schemas"
        answers = [ask(emulator, url) for _ in range(6)]
        seconds = 60.0
        answers.append(ask(emulator, url))
        assert ask(emulator, f"{emulator.api_url}/query/events/names", {"type": "general"}).status == 200
    assert [answer.status for answer in answers] == [200] * 5 + [429, 200]
    assert answers[5].headers["retry-after"] == "60"


def test_synthetic_counts_match_the_export() -> None:
    """Counts are by the project's days, without rows that are not yet visible."""
    project = SyntheticProject(first_day=DAY, events_per_day=300, zone="America/New_York")
    for now in (NOW, dt.datetime(2024, 1, 15, 20, tzinfo=dt.UTC)):
        with Emulator(project, now=partial(dt.datetime.fromtimestamp, now.timestamp(), dt.UTC)) as emulator:
            names = ask(emulator, f"{emulator.api_url}/query/events/names", {"type": "general"}).json
            parameters = {**COUNTED, "event": json.dumps(names), "from_date": str(DAY), "to_date": str(DAY)}
            answer = ask(emulator, f"{emulator.api_url}/query/events", parameters).json
        lines = [json.loads(line) for line in project.lines(DAY, DAY, now=now)]
        keys = {
            (line["event"], own.get("distinct_id"), own["time"], own.get("$insert_id", number))
            for number, line in enumerate(lines)
            for own in [line["properties"]]
        }
        counted = sum(sum(days.values()) for days in answer["data"]["values"].values())
        assert counted == len(keys) < len(lines)
