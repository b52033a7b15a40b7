"""`incremental_by: ingestion_time`, with the emulator and the installed command."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.harness import Run, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here
from tests.soak.test_random_faults import RAW_EVENTS

if TYPE_CHECKING:
    from pathlib import Path

BY_INGESTION = {"incremental_by": "ingestion_time", "start_date": "2024-01-01", "end_date": "2024-01-04"}
FIRST, SECOND = dt.date(2024, 1, 2), dt.date(2024, 1, 4)


def line(name: str, day: dt.date, processed: dt.datetime | None, **more: object) -> bytes:
    time = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp())
    properties = {"time": time, "distinct_id": "u", "$insert_id": name, **more}
    if processed is not None:
        properties["mp_processing_time_ms"] = round(processed.timestamp() * 1000)
    return json.dumps({"event": "E", "properties": properties}).encode()


def ids(run: Run) -> list[str]:
    return sorted(record["insert_id"] for record in run.records())


def hours_ago(hours: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)


def test_late_events_are_delivered_once(only_events: dict[str, Any]) -> None:
    """Late events are delivered once, events without a processing time again each run."""
    project = FixedProject(
        {
            FIRST: [line("old", FIRST, hours_ago(50)), line("untold", FIRST, None)],
            SECOND: [line("new", SECOND, hours_ago(2)), line("settling", SECOND, hours_ago(0.9))],
        }
    )
    with Emulator(project) as emulator:
        settings = emulator.settings | BY_INGESTION
        first = run_tap(settings, catalog=only_events).well()
        assert ids(first) == ["new", "old", "untold"]
        # Change the state as if the first run had been a day earlier.
        yesterday = hours_ago(24).isoformat(timespec="seconds")
        state = first.states[-1]
        [entry] = state["bookmarks"]["events"]["ingested"]
        assert (entry["from_date"], entry["to_date"]) == ("2024-01-01", "2024-01-04")
        state["bookmarks"]["events"]["ingested"] = [{**entry, "before": yesterday}]
        project.events[FIRST] = [*project.events[FIRST], line("late", FIRST, hours_ago(3))]
        second = run_tap(settings, catalog=only_events, state=state).well()
    assert ids(second) == ["late", "new", "untold"]
    assert first.bookmark == second.bookmark == "2024-01-05T00:00:00+00:00"


def test_the_bookmark_is_the_settled_time(only_events: dict[str, Any]) -> None:
    """By ingestion time the bookmark is an hour before the run."""
    today = {"start_date": hours_ago(30).date().isoformat(), "end_date": None}
    with Emulator(FixedProject()) as emulator:
        before = hours_ago(1).replace(microsecond=0)
        run = run_tap(emulator.settings | BY_INGESTION | today, catalog=only_events).well()
        after = hours_ago(1)
    assert run.bookmark is not None
    assert before <= dt.datetime.fromisoformat(run.bookmark) <= after


def test_the_processing_filter_extends_events_where(only_events: dict[str, Any]) -> None:
    """The processing-time filter applies in addition to `events_where`."""
    project = FixedProject(
        {
            FIRST: [
                line("a", FIRST, hours_ago(9), x=1),
                line("b", FIRST, hours_ago(9), x=2),
                line("c", FIRST, None, x=2),
                line("d", FIRST, hours_ago(9), x=3),
                line("e", FIRST, hours_ago(0.1), x=1),
            ]
        }
    )
    where = {"events_where": 'properties["x"] == 1 or properties["x"] == 2'}
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | BY_INGESTION | where, catalog=only_events).well()
    assert ids(run) == ["a", "b", "c"]


def test_batches_by_ingestion_time(only_events: dict[str, Any], tmp_path: Path) -> None:
    """Batch files by ingestion time have the events, and the state has their days."""
    project = FixedProject({FIRST: [line("a", FIRST, hours_ago(9)), line("b", FIRST, None)]})
    batches = {
        "batch_config": {
            "encoding": {"format": "jsonl", "compression": "gzip"},
            "storage": {"root": tmp_path.as_uri(), "prefix": ""},
        }
    }
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | BY_INGESTION | batches, catalog=only_events).well()
    [url] = [url for message in run.messages if message["type"] == "BATCH" for url in message["manifest"]]
    with gzip.open(unquote(urlsplit(url).path)) as file:
        assert [json.loads(record)["insert_id"] for record in file] == ["a", "b"]
    [entry] = run.states[-1]["bookmarks"]["events"]["ingested"]
    assert (entry["from_date"], entry["to_date"]) == ("2024-01-01", "2024-01-04")


@pytest.mark.parametrize(("minutes", "fails"), [(20, True), (5, False)])
def test_a_clock_far_ahead_is_rejected(minutes: int, fails: bool) -> None:
    """With a clock 20 minutes ahead events would be lost, so the run fails; 5 minutes are fine."""
    project = FixedProject({FIRST: [line("a", FIRST, hours_ago(9))]})
    clock = FakeClock(hours_ago(-minutes / 60))
    with Emulator(project) as emulator:
        result = run_here(emulator.settings | BY_INGESTION | {"raw": True}, clock, catalog=RAW_EVENTS)
    assert result.lines.total() == (0 if fails else 1)
    assert ("minutes ahead of Mixpanel's: correct it" in (result.error or "")) == fails
