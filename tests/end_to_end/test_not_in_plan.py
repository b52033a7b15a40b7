"""Streams that the plan or role does not include: optional ones stay empty, others fail."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject
from tests.harness import Run, catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = FixedProject(
    profiles=[{"$distinct_id": "u1", "$properties": {}}],
    cohorts=[{"id": 1, "name": "One", "members": ["u1"]}, {"id": 2, "name": "Two", "members": ["u1"]}],
    annotations=[{"id": 1, "date": "2024-01-01 12:00:00"}],
    funnels=[{"funnel_id": 1, "name": "One", "days": {"2024-01-01": {"steps": []}}}],
    schemas=[{"entityType": "event", "name": "A", "schemaJson": {}}],
    insights={1: {"headers": ["$event"], "series": {"A": {"2024-01-01T00:00:00+00:00": 1}}}},
    events={dt.date(2024, 1, 1): [b'{"event":"A","properties":{"time":1704067200,"distinct_id":"u1"}}']},
)
# Each optional stream, and the kind of its first request.
OPTIONAL = {
    "cohorts": "cohorts",
    "cohort_members": "cohorts",
    "annotations": "annotations",
    "funnels": "funnels",
    "event_counts": "event_counts",
    "lexicon_schemas": "schemas",
    "insights": "insights",
}
DAYS: dict[str, Any] = {
    "start_date": "2024-01-01",
    "end_date": "2024-01-01",
    "event_names": ["A"],
    "insights_reports": [{"name": "One", "bookmark_id": 1}],
}


@cache
def catalog(*streams: str) -> dict[str, Any]:
    return catalog_of(*streams)


def run(fault: Fault, *streams: str, **extra: Any) -> Run:
    with Emulator(PROJECT, faults=[fault]) as emulator:
        return run_tap({**emulator.settings, **DAYS, **extra}, catalog=catalog(*streams))


def here(fault: Fault, stream: str) -> Result:
    with Emulator(PROJECT, faults=[fault]) as emulator:
        return run_here({**emulator.settings, **DAYS, "max_retries": 1}, FakeClock(), catalog=catalog(stream))


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (stream, status)
        for stream in OPTIONAL
        for status in ("status:402", "status:403")
        # A 403 for a report means that the report is private.
        if (stream, status) != ("insights", "status:403")
    ],
)
def test_an_optional_stream_not_in_the_plan_is_empty(stream: str, status: str) -> None:
    """An optional stream that gets a 402 or 403 stays empty, with a warning and exit code 0."""
    done = run(Fault(OPTIONAL[stream], None, status), stream, "profiles").well()
    assert done.records(stream) == []
    assert stream in done.schemas()
    [problem] = done.problems
    assert stream in problem
    assert "The stream stays empty" in problem
    assert f"run: streams 1 done (profiles), 1 without access ({stream}); " in done.stderr[-1]
    assert len(done.records("profiles")) == 1
    assert "replication_key_value" not in done.states[-1]["bookmarks"].get(stream, {})


@pytest.mark.parametrize("status", ["status:402", "status:403"])
def test_cohort_members_not_in_the_plan_are_empty(status: str) -> None:
    """A 402 or 403 for the first cohort's members leaves the stream empty."""
    done = run(Fault("engage", None, status), "cohort_members").well()
    assert done.records("cohort_members") == []
    assert len(done.problems) == 1


def test_a_403_after_delivered_records_fails() -> None:
    """A 403 after records were delivered fails the stream."""
    done = run(Fault("engage", 2, "status:403"), "cohort_members")
    assert done.exit_code == 1
    assert "cohort_members of cohort 2" in done.errors[0]


@pytest.mark.parametrize("status", ["status:402", "status:403"])
@pytest.mark.parametrize(("stream", "kind"), [("events", "export"), ("profiles", "engage")])
def test_events_and_profiles_not_in_the_plan_fail(stream: str, kind: str, status: str) -> None:
    """A 402 or 403 for events or profiles fails the run."""
    done = run(Fault(kind, None, status), stream)
    assert done.exit_code == 1
    assert len(done.errors) == 1


@pytest.mark.parametrize(
    "name",
    [
        *("status:401", "status:400", "status:404", "status:403-history"),
        *("status:503", "cut-json", "empty-object", "page-html", "refuse"),
    ],
)
@pytest.mark.parametrize("stream", OPTIONAL)
def test_other_errors_fail_optional_streams(stream: str, name: str) -> None:
    """Every other error fails an optional stream."""
    done = here(Fault(OPTIONAL[stream], None, name), stream)
    assert done.error is not None
    assert stream in done.error


@pytest.mark.parametrize("name", ["status:503", "cut-json", "gzip-cut", "length-short", "reset"])
@pytest.mark.parametrize("stream", OPTIONAL)
def test_transient_errors_of_optional_streams_are_retried(stream: str, name: str) -> None:
    """A transient error of an optional stream is retried."""
    done = here(Fault(OPTIONAL[stream], 1, name), stream)
    assert done.error is None
    assert done.stdout.count(b'"RECORD"') == {"cohorts": 2, "cohort_members": 2}.get(stream, 1)


def test_optional_streams_are_not_selected_by_default() -> None:
    """Only events and profiles are selected by default."""
    with Emulator(PROJECT) as emulator:
        done = run_tap({**emulator.settings, **DAYS}).well()
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
    assert set(done.schemas()) == {"events", "profiles"}


def test_a_test_run_requests_little(tmp_path: Path) -> None:
    """`--test` reads one record of each selected stream."""
    with Emulator(PROJECT) as emulator:
        run_tap({**emulator.settings, **DAYS}, "--test").well()
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(catalog(*OPTIONAL)))
    for options in (["--test", "--catalog", str(file)], ["--catalog", str(file), "--test"]):
        with Emulator(PROJECT) as emulator:
            done = run_tap({**emulator.settings, **DAYS}, *options).well()
            seen = [request.kind for request in emulator.requests]
        once = ["annotations", "cohorts", "cohorts", "engage", "event_counts", "funnels", "funnels"]
        assert sorted(seen) == [*once, "insights", "schemas"]
        assert {stream: len(done.records(stream)) for stream in OPTIONAL} == dict.fromkeys(OPTIONAL, 1)
