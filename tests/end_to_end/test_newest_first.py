"""`backfill: newest_first`, with the emulator and the installed command."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Quota
from tests.end_to_end.test_batches import records_in_batches
from tests.harness import run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here
from tests.soak.test_random_faults import RAW_EVENTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.in_process import Result

FIRST, LAST = dt.date(2023, 11, 1), dt.date(2024, 1, 15)
NOW = dt.datetime(2024, 1, 16, 9, 30, tzinfo=dt.UTC)
DAYS = [FIRST + dt.timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
NEWEST_FIRST = {"project_timezone": "UTC", "backfill": "newest_first", "start_date": str(FIRST), "end_date": str(LAST)}
# Windows of a day, one at a time: a fake clock also advances during a request.
ONE_BY_ONE = NEWEST_FIRST | {"raw": True, "window_days": 1, "concurrent_exports": 1}


def line(day: dt.date) -> bytes:
    time = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp())
    processed = 1000 * (time + 600)
    properties = {"time": time, "distinct_id": "u", "$insert_id": str(day), "mp_processing_time_ms": processed}
    return json.dumps({"event": "E", "properties": properties}).encode()


def project(days: list[dt.date] = DAYS) -> FixedProject:
    """Return a project with one event a day, named by the day."""
    return FixedProject({day: [line(day)] for day in days}, profiles=[{"$distinct_id": "u", "$properties": {}}])


def days_of(result: Result) -> list[str]:
    """Return the days of the raw events in the order of delivery."""
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [
        message["record"]["properties"]["$insert_id"]
        for message in lines
        if message["type"] == "RECORD" and message["stream"] == "events"
    ]


def bookmark(state: dict[str, Any] | None) -> dict[str, Any]:
    """Return the bookmark without the row counts."""
    assert state
    own: dict[str, Any] = state["bookmarks"]["events"]
    return {name: value for name, value in own.items() if name != "rows"}


@pytest.mark.parametrize("by", ["event_time", "ingestion_time"])
def test_the_last_days_arrive_first(by: str, only_events: dict[str, Any]) -> None:
    """The last days arrive first, and the final state is like that of an oldest-first back-fill."""
    with Emulator(project()) as emulator:
        settings = emulator.settings | NEWEST_FIRST | {"incremental_by": by}
        run = run_tap(settings, catalog=only_events).well()
        forwards = run_tap(settings | {"backfill": "oldest_first"}, catalog=only_events).well()
    days = [record["insert_id"] for record in run.records()]
    assert set(days[:30]) == {str(day) for day in DAYS[-30:]}
    assert Counter(days) == Counter(map(str, DAYS))
    assert days[0] == str(LAST)
    assert "replication_key_value" not in run.states[-3]["bookmarks"]["events"]
    before, after = bookmark(run.states[-1]), bookmark(forwards.states[-1])
    assert before["replication_key_value"] == after["replication_key_value"] == "2024-01-16T00:00:00+00:00"
    assert before.keys() == after.keys()
    assert [entry["from_date"] for entry in before.get("ingested", [])] == ["2024-01-11"] * (by == "ingestion_time")


def test_newest_first_is_the_same_on_every_route(
    only_events: dict[str, Any], only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
    """Blocks, stream maps, batch files and raw records have the same order and states."""
    unchanged = {"stream_maps": {"events": {"event_name": "event_name"}}}
    batches = {
        "batch_config": {
            "encoding": {"format": "jsonl", "compression": "gzip"},
            "storage": {"root": tmp_path.as_uri(), "prefix": ""},
        }
    }
    with Emulator(project()) as emulator:
        # Of one length: with adaptive windows the order of the records depends on which response is faster.
        settings = emulator.settings | NEWEST_FIRST | {"window_days": 7}
        plain = run_tap(settings, catalog=only_events).well()
        one_by_one = run_tap(settings | unchanged, catalog=only_events).well()
        batched = run_tap(settings | batches, catalog=only_events).well()
        raw = run_tap(settings | {"raw": True}, catalog=only_raw_events).well()
    assert one_by_one.records() == plain.records() == records_in_batches(batched, "events")
    assert one_by_one.states == plain.states == raw.states
    assert batched.states[-1] == plain.states[-1]
    raw_days = [record["properties"]["$insert_id"] for record in raw.records()]
    assert raw_days == [record["insert_id"] for record in plain.records()]


def test_the_history_continues_in_the_next_run() -> None:
    """When the quota is used up, the next run reads new days first and then continues the history."""
    clock, settings = FakeClock(NOW), ONE_BY_ONE | {"max_quota_wait": 0}
    with Emulator(project(), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        first = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
    assert first.error is None
    assert days_of(first) == [str(day) for day in reversed(DAYS[-60:])]
    assert bookmark(first.state) == {
        "replication_key": "event_time",
        "ahead": {"from_date": str(DAYS[-60]), "before": "2024-01-16T00:00:00+00:00"},
    }
    # Three days later there are three more.
    later = NOW + dt.timedelta(days=3)
    new = [LAST + dt.timedelta(days=number) for number in (1, 2, 3)]
    clock, settings = FakeClock(later), settings | {"end_date": str(new[-1])}
    with Emulator(project([*DAYS, *new]), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        second = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS, state=first.state)
    assert second.error is None
    front = [str(day) for day in [*DAYS[-5:], *new]]
    assert days_of(second) == front + [str(day) for day in reversed(DAYS[:-60])]
    assert bookmark(second.state) == {
        "replication_key": "event_time",
        "replication_key_value": "2024-01-19T00:00:00+00:00",
    }


def test_only_history_may_be_left_to_the_next_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Spent quota fails the recent days; in the history it is a warning."""
    # With the time zone set, no window is held back for the time zone check.
    settings = ONE_BY_ONE | {"max_quota_wait": 0, "project_timezone": "UTC"}
    clock = FakeClock(NOW)
    with Emulator(project(), now=clock.now, faults=[Fault("export", (10,), "status:429")]) as emulator:
        front = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
    assert front.error is not None
    assert "max_quota_wait" in front.error
    assert len(days_of(front)) == 9
    caplog.clear()
    clock = FakeClock(NOW)
    with Emulator(project(), now=clock.now, faults=[Fault("export", (40,), "status:429")]) as emulator:
        history = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
    assert history.error is None
    assert len(days_of(history)) == 39
    [warning] = [record.getMessage() for record in caplog.records if "the back-fill continues" in record.getMessage()]
    assert f"events {DAYS[-40]}: " in warning
    assert "max_quota_wait" in warning


class PassingClock(FakeClock):
    """A clock that advances by two minutes each time it is read."""

    def monotonic(self) -> float:
        self.advance(120)
        return super().monotonic()


def test_history_left_to_the_next_run_is_not_requested() -> None:
    """After the history was left to the next run, nothing of it is requested, even with new quota."""
    # With the time zone set, no window is held back for the time zone check.
    clock, settings = PassingClock(NOW), ONE_BY_ONE | {"max_quota_wait": 0, "project_timezone": "UTC"}
    with Emulator(project(), now=clock.now, faults=[Fault("export", (40,), "status:429")]) as emulator:
        result = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
        requested = len(emulator.requests)
    assert result.error is None
    assert days_of(result) == [str(day) for day in reversed(DAYS[-39:])]
    assert requested == 40


def test_the_history_reserves_waiting_time() -> None:
    """The history reserves an hour of waiting time for the streams after it."""
    days = [LAST - dt.timedelta(days=number) for number in range(200)]
    settings = ONE_BY_ONE | {"start_date": str(days[-1]), "max_quota_wait": 7200}
    clock = FakeClock(NOW)
    with Emulator(project(days), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        result = run_here(emulator.settings | settings, clock)
        assert {seen.status for seen in emulator.requests} == {200}
    assert result.error is None
    # It waited for an hour; another one would leave no time.
    delivered = days_of(result)
    assert delivered == [str(day) for day in days[: len(delivered)]]
    assert 60 < len(delivered) <= 120
    assert result.stdout.count(b'"stream":"profiles","record"') == 1
    assert 3500 < result.waited < 7200


def test_a_truncated_history_window_is_halved() -> None:
    """A truncated window of the history is fetched in halves, the newer one first."""
    settings = NEWEST_FIRST | {"raw": True, "window_days": 30, "max_retries": 0, "concurrent_exports": 1}
    cut = [Fault("export", (2, 4), "sentinel:terminated early"), Fault("export", (5,), "status:402")]
    clock = FakeClock(NOW)
    with Emulator(project(), now=clock.now, faults=cut) as emulator:
        first = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
        requested = [(seen.query["from_date"], seen.query["to_date"]) for seen in emulator.requests]
    # The truncated window, its newer half, its older half truncated, and again, rejected.
    assert requested[1:5] == [
        ("2023-11-17", "2023-12-16"),
        ("2023-12-02", "2023-12-16"),
        ("2023-11-17", "2023-12-01"),
        ("2023-11-17", "2023-12-01"),
    ]
    assert first.error is not None
    assert bookmark(first.state)["ahead"]["from_date"] == "2023-12-02"
    with Emulator(project(), now=clock.now) as emulator:
        second = run_here(
            emulator.settings | settings | {"lookback_days": 0}, FakeClock(NOW), catalog=RAW_EVENTS, state=first.state
        )
    assert Counter(days_of(first) + days_of(second)) == Counter(map(str, DAYS))
    assert bookmark(second.state)["replication_key_value"] == "2024-01-16T00:00:00+00:00"


def test_a_backfill_can_switch_to_oldest_first() -> None:
    """A newest-first back-fill can be continued oldest first, and each day is delivered once."""
    settings = NEWEST_FIRST | {"raw": True, "window_days": 10, "concurrent_exports": 1, "lookback_days": 0}
    clock = FakeClock(NOW)
    with Emulator(project(), now=clock.now, faults=[Fault("export", (5,), "status:402")]) as emulator:
        first = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
    assert first.error is not None
    assert len(days_of(first)) == 40
    with Emulator(project(), now=clock.now) as emulator:
        second = run_here(
            emulator.settings | settings | {"backfill": "oldest_first"},
            FakeClock(NOW),
            catalog=RAW_EVENTS,
            state=first.state,
        )
    assert days_of(second) == list(map(str, DAYS[:-40]))
    assert bookmark(second.state) == {
        "replication_key": "event_time",
        "replication_key_value": "2024-01-16T00:00:00+00:00",
    }


def test_a_full_table_is_not_left_to_the_next_run() -> None:
    """With FULL_TABLE in the catalog no state is kept, so spent quota fails the run."""
    catalog = json.loads(json.dumps(RAW_EVENTS))
    [events] = [stream for stream in catalog["streams"] if stream["tap_stream_id"] == "events"]
    events["replication_method"] = "FULL_TABLE"
    settings = ONE_BY_ONE | {"max_quota_wait": 0}
    clock = FakeClock(NOW)
    with Emulator(project(), now=clock.now) as emulator:
        result = run_here(emulator.settings | settings, clock, catalog=catalog)
    assert result.error is not None
    assert "max_quota_wait" in result.error
    assert days_of(result) == list(map(str, DAYS[:60]))
