"""A back-fill in shards: concurrent runs with a start and end date each, followed by a nightly run."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Quota, SyntheticProject
from tests.harness import Run, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here
from tests.soak.test_late_events import HIDDEN, Row, missing_of, row_of
from tests.soak.test_random_faults import RAW_EVENTS

FIRST = dt.date(2024, 1, 1)
# Three shards of eight days.
SHARDS = [(FIRST + dt.timedelta(days=8 * number), FIRST + dt.timedelta(days=8 * number + 7)) for number in range(3)]
LAST = SHARDS[-1][1]
NIGHT = dt.datetime(2024, 4, 30, 3, tzinfo=dt.UTC)


def bounds(shard: tuple[dt.date, dt.date]) -> dict[str, Any]:
    return {"start_date": str(shard[0]), "end_date": str(shard[1])}


def key(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


def test_concurrent_shards_deliver_everything(only_events: dict[str, Any]) -> None:
    """Concurrent shards and the nightly run deliver what one run does, without a 429."""
    project = SyntheticProject(first_day=FIRST, events_per_day=60, profiles=30)
    with Emulator(project, quota=Quota()) as emulator:

        def run(shard: tuple[dt.date, dt.date]) -> Run:
            settings = emulator.settings | bounds(shard) | {"hourly_quota": 20, "window_days": 1}
            return run_tap(settings | {"concurrent_exports": 4}, catalog=only_events)

        with ThreadPoolExecutor(len(SHARDS)) as at_once:
            shards = [done.well() for done in at_once.map(run, SHARDS)]
        assert Counter(seen.status for seen in emulator.requests) == {200: 24}
        # The nightly run continues from the state of the last shard, after the rate limit's second is over.
        time.sleep(1.2)
        begin = len(emulator.requests)
        nightly = {"start_date": str(FIRST), "end_date": str(LAST + dt.timedelta(days=2)), "window_days": 90}
        continued = run_tap(emulator.settings | nightly, catalog=only_events, state=shards[-1].states[-1]).well()
        [requested] = [(seen.query["from_date"], seen.query["to_date"]) for seen in emulator.requests[begin:]]
    with Emulator(project) as emulator:
        whole = run_tap(emulator.settings | nightly, catalog=only_events).well()
    assert requested == (str(LAST - dt.timedelta(days=4)), str(LAST + dt.timedelta(days=2)))
    by_shards = [Counter(map(key, shard.records())) for shard in shards]
    assert all(shard.total() > 400 for shard in by_shards)
    assert sum(by_shards, Counter()) + Counter(map(key, continued.records())) == Counter(
        map(key, whole.records())
    ) + Counter(key(record) for record in shards[-1].records() if record["event_time"] >= requested[0])
    assert [shard.bookmark for shard in shards] == [f"{end + dt.timedelta(days=1)}T00:00:00+00:00" for _, end in SHARDS]
    assert continued.states[-1] == whole.states[-1]


@pytest.mark.parametrize("backfill", ["oldest_first", "newest_first"])
def test_shards_by_ingestion_time_deliver_once(backfill: str) -> None:
    """Shards by ingestion time and the runs after them deliver every event once."""
    ends = [dt.date(2024, 2, 9), dt.date(2024, 3, 20), dt.date(2024, 4, 29)]
    project = SyntheticProject(first_day=FIRST, events_per_day=20, profiles=30, visibility_delay=HIDDEN)
    settings = {"raw": True, "incremental_by": "ingestion_time", "backfill": backfill, "concurrent_exports": 1}
    target: Counter[Row] = Counter()

    def run(now: dt.datetime, state: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
        clock = FakeClock(now)
        with Emulator(project, now=clock.now) as emulator:
            result = run_here(emulator.settings | settings | more, clock, catalog=RAW_EVENTS, state=state)
        assert result.error is None
        assert result.state
        target.update(row_of(line) for line in result.lines.elements())
        return result.state

    # The shards run hours apart, the last days first.
    states = [
        run(begin, start_date=str(end - dt.timedelta(days=39)), end_date=str(end))
        for begin, end in zip((NIGHT + dt.timedelta(hours=hours) for hours in (0, 4, 9)), reversed(ends), strict=True)
    ]
    state = states[0]
    for nights in (1, 2, 3):
        state = run(NIGHT + dt.timedelta(days=nights), state, start_date=str(FIRST))
    now = NIGHT + dt.timedelta(days=3)
    source = list(project.lines(FIRST, now.date(), now=now))
    assert missing_of(target, source, now) == 0
    assert {processed for (_, processed), count in target.items() if count > 1} <= {None}


def test_a_run_stays_within_its_hourly_quota() -> None:
    """A run with `hourly_quota` 10 sends 10 requests an hour and gets no 429."""
    clock = FakeClock(dt.datetime(2024, 2, 1, tzinfo=dt.UTC))
    project = SyntheticProject(first_day=FIRST, events_per_day=5)
    settings = {
        "raw": True,
        "project_timezone": "UTC",
        "start_date": str(FIRST),
        "end_date": "2024-01-25",
        "window_days": 1,
    }
    settings |= {"hourly_quota": 10, "concurrent_exports": 1, "max_quota_wait": 3700}
    with Emulator(project, quota=Quota(hourly=10, clock=clock.monotonic), now=clock.now) as emulator:
        result = run_here(emulator.settings | settings, clock, catalog=RAW_EVENTS)
        assert {seen.status for seen in emulator.requests} == {200}
    assert result.error is not None
    assert "hourly_quota, 10 requests an hour, is used up" in result.error
    assert result.requests == 20
    assert 3500 < result.waited < 3700
