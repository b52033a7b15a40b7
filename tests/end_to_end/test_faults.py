"""Whatever goes wrong: everything is delivered once, or the run stops and says why, and the state resumes."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import NAMES, Emulator, Fault, SyntheticProject
from tests.pipeline import Run, run_tap

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 3)
ONE_BY_ONE = {
    "start_date": "2024-01-01",
    "end_date": "2024-01-03",
    "window_days": 1,
    "concurrent_exports": 1,
    "request_timeout": 2,
    "raw": True,
}

# A line that is no event among whole ones: reported, or set aside.
BAD_LINES = {"bad-line", "bad-utf8"}
# What only looks odd.
HARMLESS = {"bom", "crlf", "blank-lines", "no-final-newline", "nul", "lone-surrogate", "duplicate-keys"}
# Answers that another try would not change.
LASTING = {
    "status:400": "a parameter was not accepted",
    "status:400-auth": "credentials were not accepted",
    "status:401": "credentials were not accepted",
    "status:402": "plan",
    "status:403": "no access",
    "status:404": "nothing there",
    "redirect": "credentials go to no other address",
    "encoding": "only gzip was asked for",
}
WAITED_OUT = {"status:429", "status:429-concurrent"}
SENTINELS = ["sentinel:terminated early", "sentinel:export terminated early", "sentinel:[terminated early]"]
OF_PROFILES = {"session-expired", "short-page", "empty-object"}
PASSING = sorted(
    [name for name in NAMES if name != "sentinel:TEXT" and name not in BAD_LINES | HARMLESS | set(LASTING)] + SENTINELS
)
PASSING = [name for name in PASSING if name not in WAITED_OUT | OF_PROFILES]
VALUES: dict[str, object] = {
    "stall": 6,
    "silence": 6,
    "redirect": "http://127.0.0.1:9/elsewhere",
    "endless-line": 40 * 2**20,
    "bomb": 2**28,
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


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_costs_a_try_and_nothing_else(name: str, only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", 2, name, value=VALUES.get(name)), {"max_retries": 1}, only_raw_events).well()
    assert lines(run) == held()
    assert run.bookmark == "2024-01-04T00:00:00+00:00"
    assert any("events 2024-01-02" in line for line in run.problems), "what was tried again is said"


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_stays_stops_the_run_at_the_last_complete_window(
    name: str, only_raw_events: dict[str, Any]
) -> None:
    fault = Fault("export", range(2, 99), name, value=VALUES.get(name))
    run = export(fault, {"max_retries": 0}, only_raw_events)
    stopped_as_it_should(run)
    resumed = export(Fault("export", 99, name), {"lookback_days": 0}, only_raw_events, run.states[-1]).well()
    assert lines(resumed) == held(FIRST + dt.timedelta(days=1))


@pytest.mark.parametrize(("name", "says"), LASTING.items())
def test_an_answer_that_would_stay_the_same_is_not_asked_for_twice(
    name: str, says: str, only_raw_events: dict[str, Any]
) -> None:
    with Emulator(project(), faults=[Fault("export", range(2, 99), name, value=VALUES.get(name))]) as emulator:
        run = run_tap(emulator.settings | ONE_BY_ONE, catalog=only_raw_events)
        asked = [seen.query["from_date"] for seen in emulator.requests]
    stopped_as_it_should(run)
    assert says in run.errors[0]
    assert asked.count("2024-01-02") == 1


def stopped_as_it_should(run: Run) -> None:
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "events 2024-01-02" in run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)
    assert lines(run) == held(FIRST, FIRST)
    assert run.bookmark == "2024-01-02T00:00:00+00:00"


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_what_only_looks_odd_is_delivered(name: str, only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", 2, name), {"max_retries": 0}, only_raw_events).well()
    assert len(run.records()) == held().total()
    assert b"\r" not in run.stdout


@pytest.mark.parametrize("name", sorted(BAD_LINES))
def test_a_bad_line_stops_the_run_with_its_number_and_its_start(name: str, only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", range(2, 99), name), {"max_retries": 1}, only_raw_events)
    stopped_as_it_should(run)
    assert "line 6" in run.errors[0]
    assert "bad_lines" in run.errors[0]


@pytest.mark.parametrize("name", sorted(BAD_LINES))
def test_a_bad_line_that_was_a_passing_damage_costs_a_try(name: str, only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", 2, name), {"max_retries": 1}, only_raw_events).well()
    assert lines(run) == held()


@pytest.mark.parametrize("name", sorted(BAD_LINES))
def test_skipped_lines_are_set_aside_as_they_came_and_counted(
    name: str, only_raw_events: dict[str, Any], tmp_path: Any
) -> None:
    aside = tmp_path / "bad-lines"
    extra = {"bad_lines": "skip", "bad_lines_path": str(aside)}
    run = export(Fault("export", 2, name), extra, only_raw_events).well()
    # One of the faults adds a line, the other damages one.
    assert len(aside.read_bytes().split(b"\n")) == 2
    assert not lines(run) - held()
    assert (held() - lines(run)).total() == (name == "bad-utf8")
    assert any("1 line" in line for line in run.problems)


def test_a_sentinel_is_no_bad_line_to_skip(only_raw_events: dict[str, Any], tmp_path: Any) -> None:
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "aside"), "max_retries": 0}
    for name in [*SENTINELS, "error-line", "error-object", "half-line"]:
        stopped_as_it_should(export(Fault("export", range(2, 99), name), extra, only_raw_events))
    assert (tmp_path / "aside").read_bytes() == b""


@pytest.mark.parametrize("name", sorted(WAITED_OUT))
def test_too_many_requests_are_waited_out_if_that_is_allowed(name: str, only_raw_events: dict[str, Any]) -> None:
    run = export(Fault("export", 2, "status:429", value="seconds"), {"max_retries": 0}, only_raw_events).well()
    assert lines(run) == held()
    run = export(Fault("export", range(2, 99), name), {"max_quota_wait": 30}, only_raw_events)
    stopped_as_it_should(run)
    assert "max_quota_wait" in run.errors[0]
    assert "UTC" in run.errors[0]


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
