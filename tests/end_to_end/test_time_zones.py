"""Time zones: a first load that does not fit UTC fails; a wrong `project_timezone` is a warning."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import Run, run_tap

if TYPE_CHECKING:
    from tap_mixpanel_stream.emulator.project import Project

FIRST = dt.date(2022, 1, 10)


NEW_YORK = ZoneInfo("America/New_York")
WAYS: list[dict[str, Any]] = [
    {},
    {"time_in_ms": True},
    {"window_days": 4},
    {"concurrent_exports": 3, "window_days": 1},
    {"worker_processes": 2},
    {"backfill": "newest_first"},
]


def legacy(zone: str, events_per_day: int = 120) -> SyntheticProject:
    return SyntheticProject(seed=3, first_day=FIRST, events_per_day=events_per_day, profiles=20, zone=zone)


def tap(project: Project, catalog: dict[str, Any], state: dict[str, Any] | None = None, **settings: Any) -> Run:
    with Emulator(project) as emulator:
        config = emulator.settings | {"start_date": FIRST.isoformat(), "end_date": "2022-01-13"} | settings
        return run_tap(config, catalog=catalog, state=state)


def read(project: SyntheticProject, catalog: dict[str, Any], last: str = "2022-01-13", **settings: Any) -> Run:
    return tap(project, catalog, end_date=last, **settings).well()


def rows(zone: ZoneInfo, days: dict[int, int], **properties: object) -> FixedProject:
    """Return a project with local times of a zone, and events by day offset from `FIRST`."""
    events = {}
    for number, count in days.items():
        start = dt.datetime.combine(FIRST + dt.timedelta(days=number), dt.time(9), zone)
        offset = start.utcoffset()
        assert offset is not None
        instants = [int(start.timestamp()) + 61 * each for each in range(count)]
        events[FIRST + dt.timedelta(days=number)] = [
            json.dumps(
                {
                    "event": "A",
                    "properties": {
                        "time": at + int(offset.total_seconds()) + 1,
                        "$insert_id": str(at),
                        "mp_processing_time_ms": 1000 * at + 2500,
                        **properties,
                    },
                }
            ).encode()
            for at in instants
        ]
    return FixedProject(events, zone=zone.key)


def error_before_the_first_record(run: Run) -> str:
    assert run.exit_code == 1
    assert [message["type"] for message in run.messages if message["type"] in {"RECORD", "STATE"}] == []
    [error] = run.errors
    return error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raw", [False, True])
def test_a_first_load_with_local_times_fails(
    raw: bool, way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """Without `project_timezone`, a first load of local times fails before its first record."""
    error = error_before_the_first_record(
        tap(legacy("America/New_York"), only_raw_events if raw else only_events, raw=raw, **way)
    )
    for words in ("project_timezone is not set", "UTC-05:00 in 2022-01", "America/New_York", "Project Settings", "UTC"):
        assert words in error


@pytest.mark.parametrize("days", [{0: 20, 1: 20, 2: 20}, {2: 60}, {0: 49, 3: 1}])
def test_a_first_load_waits_for_enough_events(days: dict[int, int], only_events: dict[str, Any]) -> None:
    """Windows are held back until 50 events show the zone, so that no state covers them."""
    error = error_before_the_first_record(tap(rows(NEW_YORK, days), only_events, window_days=1))
    assert "UTC-05:00 in 2022-01" in error


def test_too_few_or_imported_events_are_delivered(only_events: dict[str, Any]) -> None:
    """Too few events, or imported ones, do not stop a load."""
    few = tap(rows(NEW_YORK, {0: 20, 2: 29}), only_events, window_days=1).well()
    imported = tap(rows(NEW_YORK, {0: 200}, mp_processing_time_ms=1700000000000), only_events).well()
    assert (len(few.records()), len(imported.records())) == (49, 200)
    assert few.problems == imported.problems == []


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        ("status:401", {}),
        ("status:429", {"max_quota_wait": 0}),
        ("status:429", {"max_quota_wait": 0, "backfill": "newest_first"}),
    ],
)
def test_a_failure_before_the_check_delivers_nothing(
    fault: str, settings: dict[str, Any], only_events: dict[str, Any]
) -> None:
    """The next run is a first load again, and checks the time zone."""
    project = rows(NEW_YORK, {0: 20, 1: 20, 2: 20})
    with Emulator(project, faults=[Fault("export", 3, fault)]) as emulator:
        days = {"start_date": "2022-01-10", "end_date": "2022-01-12", "window_days": 1, "concurrent_exports": 1}
        run = run_tap(emulator.settings | days | settings, catalog=only_events)
        state = run.states[-1] if run.states else None
        again = run_tap(emulator.settings | days | settings, catalog=only_events, state=state)
    assert "events 2022-01-1" in error_before_the_first_record(run)
    assert "UTC-05:00 in 2022-01" in error_before_the_first_record(again)


def test_a_failed_history_before_the_check_fails(only_events: dict[str, Any]) -> None:
    """Spent quota leaves the history to the next run only if something was delivered."""
    project = rows(NEW_YORK, dict.fromkeys(range(40), 1))
    days = {"end_date": "2022-02-18", "window_days": 1, "concurrent_exports": 1, "backfill": "newest_first"}
    with Emulator(project, faults=[Fault("export", 35, "status:429")]) as emulator:
        settings = emulator.settings | {"start_date": str(FIRST), "max_quota_wait": 0} | days
        run = run_tap(settings, catalog=only_events)
    assert "max_quota_wait" in error_before_the_first_record(run)


def test_at_most_50_windows_are_held_back(only_events: dict[str, Any]) -> None:
    """Then they are delivered unchecked, and a later failure keeps them."""
    days = {"start_date": "2022-01-10", "end_date": "2022-03-10", "window_days": 1, "concurrent_exports": 1}
    for failing, delivered in ((50, 0), (51, 10)):
        with Emulator(rows(NEW_YORK, {0: 10}), faults=[Fault("export", failing, "status:401")]) as emulator:
            run = run_tap(emulator.settings | days, catalog=only_events)
        assert run.exit_code == 1
        assert len(run.records()) == delivered
    assert run.bookmark == "2022-03-01T00:00:00+00:00"


def test_imported_events_do_not_hide_the_zone(only_events: dict[str, Any]) -> None:
    """Imported events before others do not hide a wrong time zone."""
    imported = rows(NEW_YORK, {0: 300}, mp_processing_time_ms=1700000000000)
    project = FixedProject(imported.events | rows(NEW_YORK, {1: 60}).events, zone=NEW_YORK.key)
    assert "UTC-05:00" in error_before_the_first_record(tap(project, only_events, window_days=1))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raw", [False, True])
def test_an_explicit_utc_is_only_warned_about(
    raw: bool, way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """A mismatch with an explicit `project_timezone` is one warning."""
    project = legacy("America/New_York")
    run = read(project, only_raw_events if raw else only_events, raw=raw, project_timezone="UTC", **way)
    [warning] = run.problems
    assert "project_timezone is UTC" in warning
    assert "UTC-05:00 in 2022-01" in warning
    assert "America/New_York" in warning
    assert "Project Settings" in warning
    assert len(run.records()) == 4 * 120


def test_a_later_run_is_only_warned(only_events: dict[str, Any]) -> None:
    """With a bookmark a mismatch is a warning, since failing would only leave the table outdated."""
    state = {"bookmarks": {"events": {"replication_key_value": "2022-01-12T00:00:00+00:00"}}}
    run = tap(legacy("America/New_York"), only_events, state).well()
    [warning] = run.problems
    assert "project_timezone is not set" in warning
    assert len(run.records()) == 4 * 120


def test_a_test_run_does_not_check_the_zone(only_events: dict[str, Any]) -> None:
    """`--test` does not check the time zone."""
    with Emulator(legacy("America/New_York")) as emulator:
        # Without an end date the last day would be today in UTC, which may not have begun in New York.
        days = {"start_date": "2022-01-10", "end_date": "2022-01-12"}
        run = run_tap(emulator.settings | days, "--test", catalog=only_events).well()
    assert len(run.records()) == 1


def test_the_repeated_hour_uses_processing_time(only_events: dict[str, Any]) -> None:
    """Rows of 2020 can have only `mp_processing_time_ms`, which is then used."""
    day = dt.date(2020, 11, 1)
    wall = int(dt.datetime(2020, 11, 1, 1, 30, tzinfo=dt.UTC).timestamp())
    both = [dt.datetime(2020, 11, 1, hour, 30, tzinfo=dt.UTC) for hour in (8, 9)]
    lines = [
        b'{"event":"A","properties":{"time":%d,"distinct_id":"u","$insert_id":"%d","mp_processing_time_ms":%d}}'
        % (wall, at.hour, at.timestamp() * 1000 + 2500)
        for at in both
    ]
    with Emulator(FixedProject({day: lines}, zone="America/Los_Angeles")) as emulator:
        days = {"start_date": str(day), "end_date": str(day), "project_timezone": "America/Los_Angeles"}
        run = run_tap(emulator.settings | days, catalog=only_events).well()
    assert [record["event_time"] for record in run.records()] == [at.isoformat() for at in both]


@pytest.mark.parametrize("raw", [False, True])
def test_a_zone_for_a_utc_project_is_warned_about(
    raw: bool, only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """A time zone set for a UTC project is one warning."""
    run = read(legacy("UTC"), only_raw_events if raw else only_events, raw=raw, project_timezone="Asia/Kolkata")
    [warning] = run.problems
    assert "project_timezone is Asia/Kolkata" in warning
    assert "at UTC in 2022-01" in warning
    assert "remove project_timezone" in warning


@pytest.mark.parametrize("way", WAYS)
def test_a_first_load_of_a_utc_project_needs_no_setting(way: dict[str, Any], only_events: dict[str, Any]) -> None:
    """A first load of a UTC project needs no setting and has no warning."""
    run = read(legacy("UTC"), only_events, **way)
    assert run.problems == []
    assert len(run.records()) == 4 * 120


@pytest.mark.parametrize("in_ms", [False, True])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def test_the_right_zone_is_not_warned_about(zone: str, in_ms: bool, only_events: dict[str, Any]) -> None:
    """With the right time zone there is no warning."""
    run = read(legacy(zone), only_events, project_timezone=zone, time_in_ms=in_ms)
    assert run.problems == []


def test_summer_time_reveals_a_wrong_zone(only_events: dict[str, Any]) -> None:
    """London fits UTC in winter; in summer the mismatch is a warning."""
    winter = read(legacy("Europe/London"), only_events)
    assert winter.problems == []
    year = read(legacy("Europe/London", events_per_day=20), only_events, last="2022-07-31")
    [warning] = year.problems
    assert "UTC in 2022-01 and UTC+01:00 in 2022-0" in warning
    assert "Europe/London" in warning


def test_the_right_zone_fits_for_a_whole_year(only_events: dict[str, Any]) -> None:
    """With the right time zone a year with clock changes has no warning."""
    project = legacy("America/New_York", events_per_day=20)
    run = read(project, only_events, last="2022-12-31", project_timezone="America/New_York")
    assert run.problems == []


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_the_right_zone_puts_events_before_receipt(zone: str, only_events: dict[str, Any]) -> None:
    """With the right time zone events happen shortly before their receipt."""
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


def test_raw_records_keep_time_in_ms(only_raw_events: dict[str, Any]) -> None:
    """Raw records keep `time` in milliseconds unchanged."""
    project = legacy("Europe/Berlin")
    run = read(project, only_raw_events, raw=True, time_in_ms=True, project_timezone="Europe/Berlin")
    now = dt.datetime.now(dt.UTC)
    lines = project.lines(FIRST, dt.date(2022, 1, 13), now=now, in_ms=True)
    expected = Counter(json.loads(line)["properties"]["time"] for line in lines)
    assert Counter(record["properties"]["time"] for record in run.records()) == expected
    assert any(time % 1000 for time in expected)
    assert min(expected) > 10**12
