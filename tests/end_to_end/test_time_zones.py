"""Time zones: a setting that does not fit is told once, one that fits never."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.pipeline import Run, run_tap

FIRST = dt.date(2022, 1, 10)


def legacy(zone: str, events_per_day: int = 120) -> SyntheticProject:
    return SyntheticProject(seed=3, first_day=FIRST, events_per_day=events_per_day, profiles=20, zone=zone)


def read(project: SyntheticProject, catalog: dict[str, Any], last: str = "2022-01-13", **settings: object) -> Run:
    with Emulator(project) as emulator:
        config = emulator.settings | {"start_date": FIRST.isoformat(), "end_date": last} | settings
        return run_tap(config, catalog=catalog).well()


@pytest.mark.parametrize("way", [{}, {"time_in_ms": True}, {"window_days": 4}, {"worker_processes": 2}])
@pytest.mark.parametrize("raw", [False, True])
def test_an_old_project_read_as_utc_is_warned_about_once(
    raw: bool, way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    run = read(legacy("America/New_York"), only_raw_events if raw else only_events, raw=raw, **way)
    [warning] = run.problems
    assert "project_timezone is UTC" in warning
    assert "UTC-05:00 in 2022-01" in warning
    assert "America/New_York" in warning
    assert "Project Settings" in warning
    assert len(run.records()) == 4 * 120


@pytest.mark.parametrize("raw", [False, True])
def test_a_utc_project_read_with_a_zone_is_warned_about_once(
    raw: bool, only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    run = read(legacy("UTC"), only_raw_events if raw else only_events, raw=raw, project_timezone="Asia/Kolkata")
    [warning] = run.problems
    assert "project_timezone is Asia/Kolkata" in warning
    assert "at UTC in 2022-01" in warning
    assert "leave project_timezone out" in warning


@pytest.mark.parametrize("in_ms", [False, True])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def test_a_setting_that_fits_is_not_warned_about(zone: str, in_ms: bool, only_events: dict[str, Any]) -> None:
    run = read(legacy(zone), only_events, project_timezone=zone, time_in_ms=in_ms)
    assert run.problems == []


def test_a_summer_that_differs_is_noticed_when_it_comes(only_events: dict[str, Any]) -> None:
    winter = read(legacy("Europe/London"), only_events)
    assert winter.problems == []
    year = read(legacy("Europe/London", events_per_day=20), only_events, last="2022-07-31")
    [warning] = year.problems
    assert "UTC in 2022-01 and UTC+01:00 in 2022-0" in warning
    assert "Europe/London" in warning


def test_the_right_zone_fits_through_a_year_of_clock_changes(only_events: dict[str, Any]) -> None:
    project = legacy("America/New_York", events_per_day=20)
    run = read(project, only_events, last="2022-12-31", project_timezone="America/New_York")
    assert run.problems == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_with_the_right_zone_an_event_happens_just_before_it_is_received(
    zone: str, only_events: dict[str, Any]
) -> None:
    records = read(legacy(zone), only_events, project_timezone=zone, time_in_ms=True).records()
    lags = sorted(
        record["properties"]["$mp_api_timestamp_ms"] - in_ms(record["event_time"])
        for record in records
        if "$mp_api_timestamp_ms" in record["properties"]
    )
    assert lags[0] >= 0
    assert lags[len(lags) // 2] < 5000


def in_ms(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


def test_time_in_ms_reaches_raw_records_as_it_came(only_raw_events: dict[str, Any]) -> None:
    project = legacy("Europe/Berlin")
    run = read(project, only_raw_events, raw=True, time_in_ms=True, project_timezone="Europe/Berlin")
    now = dt.datetime.now(dt.UTC)
    lines = project.lines(FIRST, dt.date(2022, 1, 13), now=now, in_ms=True)
    expected = Counter(json.loads(line)["properties"]["time"] for line in lines)
    assert Counter(record["properties"]["time"] for record in run.records()) == expected
    assert any(time % 1000 for time in expected)
    assert min(expected) > 10**12
