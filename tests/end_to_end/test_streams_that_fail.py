"""A failed stream does not stop the others, except for failures that would affect them too."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import Run, catalog_of, run_tap

DAY = "2024-01-01"
EVENTS = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 1), events_per_day=3)
PEOPLE = [{"$distinct_id": "u1", "$properties": {}}]
PROJECT = FixedProject(
    {dt.date(2024, 1, 1): list(EVENTS.lines(dt.date(2024, 1, 1), dt.date(2024, 1, 1), now=dt.datetime.now(dt.UTC)))},
    profiles=PEOPLE,
    cohorts=[{"id": 1, "name": "One", "members": ["u1"]}],
    annotations=[{"id": 1, "date": "2024-01-01 12:00:00"}],
)
ALL = ("events", "profiles", "annotations", "cohorts")


@cache
def catalog() -> dict[str, Any]:
    return catalog_of(*ALL)


def run(*faults: Fault, **extra: Any) -> tuple[Run, list[str]]:
    with Emulator(PROJECT, faults=list(faults)) as emulator:
        settings = emulator.settings | {"start_date": DAY, "end_date": DAY, "max_retries": 0}
        done = run_tap(settings | extra, catalog=catalog())
        return done, [seen.kind for seen in emulator.requests]


def read(done: Run) -> set[str]:
    return {stream for stream in ALL if done.records(stream)}


def test_streams_run_in_a_fixed_order() -> None:
    """Events, then profiles, groups and reports, so that reports cannot use their quota."""
    group = {"name": "accounts", "data_group_id": "123"}
    with Emulator(PROJECT) as emulator:
        settings = emulator.settings | {"start_date": DAY, "end_date": DAY, "group_profiles": [group]}
        done = run_tap(settings).well()
    assert list(done.schemas()) == ["events", "profiles", "accounts"]
    done, kinds = run()
    done.well()
    assert list(done.schemas()) == ["events", "profiles", "annotations", "cohorts"]
    assert kinds == ["export", "engage", "annotations", "cohorts"]


@pytest.mark.parametrize(
    ("kind", "stream"),
    [("export", "events"), ("engage", "profiles"), ("annotations", "annotations"), ("cohorts", "cohorts")],
)
@pytest.mark.parametrize("fault", ["status:500", "status:404", "reset"])
def test_a_failed_stream_does_not_stop_the_others(kind: str, stream: str, fault: str) -> None:
    """The run ends with exit code 1 and one error that begins with the stream."""
    done, _ = run(Fault(kind, None, fault))
    assert done.exit_code == 1
    assert read(done) == set(ALL) - {stream}
    assert len(done.errors) == 1
    assert done.errors[0].startswith(stream)
    bookmark = None if stream == "events" else "2024-01-02T00:00:00+00:00"
    assert done.states[-1].get("bookmarks", {}).get("events", {}).get("replication_key_value") == bookmark


def test_stopping_requests_does_not_stop_other_streams() -> None:
    """Stopping the requests of a failed stream does not stop the next stream."""
    days = {dt.date(2024, 1, number): [b'{"event":"A","properties":{"time":1704100000}}'] for number in range(1, 9)}
    project = FixedProject(days, profiles=PEOPLE)
    faults = [Fault("export", 2, "status:400"), Fault("export", {3, 4}, "silence", value=5)]
    with Emulator(project, faults=faults) as emulator:
        settings = emulator.settings | {
            "project_timezone": "UTC",
            "start_date": DAY,
            "end_date": "2024-01-08",
            "window_days": 1,
        }
        done = run_tap(settings | {"concurrent_exports": 4})
    assert done.exit_code == 1
    assert len(done.errors) == 1
    assert done.errors[0].startswith("events 2024-01-0")
    assert len(done.records("profiles")) == 1


def test_each_failed_stream_has_an_error_line() -> None:
    """Each failed stream has an error line."""
    done, _ = run(Fault("export", None, "status:500"), Fault("annotations", None, "status:404"))
    assert done.exit_code == 1
    assert [line.split()[0].strip(":") for line in done.errors] == ["events", "annotations"]
    assert read(done) == {"profiles", "cohorts"}


def test_a_failed_stream_map_does_not_stop_the_others() -> None:
    """A stream map that fails on a record fails only its stream."""
    done, _ = run(stream_maps={"profiles": {"x": "1 / 0"}})
    assert done.exit_code == 1
    assert len(done.errors) == 1
    assert done.errors[0].startswith("profiles: ")
    assert read(done) == set(ALL) - {"profiles"}


def test_rejected_credentials_end_the_run() -> None:
    """Rejected credentials end the run, because every stream would fail."""
    done, kinds = run(service_account_secret="wrong-secret")
    assert done.exit_code == 1
    assert len(done.errors) == 1
    assert "the credentials were rejected" in done.errors[0]
    assert kinds == ["export"]


def test_a_late_401_fails_only_its_stream() -> None:
    """A 401 after other streams were read fails only its stream."""
    done, kinds = run(Fault("annotations", None, "status:401"))
    assert done.exit_code == 1
    assert len(done.errors) == 1
    assert read(done) == set(ALL) - {"annotations"}
    assert kinds[-1] == "cohorts"


def test_a_full_stdout_ends_the_run() -> None:
    """A full stdout ends the run, because no stream could be written."""
    with Emulator(PROJECT) as emulator, open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        settings = emulator.settings | {"start_date": DAY, "end_date": DAY}
        done = run_tap(settings, catalog=catalog(), stdout=full)
        assert {seen.kind for seen in emulator.requests} <= {"export"}
    assert done.exit_code == 1
    assert len(done.errors) == 1
    assert "stdout cannot be written" in done.errors[0]


def test_the_last_line_summarizes_the_run() -> None:
    """The last line has the streams by outcome, records, seconds and exit code."""
    done, _ = run()
    assert "run: streams 4 done (events, profiles, annotations, cohorts); 6 records in " in done.stderr[-1]
    assert done.stderr[-1].endswith("exit code 0")
    done, _ = run(Fault("engage", None, "status:500"))
    assert "run: streams 3 done (events, annotations, cohorts), 1 failed (profiles); 5 records" in done.stderr[-1]
    assert "exit code 1: profiles page 0: HTTP 500" in done.stderr[-1]
    done, _ = run(service_account_secret="wrong-secret")
    assert "run: streams 4 not finished (events, profiles, annotations, cohorts); 0 records" in done.stderr[-1]
    assert "exit code 1: events 2024-01-01: HTTP 400, the credentials were rejected" in done.stderr[-1]
