"""Quota over several hours, with a fake clock."""

from __future__ import annotations

import datetime as dt
import json

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Quota
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here
from tests.soak.test_random_faults import RAW_EVENTS

FIRST = dt.date(2021, 1, 1)
NOW = dt.datetime(2024, 1, 16, 9, 30, tzinfo=dt.UTC)


def project(days: int) -> FixedProject:
    def line(day: int) -> bytes:
        time = 1609459200 + day * 86400
        return json.dumps({"event": "E", "properties": {"time": time, "$insert_id": str(day)}}).encode()

    return FixedProject({FIRST + dt.timedelta(days=day): [line(day)] for day in range(days)})


def test_three_years_take_at_most_40_requests() -> None:
    """Three years of a small project take at most 40 requests and no wait."""
    clock = FakeClock(NOW)
    with Emulator(project(1096), now=clock.now) as emulator:
        config = emulator.settings | {
            "project_timezone": "UTC",
            "start_date": "2021-01-01",
            "end_date": "2024-01-01",
            "raw": True,
        }
        result = run_here(config, clock, catalog=RAW_EVENTS)
    assert result.error is None
    assert result.lines.total() == 1096
    assert result.requests <= 40
    assert result.waited == 0


def test_150_requests_wait_and_get_no_429() -> None:
    """150 requests wait for the hourly quota and get no 429."""
    clock = FakeClock(NOW)
    with Emulator(project(150), quota=Quota(clock=clock.monotonic), now=clock.now) as emulator:
        config = emulator.settings | {
            "project_timezone": "UTC",
            "start_date": "2021-01-01",
            "end_date": "2021-05-30",
            "raw": True,
            "window_days": 1,
        }
        # One at a time: a fake clock also advances during a request.
        config |= {"max_quota_wait": 10_000, "concurrent_exports": 1}
        result = run_here(config, clock, catalog=RAW_EVENTS)
        answers = {seen.status for seen in emulator.requests}
    assert result.error is None
    assert result.lines.total() == 150
    assert answers == {200}
    # Two hours, minus the pauses between the requests of each.
    assert 7100 <= result.waited <= 7200


def test_past_max_quota_wait_the_run_can_be_continued() -> None:
    """Past `max_quota_wait` the run fails, and the next one continues from its state."""
    clock = FakeClock(NOW)
    with Emulator(project(150), now=clock.now) as emulator:
        config = emulator.settings | {
            "project_timezone": "UTC",
            "start_date": "2021-01-01",
            "end_date": "2021-05-30",
            "raw": True,
            "window_days": 1,
        }
        config |= {"max_quota_wait": 3700, "lookback_days": 0}
        first = run_here(config, clock, catalog=RAW_EVENTS)
        assert first.error is not None
        assert "quota" in first.error
        assert "max_quota_wait" in first.error
        assert "UTC" in first.error
        assert first.lines.total() == 120
        second = run_here(
            config, FakeClock(clock.now() + dt.timedelta(seconds=3700)), catalog=RAW_EVENTS, state=first.state
        )
    assert second.error is None
    assert second.lines.total() == 30


def test_a_429_caused_by_other_clients_is_waited_for() -> None:
    """A 429 caused by other clients of the project is waited for."""
    clock = FakeClock(NOW)
    faults = [Fault("export", (2, 3), "status:429")]
    with Emulator(project(4), faults=faults, now=clock.now) as emulator:
        config = emulator.settings | {
            "project_timezone": "UTC",
            "start_date": "2021-01-01",
            "end_date": "2021-01-04",
            "raw": True,
            "window_days": 1,
        }
        config |= {"concurrent_exports": 1}
        result = run_here(config, clock, catalog=RAW_EVENTS)
    assert result.error is None
    assert result.lines.total() == 4
    assert 3500 <= result.waited <= 7200
