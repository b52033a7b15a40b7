"""All streams at once, from an emulator with all behaviors and faults seen in Mixpanel."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, Paging, Quota, SyntheticProject
from tests.harness import run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here

if TYPE_CHECKING:
    from collections.abc import Iterable

GROUP = "-1234567890123456789"
FIRST, LAST = dt.date(2020, 12, 26), dt.date(2021, 1, 9)
NOW = dt.datetime(2021, 1, 10, 20, tzinfo=dt.UTC)
SETTINGS: dict[str, Any] = {
    "raw": True,
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "project_timezone": "America/Los_Angeles",
    "window_days": 2,
    "group_profiles": [{"name": "companies", "data_group_id": GROUP}],
    "insights_reports": [{"name": "By day", "bookmark_id": 4001}, {"name": "By city", "bookmark_id": 4002}],
}
# A project created before 2023, so with local times, and with rows of 2020, which lack a receipt time. Events become
# visible with a delay.
PROJECT = SyntheticProject(
    first_day=FIRST,
    events_per_day=150,
    profiles=1203,
    groups={GROUP: 450},
    zone="America/Los_Angeles",
    visibility_delay=dt.timedelta(minutes=45),
)
# One of each transient fault, with a fault on each endpoint.
FAULTS = [
    Fault("export", 1, "sentinel:terminated early"),
    Fault("export", 3, "gzip-no-trailer"),
    Fault("export", 5, "status:429-concurrent"),
    Fault("engage", 2, "session-expired"),
    Fault("engage", 5, "cut-json"),
    Fault("engage", 8, "status:502"),
    Fault("cohorts", 1, "status:503"),
    Fault("annotations", 1, "chunk-cut"),
    Fault("funnels", 2, "status:429", value="seconds"),
    Fault("event_counts", 1, "gzip-cut"),
    Fault("schemas", 1, "status:504"),
    Fault("insights", 1, "page-html"),
]
PAGINGS = [
    Paging("every", beyond_end="error"),
    Paging("first", rotate_session_ids=True),
    Paging("none", rotate_session_ids=True),
]


@cache
def catalog() -> dict[str, Any]:
    """Return the catalog of the project with every stream selected."""
    catalog: dict[str, Any] = json.loads(run_tap(SETTINGS, "--discover").stdout)
    for stream in catalog["streams"]:
        next(each for each in stream["metadata"] if not each["breadcrumb"])["metadata"]["selected"] = True
    return catalog


def served(paging: Paging, quota: Quota) -> Emulator:
    return Emulator(
        PROJECT, faults=FAULTS, quota=quota, now=lambda: NOW, max_page_size=300, funnel_overall=True, paging=paging
    )


def multiset(rows: Iterable[object]) -> Counter[str]:
    return Counter(json.dumps(row, sort_keys=True) for row in rows)


def check_everything_was_delivered(emulator: Emulator, stdout: bytes) -> None:
    records: dict[str, list[Any]] = defaultdict(list)
    for message in map(json.loads, stdout.split(b"\n")[:-1]):
        if message["type"] == "RECORD":
            records[message["stream"]].append(message["record"])
    applied = {fault for seen in emulator.requests for fault in seen.faults}
    assert applied == {fault.name for fault in FAULTS}
    lines = [json.loads(line) for line in PROJECT.lines(FIRST, LAST, now=NOW)]
    assert any("$mp_api_timestamp_ms" not in line["properties"] for line in lines)
    assert multiset(records["events"]) == multiset(lines)
    # A restarted session can deliver a profile twice, but never a wrong one.
    for stream, group in (("profiles", None), ("companies", GROUP)):
        assert set(multiset(records[stream])) == set(multiset(PROJECT.profiles(group, now=NOW)))
    assert {row["id"] for row in records["cohorts"]} == {1000, 1001}
    assert {(row["cohort_id"], row["distinct_id"]) for row in records["cohort_members"]} == {
        (cohort, str(member)) for cohort in (1000, 1001) for member in PROJECT.cohort_members(cohort) or ()
    }
    assert [row["date"] for row in records["annotations"]] == [row["date"] for row in PROJECT.annotations()]
    days = (LAST - FIRST).days + 1
    assert Counter(row["funnel_id"] for row in records["funnels"]) == {7509: days, 9070: days}
    counted = Counter[str]()
    for row in records["event_counts"]:
        counted[row["event_name"]] += row["count"]
    # Duplicates count once if they have an insert id.
    distinct = {
        json.dumps([line["event"], *(line["properties"].get(name) for name in ("distinct_id", "time"))])
        + line["properties"].get("$insert_id", str(number))
        for number, line in enumerate(lines)
    }
    assert counted == Counter(event.split('"')[1] for event in distinct)
    assert {(row["entity_type"], row["name"]) for row in records["lexicon_schemas"]} == {
        (schema["entityType"], schema["name"]) for schema in PROJECT.schemas()
    }
    assert Counter(row["report_id"] for row in records["insights"]) == {4001: 3 * 14, 4002: 3}
    # A new stream needs a check above.
    assert {stream["tap_stream_id"] for stream in catalog()["streams"]} == records.keys()


def test_a_run_of_all_streams_delivers_everything() -> None:
    """Everything is delivered despite faults, without waiting for quota."""
    quota = Quota(query_concurrent=2, retry_after="seconds", rate_headers=True)
    with served(PAGINGS[1], quota) as emulator:
        run = run_tap({**emulator.settings, **SETTINGS}, catalog=catalog()).well()
        check_everything_was_delivered(emulator, run.stdout)


@pytest.mark.parametrize("paging", PAGINGS, ids=lambda paging: paging.fields)
def test_a_small_quota_loses_nothing(paging: Paging) -> None:
    """Everything is delivered with any paging when both quotas are used up several times."""
    clock = FakeClock(NOW)
    quota = Quota(hourly=6, retry_after="seconds", rate_headers=True, clock=clock.monotonic)
    with served(paging, quota) as emulator:
        result = run_here({**emulator.settings, **SETTINGS, "max_quota_wait": 86_400}, clock, catalog=catalog())
        assert result.error is None
        # Two hours, minus the time that the run itself takes.
        assert result.waited > 2 * 3600 - 120
        check_everything_was_delivered(emulator, result.stdout)
