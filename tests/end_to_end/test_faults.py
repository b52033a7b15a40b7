"""Whatever goes wrong: everything is delivered once, or the run stops and says why, and the state resumes."""

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


def held(first: dt.date = FIRST, last: dt.date = LAST) -> Counter[bytes]:
    return Counter(project().lines(first, last, now=dt.datetime.now(dt.UTC)))


def test_a_run_that_was_stopped_goes_on_where_it_was(only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", range(2, 99), "gzip-cut"), {"max_retries": 0}, only_raw_events)
    stopped_as_it_should(run)
    resumed = export(Fault("export", 99, "gzip-cut"), {"lookback_days": 0}, only_raw_events, run.states[-1]).well()
    assert lines(resumed) == held(FIRST + dt.timedelta(days=1))


@pytest.mark.parametrize("name", ["status:401", "redirect", "encoding"])
def test_an_answer_that_would_stay_the_same_is_not_asked_for_twice(name: str, only_raw_events: dict[str, Any]) -> None:
    fault = Fault("export", range(2, 99), name, value="http://127.0.0.1:9/elsewhere")
    with Emulator(project(), faults=[fault]) as emulator:
        run = run_tap(emulator.settings | ONE_BY_ONE, catalog=only_raw_events)
        asked = [seen.query["from_date"] for seen in emulator.requests]
    stopped_as_it_should(run)
    assert asked.count("2024-01-02") == 1


class SlowThenBad(SyntheticProject):
    """Its first day takes a second, and its second day begins with a line that is no event."""

    def lines(self, first: dt.date, last: dt.date, *, now: dt.datetime, in_ms: bool = False) -> Iterator[bytes]:
        if first == FIRST:
            time.sleep(1)
        elif first == LAST - dt.timedelta(days=1):
            yield b"[]"
        yield from super().lines(first, last, now=now, in_ms=in_ms)


def test_an_error_in_a_window_ahead_surfaces_when_its_turn_comes(only_raw_events: dict[str, Any]) -> None:
    ahead = ONE_BY_ONE | {"concurrent_exports": 3, "max_retries": 0}
    with Emulator(SlowThenBad(first_day=FIRST, last_day=LAST, events_per_day=120, profiles=30)) as emulator:
        run = run_tap(emulator.settings | ahead, catalog=only_raw_events)
        assert {seen.query["from_date"] for seen in emulator.requests} >= {"2024-01-01", "2024-01-03"}
    stopped_as_it_should(run)


def stopped_as_it_should(run: Run) -> None:
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "events 2024-01-02" in run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)
    assert lines(run) == held(FIRST, FIRST)
    assert run.bookmark == "2024-01-02T00:00:00+00:00"


@pytest.mark.parametrize("name", ["bad-line", "bad-utf8"])
def test_a_bad_line_stops_the_run_with_its_number_and_its_start(name: str, only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", range(2, 99), name), {"max_retries": 1}, only_raw_events)
    stopped_as_it_should(run)
    assert "line 6" in run.errors[0]
    assert "bad_lines" in run.errors[0]


@pytest.mark.parametrize("name", ["sentinel:[terminated early]", "error-object", "half-line"])
def test_a_sentinel_is_no_bad_line_to_skip(name: str, only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "aside"), "max_retries": 0}
    stopped_as_it_should(export(Fault("export", range(2, 99), name), extra, only_raw_events))
    assert not (tmp_path / "aside").exists()


@pytest.mark.parametrize("answer", [b'{"message":"Internal error","code":500}', b"null", b'"Service unavailable"'])
def test_an_answer_that_is_some_message_is_no_bad_line_to_skip(
    answer: bytes, only_raw_events: dict[str, Any], tmp_path: Path
) -> None:
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "aside"), "max_retries": 0, "window_days": 1}
    days = {FIRST: [b'{"event":"A","properties":{}}'], FIRST + dt.timedelta(days=1): [answer]}
    with Emulator(FixedProject(days)) as emulator:
        run = run_tap(emulator.settings | ONE_BY_ONE | extra, catalog=only_raw_events)
    assert run.exit_code == 1
    assert f"events {FIRST + dt.timedelta(days=1)}: " in run.errors[0]
    assert run.bookmark == "2024-01-02T00:00:00+00:00"


def test_a_window_that_is_always_cut_is_fetched_by_halves(only_raw_events: dict[str, Any]) -> None:
    with Emulator(project(), faults=[Fault("export", (1, 2), "gzip-cut")]) as emulator:
        settings = emulator.settings | ONE_BY_ONE | {"window_days": 3, "max_retries": 1}
        run = run_tap(settings, catalog=only_raw_events).well()
        asked = [(seen.query["from_date"], seen.query["to_date"]) for seen in emulator.requests]
    assert lines(run) == held()
    assert asked == [
        ("2024-01-01", "2024-01-03"),
        ("2024-01-01", "2024-01-03"),
        ("2024-01-01", "2024-01-01"),
        ("2024-01-02", "2024-01-03"),
    ]


def test_a_half_that_arrived_is_delivered_before_the_other_one_stops_the_run(only_raw_events: dict[str, Any]) -> None:
    with Emulator(project(), faults=[Fault("export", (1, 3, 4), "gzip-cut")]) as emulator:
        settings = emulator.settings | ONE_BY_ONE | {"window_days": 3, "max_retries": 0}
        run = run_tap(settings, catalog=only_raw_events)
    assert run.exit_code == 1
    assert "events 2024-01-02..2024-01-03" in run.errors[0]
    assert lines(run) == held(FIRST, FIRST)
    assert run.bookmark == "2024-01-02T00:00:00+00:00"
