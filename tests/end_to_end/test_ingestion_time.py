"""`incremental_by: ingestion_time`, from the emulator through the installed command."""

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


def test_late_events_come_once_and_rows_that_do_not_tell_come_again(only_events: dict[str, Any]) -> None:
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
        # A day later by the state: as if the first run had been then.
        yesterday = hours_ago(24).isoformat(timespec="seconds")
        state = first.states[-1]
        [entry] = state["bookmarks"]["events"]["ingested"]
        assert (entry["from_date"], entry["to_date"]) == ("2024-01-01", "2024-01-04")
        state["bookmarks"]["events"]["ingested"] = [{**entry, "before": yesterday}]
        project.events[FIRST] = [*project.events[FIRST], line("late", FIRST, hours_ago(3))]
        second = run_tap(settings, catalog=only_events, state=state).well()
    assert ids(second) == ["late", "new", "untold"]
    assert first.bookmark == second.bookmark == "2024-01-05T00:00:00+00:00"


def test_its_bookmark_is_no_later_than_what_has_settled(only_events: dict[str, Any]) -> None:
    today = {"start_date": hours_ago(30).date().isoformat(), "end_date": None}
    with Emulator(FixedProject()) as emulator:
        before = hours_ago(1).replace(microsecond=0)
        run = run_tap(emulator.settings | BY_INGESTION | today, catalog=only_events).well()
        after = hours_ago(1)
    assert run.bookmark is not None
    assert before <= dt.datetime.fromisoformat(run.bookmark) <= after


def test_it_narrows_what_the_filters_leave(only_events: dict[str, Any]) -> None:
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


def test_in_batches_it_gives_the_same_and_the_same_state(only_events: dict[str, Any], tmp_path: Path) -> None:
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


@pytest.mark.parametrize(("minutes", "refused"), [(20, True), (5, False)])
def test_a_clock_that_is_ahead_is_refused_since_rows_would_be_lost(minutes: int, refused: bool) -> None:
    project = FixedProject({FIRST: [line("a", FIRST, hours_ago(9))]})
    clock = FakeClock(hours_ago(-minutes / 60))
    with Emulator(project) as emulator:
        result = run_here(emulator.settings | BY_INGESTION | {"raw": True}, clock, catalog=RAW_EVENTS)
    assert result.lines.total() == (0 if refused else 1)
    assert ("minutes ahead of Mixpanel's: correct it" in (result.error or "")) == refused
