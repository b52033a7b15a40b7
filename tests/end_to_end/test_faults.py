"""Faults: everything is delivered once, or the run fails with the cause and the next one continues."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import Run, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 3)
ONE_BY_ONE = {
    "project_timezone": "UTC",
    "start_date": "2024-01-01",
    "end_date": "2024-01-03",
    "window_days": 1,
    "concurrent_exports": 1,
    "request_timeout": 2,
    "raw": True,
}


def project() -> SyntheticProject:
    return SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=120, profiles=30)


def export(fault: Fault, extra: dict[str, Any], catalog: dict[str, Any], state: dict[str, Any] | None = None) -> Run:
    with Emulator(project(), faults=[fault]) as emulator:
        return run_tap(emulator.settings | ONE_BY_ONE | extra, catalog=catalog, state=state)


def lines(run: Run) -> Counter[bytes]:
    begin = b'{"type":"RECORD","stream":"events","record":'
    found = (message for message in run.stdout.splitlines() if message.startswith(begin))
    return Counter(message.removeprefix(begin).rpartition(b',"time_extracted"')[0] for message in found)


def expected(first: dt.date = FIRST, last: dt.date = LAST) -> Counter[bytes]:
    return Counter(project().lines(first, last, now=dt.datetime.now(dt.UTC)))


def test_a_failed_run_is_continued(only_raw_events: dict[str, Any]) -> None:
    """After a failure the next run continues with the failed window."""
    run = export(Fault("export", range(2, 99), "gzip-cut"), {"max_retries": 0}, only_raw_events)
    check_stopped(run)
    resumed = export(Fault("export", 99, "gzip-cut"), {"lookback_days": 0}, only_raw_events, run.states[-1]).well()
    assert lines(resumed) == expected(FIRST + dt.timedelta(days=1))


@pytest.mark.parametrize("name", ["status:401", "redirect", "encoding"])
def test_a_lasting_error_is_not_retried(name: str, only_raw_events: dict[str, Any]) -> None:
    """A response that would stay the same is requested once."""
    fault = Fault("export", range(2, 99), name, value="http://127.0.0.1:9/elsewhere")
    with Emulator(project(), faults=[fault]) as emulator:
        run = run_tap(emulator.settings | ONE_BY_ONE, catalog=only_raw_events)
        requested = [seen.query["from_date"] for seen in emulator.requests]
    check_stopped(run)
    assert requested.count("2024-01-02") == 1


class SlowThenBad(SyntheticProject):
    """A project whose first day takes a second, and whose second day begins with a malformed line."""

    def lines(self, first: dt.date, last: dt.date, *, now: dt.datetime, in_ms: bool = False) -> Iterator[bytes]:
        if first == FIRST:
            time.sleep(1)
        elif first == LAST - dt.timedelta(days=1):
            yield b"[]"
        yield from super().lines(first, last, now=now, in_ms=in_ms)


def test_an_error_ahead_is_raised_after_earlier_windows(only_raw_events: dict[str, Any]) -> None:
    """An error in a prefetched window fails the run after the windows before it are delivered."""
    ahead = ONE_BY_ONE | {"concurrent_exports": 3, "max_retries": 0}
    with Emulator(SlowThenBad(first_day=FIRST, last_day=LAST, events_per_day=120, profiles=30)) as emulator:
        run = run_tap(emulator.settings | ahead, catalog=only_raw_events)
        assert {seen.query["from_date"] for seen in emulator.requests} >= {"2024-01-01", "2024-01-03"}
    check_stopped(run)


def check_stopped(run: Run) -> None:
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "events 2024-01-02" in run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)
    assert lines(run) == expected(FIRST, FIRST)
    assert run.bookmark == "2024-01-02T00:00:00+00:00"


@pytest.mark.parametrize("name", ["bad-line", "bad-utf8"])
def test_a_malformed_line_fails_the_run(name: str, only_raw_events: dict[str, Any]) -> None:
    """A malformed line fails the run; the error has its number and names `bad_lines`."""
    run = export(Fault("export", range(2, 99), name), {"max_retries": 1}, only_raw_events)
    check_stopped(run)
    assert "line 6" in run.errors[0]
    assert "bad_lines" in run.errors[0]


@pytest.mark.parametrize("name", ["sentinel:[terminated early]", "error-object", "half-line"])
def test_a_sentinel_is_never_skipped(name: str, only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """With `bad_lines: skip` a sentinel still fails the run."""
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected"), "max_retries": 0}
    check_stopped(export(Fault("export", range(2, 99), name), extra, only_raw_events))
    assert not (tmp_path / "rejected").exists()


@pytest.mark.parametrize("answer", [b'{"message":"Internal error","code":500}', b"null", b'"Service unavailable"'])
def test_an_error_body_is_never_skipped(answer: bytes, only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """With `bad_lines: skip` a body that is only an error message fails the run."""
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected"), "max_retries": 0, "window_days": 1}
    days = {FIRST: [b'{"event":"A","properties":{}}'], FIRST + dt.timedelta(days=1): [answer]}
    with Emulator(FixedProject(days)) as emulator:
        run = run_tap(emulator.settings | ONE_BY_ONE | extra, catalog=only_raw_events)
    assert run.exit_code == 1
    assert f"events {FIRST + dt.timedelta(days=1)}: " in run.errors[0]
    assert run.bookmark == "2024-01-02T00:00:00+00:00"


def test_a_window_truncated_twice_is_halved(only_raw_events: dict[str, Any]) -> None:
    """A window that is truncated on every try is fetched in halves, each row once."""
    with Emulator(project(), faults=[Fault("export", (1, 2), "gzip-cut")]) as emulator:
        settings = emulator.settings | ONE_BY_ONE | {"window_days": 3, "max_retries": 1}
        run = run_tap(settings, catalog=only_raw_events).well()
        requested = [(seen.query["from_date"], seen.query["to_date"]) for seen in emulator.requests]
    assert lines(run) == expected()
    assert requested == [
        ("2024-01-01", "2024-01-03"),
        ("2024-01-01", "2024-01-03"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-02", "2024-01-03"),
    ]


def test_the_first_half_is_delivered_if_the_other_fails(only_raw_events: dict[str, Any]) -> None:
    """The first half of a window is delivered and in the state if the other half fails."""
    with Emulator(project(), faults=[Fault("export", (1, 3, 4), "gzip-cut")]) as emulator:
        settings = emulator.settings | ONE_BY_ONE | {"window_days": 3, "max_retries": 0}
        run = run_tap(settings, catalog=only_raw_events)
    assert run.exit_code == 1
    assert "events 2024-01-02..2024-01-03" in run.errors[0]
    assert lines(run) == expected(FIRST, FIRST)
    assert run.bookmark == "2024-01-02T00:00:00+00:00"
