"""What a plan or a role does not include: an error, but for streams that have to be asked for, which stay empty."""

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
# Each stream, and what its first request is counted as.
ASKED_FOR = {
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


@pytest.mark.parametrize("status", ["status:402", "status:403"])
@pytest.mark.parametrize("stream", ASKED_FOR)
def test_a_stream_that_has_to_be_asked_for_stays_empty_with_one_warning(stream: str, status: str) -> None:
    done = run(Fault(ASKED_FOR[stream], None, status), stream, "profiles").well()
    assert done.records(stream) == []
    assert stream in done.schemas()
    # A report can be private by itself, so each is named first.
    assert len(done.problems) == (2 if (stream, status) == ("insights", "status:403") else 1)
    assert f"{stream}" in done.problems[-1]
    assert "The stream stays empty" in done.problems[-1]
    assert f"run: streams 1 done (profiles), 1 without access ({stream}); " in done.stderr[-1]
    assert len(done.records("profiles")) == 1
    assert "replication_key_value" not in done.states[-1]["bookmarks"].get(stream, {})


@pytest.mark.parametrize("status", ["status:402", "status:403"])
def test_members_that_the_plan_does_not_show_are_no_error_either(status: str) -> None:
    done = run(Fault("engage", None, status), "cohort_members").well()
    assert done.records("cohort_members") == []
    assert len(done.problems) == 1


def test_what_is_withheld_after_something_was_delivered_is_an_error() -> None:
    done = run(Fault("engage", 2, "status:403"), "cohort_members")
    assert done.exit_code == 1
    assert "cohort_members of cohort 2" in done.errors[0]


@pytest.mark.parametrize("status", ["status:402", "status:403"])
@pytest.mark.parametrize(("stream", "kind"), [("events", "export"), ("profiles", "engage")])
def test_events_and_profiles_are_never_left_out(stream: str, kind: str, status: str) -> None:
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
@pytest.mark.parametrize("stream", ASKED_FOR)
def test_every_other_failure_ends_the_run(stream: str, name: str) -> None:
    done = here(Fault(ASKED_FOR[stream], None, name), stream)
    assert done.error is not None
    assert stream in done.error


@pytest.mark.parametrize("name", ["status:503", "cut-json", "gzip-cut", "length-short", "reset"])
@pytest.mark.parametrize("stream", ASKED_FOR)
def test_a_passing_failure_costs_a_try(stream: str, name: str) -> None:
    done = here(Fault(ASKED_FOR[stream], 1, name), stream)
    assert done.error is None
    assert done.stdout.count(b'"RECORD"') == {"cohorts": 2, "cohort_members": 2}.get(stream, 1)


def test_streams_that_have_to_be_asked_for_are_not_selected_by_default() -> None:
    with Emulator(PROJECT) as emulator:
        done = run_tap({**emulator.settings, **DAYS}).well()
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
    assert set(done.schemas()) == {"events", "profiles"}


def test_a_trial_asks_for_little_and_only_for_what_is_selected(tmp_path: Path) -> None:
    with Emulator(PROJECT) as emulator:
        run_tap({**emulator.settings, **DAYS}, "--test").well()
        assert {seen.kind for seen in emulator.requests} == {"export", "engage"}
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps(catalog(*ASKED_FOR)))
    for options in (["--test", "--catalog", str(file)], ["--catalog", str(file), "--test"]):
        with Emulator(PROJECT) as emulator:
            done = run_tap({**emulator.settings, **DAYS}, *options).well()
            seen = [request.kind for request in emulator.requests]
        once = ["annotations", "cohorts", "cohorts", "engage", "event_counts", "funnels", "funnels"]
        assert sorted(seen) == [*once, "insights", "schemas"]
        assert {stream: len(done.records(stream)) for stream in ASKED_FOR} == dict.fromkeys(ASKED_FOR, 1)
