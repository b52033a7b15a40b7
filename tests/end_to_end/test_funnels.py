"""Funnels, from the emulator through the installed command."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.mixpanel.turned_clock import TurnedClock
from tests.pipeline import Run, catalog_of, run_tap
from tests.soak.in_process import Result, run_here

PROJECT = SyntheticProject(first_day=dt.date(2024, 1, 1))
ANALYSIS: dict[str, Any] = {"completion": 1, "starting_amount": 2, "steps": 1, "worst": 0}
DAY: dict[str, Any] = {"steps": [{"count": 2, "goal": "A"}], "analysis": ANALYSIS}
NOW = dt.datetime(2024, 6, 30, 9, 30, 15, tzinfo=dt.UTC)


@cache
def catalog(*, raw: bool = False) -> dict[str, Any]:
    return catalog_of("funnels", raw=raw)


def days(*dates: str) -> dict[str, Any]:
    return dict.fromkeys(dates, DAY)


def asked(emulator: Emulator) -> list[tuple[str, str, str]]:
    """The funnel and the days of each query, without the lists."""
    queries = [seen.query for seen in emulator.requests if "funnel_id" in seen.query]
    return [(query["funnel_id"], query["from_date"], query["to_date"]) for query in queries]


def keys(run: Run | Result) -> list[tuple[int, str]]:
    messages = (json.loads(line) for line in run.stdout.splitlines())
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    return [(record["funnel_id"], record["date"]) for record in records]


def here(project: FixedProject | SyntheticProject, now: dt.datetime, **more: Any) -> tuple[Result, list[Any]]:
    clock = TurnedClock(now)
    with Emulator(project, now=clock.now) as emulator:
        state = more.pop("state", None)
        settings = {**emulator.settings, "start_date": "2024-01-01", **more}
        result = run_here(settings, clock, catalog=catalog(), state=state)
        return result, asked(emulator)


@pytest.mark.parametrize("raw", [False, True])
def test_a_funnel_has_one_flat_record_a_day_and_none_for_the_sum(raw: bool) -> None:
    day = {**DAY, "analysis": {**ANALYSIS, "best": 9}, "note": "x"}
    project = FixedProject(funnels=[{"funnel_id": 7, "name": "Käufe", "days": {"2024-01-02": day}}])
    with Emulator(project) as emulator:
        settings = emulator.settings | {"raw": raw, "start_date": "2024-01-01", "end_date": "2024-01-03"}
        run = run_tap(settings, catalog=catalog(raw=raw)).well()
    assert run.records("funnels") == [
        {
            "funnel_id": 7,
            "date": "2024-01-02",
            "name": "Käufe",
            "steps": DAY["steps"],
            "analysis_starting_amount": 2,
            "analysis_completion": 1,
            "analysis_steps": 1,
            "analysis_worst": 0,
            "other": {"note": "x", "analysis_best": 9},
        }
    ]
    assert run.states[-1]["bookmarks"]["funnels"] == {
        "replication_key": "date",
        "replication_key_value": "2024-01-04T00:00:00+00:00",
        "funnel_ids": [7],
    }


def test_every_day_of_every_funnel_comes_once_in_windows_of_at_most_sixty_days() -> None:
    result, requests = here(PROJECT, NOW)
    assert result.error is None
    dates = [str(PROJECT.first_day + dt.timedelta(days=day)) for day in range(182)]
    assert sorted(keys(result)) == [(funnel, date) for funnel in (7509, 9070) for date in dates]
    windows = [("2024-01-01", "2024-02-29"), ("2024-03-01", "2024-04-29"), ("2024-04-30", "2024-06-28")]
    windows.append(("2024-06-29", "2024-06-30"))
    assert requests == [(funnel, *window) for window in windows for funnel in ("7509", "9070")]


def test_the_bookmark_is_the_instant_of_the_request_for_a_day_that_is_not_over() -> None:
    # Three requests: a fourth would have to wait for its second.
    result, _ = here(PROJECT, NOW, start_date="2024-06-30")
    assert result.state is not None
    assert result.state["bookmarks"]["funnels"]["replication_key_value"] == "2024-06-30T09:30:15+00:00"


def test_a_run_starts_at_the_bookmark_less_the_look_back() -> None:
    first, _ = here(PROJECT, NOW)
    _, requests = here(PROJECT, NOW + dt.timedelta(days=2), state=first.state)
    assert {request[1:] for request in requests} == {("2024-06-25", "2024-07-02")}


def test_days_are_those_of_the_project() -> None:
    before_midnight_in_new_york = dt.datetime(2024, 1, 4, 3, tzinfo=dt.UTC)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), zone="America/New_York")
    result, requests = here(project, before_midnight_in_new_york, project_timezone="America/New_York")
    assert requests[0][1:] == ("2024-01-01", "2024-01-03")
    result, _ = here(project, before_midnight_in_new_york, project_timezone="America/New_York", end_date="2024-01-02")
    assert result.state is not None
    assert result.state["bookmarks"]["funnels"]["replication_key_value"] == "2024-01-03T05:00:00+00:00"


def test_the_bookmark_covers_complete_windows_only_and_a_run_goes_on_from_it() -> None:
    clock = TurnedClock(NOW)
    # The list, two windows of two funnels each, and of the third window one.
    with Emulator(PROJECT, faults=[Fault("funnels", range(7, 99), "cut-json")], now=clock.now) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "max_retries": 0, "lookback_days": 0}
        first = run_here(settings, clock, catalog=catalog())
    assert first.error is not None
    assert "funnels 2024-04-30..2024-06-28 of funnel 9070" in first.error
    assert first.state is not None
    assert first.state["bookmarks"]["funnels"]["replication_key_value"] == "2024-04-30T00:00:00+00:00"
    second, requests = here(PROJECT, NOW, state=first.state, lookback_days=0)
    assert second.error is None
    assert requests[0][1] == "2024-04-30"
    assert len(keys(first) + keys(second)) == len(set(keys(first) + keys(second))) == 2 * 182


def test_a_bookmark_never_moves_back() -> None:
    state = {
        "bookmarks": {"funnels": {"replication_key": "date", "replication_key_value": "2024-06-30T09:00:00+00:00"}}
    }
    result, _ = here(PROJECT, NOW, state=state, end_date="2024-06-28")
    assert result.error is None
    assert result.state is not None
    assert result.state["bookmarks"]["funnels"]["replication_key_value"] == "2024-06-30T09:00:00+00:00"


def test_a_funnel_saved_later_is_read_from_the_start_and_the_others_are_not() -> None:
    dates = ["2024-01-01", "2024-01-10", "2024-01-20"]
    old = {"funnel_id": 1, "name": "old", "days": days(*dates)}
    new = {"funnel_id": 2, "name": "new", "days": days(*dates)}
    first, _ = here(FixedProject(funnels=[old]), dt.datetime(2024, 1, 20, 9, tzinfo=dt.UTC))
    second, requests = here(
        FixedProject(funnels=[old, new]), dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC), state=first.state
    )
    assert sorted(keys(second)) == [(1, "2024-01-20"), *((2, date) for date in dates)]
    assert requests == [
        ("2", "2024-01-01", "2024-01-14"),
        ("1", "2024-01-15", "2024-01-21"),
        ("2", "2024-01-15", "2024-01-21"),
    ]
    third, requests = here(
        FixedProject(funnels=[old, new]), dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC), state=second.state
    )
    assert third.error is None
    assert [request[0] for request in requests] == ["1", "2"]


def test_a_funnel_saved_later_stays_new_until_its_past_is_delivered() -> None:
    funnels = [{"funnel_id": number, "name": "", "days": days("2024-01-01")} for number in (1, 2)]
    state = {
        "bookmarks": {
            "funnels": {
                "replication_key": "date",
                "replication_key_value": "2024-06-30T09:00:00+00:00",
                "funnel_ids": [1],
            }
        }
    }
    clock = TurnedClock(NOW)
    # The list, the first of three windows of the past, and then no more.
    with Emulator(FixedProject(funnels=funnels), faults=[Fault("funnels", range(3, 99), "cut-json")]) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "max_retries": 0}
        failed = run_here(settings, clock, catalog=catalog(), state=state)
    assert failed.error is not None
    assert failed.state is not None
    assert failed.state["bookmarks"]["funnels"]["funnel_ids"] == [1]
    resumed, _ = here(FixedProject(funnels=funnels), NOW, state=failed.state)
    assert keys(resumed) == [(2, "2024-01-01")]


def test_a_start_without_a_first_day_or_with_a_broken_state_is_refused_by_name() -> None:
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings, catalog=catalog())
        assert run.exit_code == 1
        assert "start_date is missing: set it to the first day of funnels" in run.errors[0]
        for broken, says in (
            ({"replication_key_value": "soon"}, "the bookmark of funnels is broken"),
            ({"funnel_ids": 7}, "funnel_ids of funnels is no list"),
        ):
            settings = emulator.settings | {"start_date": "2024-01-01"}
            run = run_tap(settings, catalog=catalog(), state={"bookmarks": {"funnels": broken}})
            assert run.exit_code == 1
            assert says in run.errors[0]
        assert emulator.requests == []
