"""Snapshots of the catalog and the Singer output of each stream and shape. Renew them with `pytest --renew`."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.harness import Run, catalog_of, run_tap

SNAPSHOTS = Path(__file__).parent / "snapshots"
DAY = dt.date(2024, 1, 15)
EVENTS = [
    # The event in Mixpanel's documentation, and variants: without an insert id, with a numeric id.
    (
        '{"event":"Signed up","properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"hpuDqcvpltpCjBseb",'
        '"mp_processing_time_ms":1705328411874,"$city":"Zürich","Browse Filter":["Under $1000","Books"],"n":1.50}}'
    ),
    '{"event":"Purchase","properties":{"time":1705328401,"distinct_id":42,"amount":9007199254740993,"tax":null}}',
    '{"dataset":"$mixpanel","event":"Visit","properties":{"$insert_id":"","time":1705328402,"$os":"iOS","os":"other"}}',
]
PROFILES: list[dict[str, Any]] = [
    {"$distinct_id": "u1", "$properties": {"$email": "a@example.com", "$last_seen": "2024-01-15T14:20:00", "n": 1}},
    {"$distinct_id": 42, "$properties": {"$name": "Zoë"}},
]
# The cohorts in Mixpanel's documentation, with an undocumented field.
COHORTS: list[dict[str, Any]] = [
    {
        "id": 1000,
        "name": "Cohort One",
        "count": 2,
        "is_visible": 1,
        "description": "Two people",
        "created": "2019-03-19 23:49:51",
        "data_group_id": None,
        "members": ["u1", "no profile"],
    },
    {"id": 2000, "name": "Companies", "data_group_id": -1234567890123456789, "locked": True},
]
ANNOTATIONS: list[dict[str, Any]] = [
    {
        "id": 1,
        "date": "2024-01-15T12:00:00+01:00",
        "description": "Release 1.0",
        "user": {"id": 3, "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "tags": [{"id": 1, "name": "release"}],
    }
]
FUNNELS: list[dict[str, Any]] = [
    {
        "funnel_id": 7509,
        "name": "Signup",
        "days": {
            "2024-01-15": {
                "steps": [
                    {
                        "count": 4,
                        "goal": "App Open",
                        "step_label": None,
                        "event": "App Open",
                        "custom_event": False,
                        "custom_event_id": None,
                        "avg_time": None,
                        "avg_time_from_start": None,
                        "step_conv_ratio": 1,
                        "overall_conv_ratio": 1,
                    },
                    {
                        "count": 1,
                        "goal": "$custom_event:12345",
                        "step_label": "Game Played",
                        "event": "$custom_event:12345",
                        "custom_event": True,
                        "custom_event_id": 12345,
                        "avg_time": 133,
                        "avg_time_from_start": 133.5,
                        "step_conv_ratio": 0.25,
                        "overall_conv_ratio": 0.25,
                    },
                ],
                "analysis": {"completion": 1, "starting_amount": 4, "steps": 2, "worst": 1},
            }
        },
    }
]
SCHEMAS: list[dict[str, Any]] = [
    {
        "entityType": "event",
        "name": "Signed up",
        "schemaJson": {
            "description": "Somebody made an account.",
            "properties": {"method": {"type": "string", "description": "How they signed in."}},
            "metadata": {"com.mixpanel": {"tags": ["core"], "hidden": False, "contacts": ["ada@example.com"]}},
            "draft": True,
        },
        "customEventId": 7,
    },
    {"entityType": "profile", "name": "$user", "schemaJson": {}},
]
# The report in Mixpanel's documentation, and a report without a time axis.
INSIGHTS: dict[int, dict[str, Any]] = {
    1: {
        "computed_at": "2020-09-21T16:35:41.252314+00:00",
        "date_range": {"from_date": "2020-08-31T00:00:00-07:00", "to_date": "2020-09-12T23:59:59.999000-07:00"},
        "headers": ["$event"],
        "series": {
            "Logged in": {"2020-08-31T00:00:00-07:00": 9852, "2020-09-07T00:00:00-07:00": 4325},
            "Viewed page": {"2020-08-31T00:00:00-07:00": 10246, "2020-09-07T00:00:00-07:00": 11432},
        },
    },
    2: {"headers": ["$metric", "$city"], "series": {"Visits": {"$overall": {"all": 3}, "Zürich": {"all": 1.5}}}},
}
REPORTS = [{"name": "Log-ins", "bookmark_id": 1}, {"name": "Cities", "bookmark_id": 2}]
OTHERS = (
    *("cohorts", "cohort_members", "annotations", "funnels"),
    *("event_counts", "lexicon_schemas", "insights"),
)


@pytest.mark.parametrize("raw", [False, True])
def test_the_catalog_matches_its_snapshot(raw: bool, renew: bool) -> None:
    """The discovered catalog equals the stored one."""
    catalog = json.loads(run_tap({"raw": raw}, "--discover").well().stdout)
    check_catalog(f"catalog-{'raw' if raw else 'normalized'}.json", catalog, renew)


@pytest.mark.parametrize("raw", [False, True])
def test_messages_of_default_streams_match_snapshots(raw: bool, renew: bool) -> None:
    """The messages of events and profiles equal the stored ones."""
    project = FixedProject({DAY: [event.encode() for event in EVENTS]}, profiles=PROFILES)
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | {"raw": raw, "start_date": "2024-01-15", "end_date": "2024-01-15"}).well()
    check(f"messages-{'raw' if raw else 'normalized'}.jsonl", timeless(run), renew)


@pytest.mark.parametrize("raw", [False, True])
def test_messages_of_other_streams_match_a_snapshot(raw: bool, renew: bool) -> None:
    """The messages of all other streams equal the stored ones, the same with `raw`."""
    groups: dict[str, list[dict[str, Any]]] = {"-1234567890123456789": []}
    project = FixedProject(
        {DAY: [event.encode() for event in EVENTS]},
        PROFILES,
        groups,
        cohorts=COHORTS,
        annotations=ANNOTATIONS,
        funnels=FUNNELS,
        schemas=SCHEMAS,
        insights=INSIGHTS,
    )
    with Emulator(project, funnel_overall=True) as emulator:
        settings = emulator.settings | {"raw": raw, "start_date": "2024-01-15", "end_date": "2024-01-15"}
        settings |= {"event_names": ["Signed up", "Purchase", "Never"], "insights_reports": REPORTS}
        run = run_tap(settings, catalog=catalog_of(*OTHERS, raw=raw)).well()
    check("messages-others.jsonl", timeless(run), renew)


@pytest.mark.parametrize("raw", [False, True])
def test_a_group_stream_matches_its_snapshots(raw: bool, renew: bool) -> None:
    """Catalog and messages of a group stream equal the stored ones."""
    shape = "raw" if raw else "normalized"
    group = {"group_profiles": [{"name": "companies", "data_group_id": "-77"}], "raw": raw}
    discovered = json.loads(run_tap(group, "--discover").well().stdout)
    discovered["streams"] = [stream for stream in discovered["streams"] if stream["tap_stream_id"] == "companies"]
    with Emulator(FixedProject(group_profiles={"-77": PROFILES})) as emulator:
        run = run_tap(emulator.settings | group, catalog=discovered).well()
    check_catalog(f"catalog-group-{shape}.json", discovered, renew)
    check(f"messages-group-{shape}.jsonl", timeless(run), renew)


def timeless(run: Run) -> str:
    return re.sub(r'"time_extracted":"[^"]+"', '"time_extracted":"…"', run.stdout.decode())


def check(name: str, now: str, renew: bool) -> None:
    file = SNAPSHOTS / name
    if renew:
        file.write_text(now)
    assert now == file.read_text()


def check_catalog(name: str, now: dict[str, Any], renew: bool) -> None:
    """Compare catalogs without regard to the order of keys, which depends on the SDK's version."""
    file = SNAPSHOTS / name
    if renew:
        file.write_text(json.dumps(now, indent=2) + "\n")
    assert now == json.loads(file.read_text())
