"""Funnels, read from the emulator by the installed command."""

from __future__ import annotations

import datetime as dt
import json
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Plan, SyntheticProject
from tap_mixpanel_stream.mixpanel import json_response
from tests.harness import Run, catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

PROJECT = SyntheticProject(first_day=dt.date(2024, 1, 1))
ANALYSIS: dict[str, Any] = {"completion": 1, "starting_amount": 2, "steps": 1, "worst": 0}
STEPS: list[dict[str, Any]] = [
    {
        "count": 2,
        "goal": "$custom_event:12345",
        "step_label": "Game Played",
        "event": "$custom_event:12345",
        "custom_event": True,
        "custom_event_id": 12345,
        "avg_time": None,
        "avg_time_from_start": 133.5,
        "step_conv_ratio": 1,
        "overall_conv_ratio": 1,
        "a key of tomorrow": {"nested": [1]},
    }
]
DAY: dict[str, Any] = {"steps": STEPS, "analysis": ANALYSIS}
DAYS_OF_JUNE = {f"2024-06-{day:02}": DAY for day in range(1, 31)}
NOW = dt.datetime(2024, 6, 30, 9, 30, 15, tzinfo=dt.UTC)


@cache
def catalog(*, raw: bool = False) -> dict[str, Any]:
    return catalog_of("funnels", raw=raw)


@cache
def full_table() -> dict[str, Any]:
    """Return a catalog that reads funnels with FULL_TABLE."""
    found = catalog_of("funnels")
    for entry in found["streams"]:
        entry["replication_method"] = "FULL_TABLE"
    return found


def days(*dates: str) -> dict[str, Any]:
    return dict.fromkeys(dates, DAY)


def requested(emulator: Emulator) -> list[tuple[str, str, str]]:
    """Return funnel and days of each request, without those for the list."""
    queries = [seen.query for seen in emulator.requests if "funnel_id" in seen.query]
    return [(query["funnel_id"], query["from_date"], query["to_date"]) for query in queries]


def keys(run: Run | Result) -> list[tuple[int, str]]:
    messages = (json.loads(line) for line in run.stdout.splitlines())
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    return [(record["funnel_id"], record["date"]) for record in records]


def by_funnel(result: Result) -> dict[str, str]:
    """Return the bookmarks in the last state."""
    assert result.state is not None
    state = result.state["bookmarks"]["funnels"]
    assert set(state) == {"replication_key", "by_funnel"}
    found: dict[str, str] = state["by_funnel"]
    return found


def here(project: FixedProject | SyntheticProject, now: dt.datetime, **more: Any) -> tuple[Result, list[Any]]:
    clock = FakeClock(now)
    with Emulator(project, now=clock.now) as emulator:
        state = more.pop("state", None)
        settings = {**emulator.settings, "start_date": "2024-01-01", **more}
        result = run_here(settings, clock, catalog=catalog(), state=state)
        return result, requested(emulator)


@pytest.mark.parametrize("raw", [False, True])
def test_a_funnel_has_one_record_per_day(raw: bool) -> None:
    """A funnel has one flat record for each day and none for `$overall`."""
    day = {**DAY, "analysis": {**ANALYSIS, "best": 9}, "note": "x"}
    project = FixedProject(funnels=[{"funnel_id": 7, "name": "Käufe", "days": {"2024-01-02": day}}])
    with Emulator(project, funnel_overall=True) as emulator:
        settings = emulator.settings | {"raw": raw, "start_date": "2024-01-01", "end_date": "2024-01-03"}
        run = run_tap(settings, catalog=catalog(raw=raw)).well()
    assert run.records("funnels") == [
        {
            "funnel_id": 7,
            "date": "2024-01-02",
            "name": "Käufe",
            "steps": STEPS,
            "analysis_starting_amount": 2,
            "analysis_completion": 1,
            "analysis_steps": 1,
            "analysis_worst": 0,
            "other": {"note": "x", "analysis_best": 9},
        }
    ]
    assert run.states[-1]["bookmarks"]["funnels"] == {
        "replication_key": "date",
        "by_funnel": {"7": "2024-01-04T00:00:00+00:00"},
    }


def test_stream_maps_keep_funnels() -> None:
    """With a stream map, steps keep all their keys, and records and states are the same."""
    project = FixedProject(funnels=[{"funnel_id": 7, "name": "", "days": days("2024-01-02")}])
    with Emulator(project) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-03"}
        in_blocks = run_tap(settings, catalog=catalog()).well()
        maps = {"stream_maps": {"funnels": {"name": "record['name']"}}}
        one_by_one = run_tap(settings | maps, catalog=catalog()).well()
    assert one_by_one.records("funnels") == in_blocks.records("funnels")
    assert one_by_one.records("funnels")[0]["steps"] == STEPS
    assert one_by_one.states == in_blocks.states


def test_a_year_of_a_funnel_takes_one_request() -> None:
    """Every day of every funnel is read once, with up to 366 days in a request."""
    project = SyntheticProject(first_day=dt.date(2023, 1, 1))
    result, requests = here(project, NOW, start_date="2023-01-01")
    assert result.error is None
    dates = [str(project.first_day + dt.timedelta(days=day)) for day in range(547)]
    assert sorted(keys(result)) == [(funnel, date) for funnel in (7509, 9070) for date in dates]
    windows = [("2023-01-01", "2024-01-01"), ("2024-01-02", "2024-06-30")]
    assert requests == [(funnel, *window) for funnel in ("7509", "9070") for window in windows]


@pytest.mark.parametrize("name", ["status:504", "status:400-timeout", "silence", "cut-json"])
def test_a_long_funnel_request_that_fails_is_halved(name: str) -> None:
    """A long request that fails twice is halved, and later requests of the run are no longer."""
    clock = FakeClock(NOW)
    # The first request is the list.
    faults = [Fault("funnels", (2, 3), name, value=3)]
    with Emulator(PROJECT, faults=faults, now=clock.now) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "request_timeout": 1}
        result = run_here(settings, clock, catalog=catalog())
        requests = requested(emulator)
    assert result.error is None
    assert len(keys(result)) == len(set(keys(result))) == 2 * 182
    whole, halves = ("2024-01-01", "2024-06-30"), [("2024-01-01", "2024-03-31"), ("2024-04-01", "2024-06-30")]
    assert requests == [("7509", *whole)] * 2 + [(funnel, *half) for funnel in ("7509", "9070") for half in halves]
    [warning] = [each for each in result.warnings if "at a time" in each]
    assert warning.startswith("funnels 2024-01-01..2024-06-30 of funnel 7509: ")
    assert warning.endswith(". Requesting 91 days at a time")


def test_a_too_large_funnel_response_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response over the size limit is not requested again; its halves are."""
    monkeypatch.setattr(
        json_response.fetch, "__kwdefaults__", {**(json_response.fetch.__kwdefaults__ or {}), "limit": 60_000}
    )
    result, requests = here(PROJECT, NOW)
    assert result.error is None
    assert len(keys(result)) == 2 * 182
    assert requests[:2] == [("7509", "2024-01-01", "2024-06-30"), ("7509", "2024-01-01", "2024-03-31")]


def test_a_short_funnel_request_is_retried() -> None:
    """Requests of 60 days or fewer are not halved: after `max_retries` they fail."""
    clock = FakeClock(NOW)
    with Emulator(PROJECT, faults=[Fault("funnels", range(2, 99), "status:504")], now=clock.now) as emulator:
        result = run_here(emulator.settings | {"start_date": "2024-01-01"}, clock, catalog=catalog())
        requests = requested(emulator)
    assert result.error is not None
    assert "funnels 2024-01-01..2024-02-14 of funnel 7509" in result.error
    first = ["2024-06-30"] * 2 + ["2024-03-31"] * 2 + ["2024-02-14"] * 6
    # A second failed funnel in a row ends the stream.
    assert [request[2] for request in requests] == first + ["2024-02-14"] * 6
    assert "funnels 2024-01-01..2024-02-14 of funnel 9070" in result.error


def test_a_failed_funnel_does_not_stop_the_others() -> None:
    """The other funnels are read, and the run fails with the name of the failed one."""
    project = FixedProject(funnels=[{"funnel_id": number, "name": "", "days": DAYS_OF_JUNE} for number in (1, 2, 3)])
    with Emulator(project, faults=[Fault("funnels", 2, "status:503")]) as emulator:
        days = {"start_date": "2024-06-01", "end_date": "2024-06-30", "max_retries": 0}
        run = run_tap(emulator.settings | days, catalog=catalog())
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("funnels 2024-06-01..2024-06-30 of funnel 1: HTTP 503")
    assert {funnel for funnel, _ in keys(run)} == {2, 3}
    assert set(run.states[-1]["bookmarks"]["funnels"]["by_funnel"]) == {"2", "3"}


def test_the_funnel_bookmark_of_today_is_now() -> None:
    """For today the bookmark is the time of the request."""
    # Three requests: a fourth would wait for the rate limit.
    result, _ = here(PROJECT, NOW, start_date="2024-06-30")
    assert by_funnel(result) == dict.fromkeys(("7509", "9070"), "2024-06-30T09:30:15+00:00")


def test_a_run_reads_the_lookback_of_funnels() -> None:
    """A run starts `lookback_days` before the bookmark."""
    first, _ = here(PROJECT, NOW)
    _, requests = here(PROJECT, NOW + dt.timedelta(days=2), state=first.state)
    assert {request[1:] for request in requests} == {("2024-06-25", "2024-07-02")}


def test_funnel_days_are_in_the_project_time_zone() -> None:
    """The last day and the bookmark use the project's time zone."""
    before_midnight_in_new_york = dt.datetime(2024, 1, 4, 3, tzinfo=dt.UTC)
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), zone="America/New_York")
    result, requests = here(project, before_midnight_in_new_york, project_timezone="America/New_York")
    assert requests[0][1:] == ("2024-01-01", "2024-01-03")
    result, _ = here(project, before_midnight_in_new_york, project_timezone="America/New_York", end_date="2024-01-02")
    assert set(by_funnel(result).values()) == {"2024-01-03T05:00:00+00:00"}


def test_each_funnel_has_its_own_bookmark() -> None:
    """A failed run keeps the bookmark of each funnel, and the next starts with those furthest behind."""
    clock = FakeClock(NOW)
    # The list and one funnel succeed, the other funnel fails.
    with Emulator(PROJECT, faults=[Fault("funnels", range(3, 99), "status:503")], now=clock.now) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "max_retries": 0, "lookback_days": 0}
        first = run_here(settings, clock, catalog=catalog())
    assert first.error is not None
    assert "of funnel 9070" in first.error
    assert by_funnel(first) == {"7509": "2024-06-30T09:30:15+00:00"}
    second, requests = here(PROJECT, NOW, state=first.state, lookback_days=0)
    assert second.error is None
    assert requests == [("9070", "2024-01-01", "2024-06-30"), ("7509", "2024-06-30", "2024-06-30")]
    assert set(by_funnel(second)) == {"7509", "9070"}


def test_a_small_quota_reads_all_funnels_over_runs() -> None:
    """Each run continues with the funnels that the previous one did not reach."""
    project = FixedProject(funnels=[{"funnel_id": number, "name": "", "days": DAYS_OF_JUNE} for number in range(7)])
    state, found = None, []
    for hour in range(4):
        result, _ = here(
            project,
            NOW + dt.timedelta(hours=hour),
            state=state,
            start_date="2024-06-01",
            hourly_quota=3,
            max_quota_wait=0,
        )
        assert result.error is not None
        assert "max_quota_wait" in result.error
        found.append({funnel for funnel, _ in keys(result)})
        state = result.state
    assert found == [{0, 1}, {2, 3}, {4, 5}, {6, 0}]


@pytest.mark.parametrize("funnel_ids", [{}, {"funnel_ids": [7509, 9070]}])
def test_an_older_funnel_state_is_migrated(funnel_ids: dict[str, Any]) -> None:
    """A single bookmark, as version 0.1.0 wrote it, becomes the bookmark of each funnel."""
    shared = {"replication_key": "date", "replication_key_value": "2024-06-30T09:00:00+00:00"}
    result, requests = here(PROJECT, NOW, state={"bookmarks": {"funnels": shared | funnel_ids}}, end_date="2024-06-28")
    assert result.error is None
    assert requests == [(funnel, "2024-06-25", "2024-06-28") for funnel in ("7509", "9070")]
    assert by_funnel(result) == dict.fromkeys(("7509", "9070"), "2024-06-30T09:00:00+00:00")


def test_a_new_funnel_is_read_from_the_start() -> None:
    """A funnel that is not in the state is read from `start_date`, the others are not."""
    dates = ["2024-01-01", "2024-01-10", "2024-01-20"]
    old = {"funnel_id": 1, "name": "old", "days": days(*dates)}
    new = {"funnel_id": 2, "name": "new", "days": days(*dates)}
    state = {"replication_key_value": "2024-01-20T09:00:00+00:00", "funnel_ids": [1]}
    second, requests = here(
        FixedProject(funnels=[old, new]),
        dt.datetime(2024, 1, 21, 9, tzinfo=dt.UTC),
        state={"bookmarks": {"funnels": state}},
    )
    assert sorted(keys(second)) == [(1, "2024-01-20"), *((2, date) for date in dates)]
    assert requests == [("2", "2024-01-01", "2024-01-21"), ("1", "2024-01-15", "2024-01-21")]
    assert set(by_funnel(second)) == {"1", "2"}


def test_a_deleted_funnel_is_skipped() -> None:
    """A funnel in the state that Mixpanel no longer lists is warned about once and removed."""
    funnels = [{"funnel_id": number, "name": "", "days": days("2024-01-02")} for number in (1, 2)]
    first, _ = here(FixedProject(funnels=funnels), dt.datetime(2024, 1, 3, tzinfo=dt.UTC))
    for remaining in (funnels[:1], []):
        second, _ = here(FixedProject(funnels=remaining), dt.datetime(2024, 1, 4, tzinfo=dt.UTC), state=first.state)
        assert second.error is None
        assert "funnel 2 of the state is no longer in Mixpanel. Skipping this funnel" in second.warnings
        assert set(by_funnel(second)) == {str(each["funnel_id"]) for each in remaining}
        third, _ = here(FixedProject(funnels=remaining), dt.datetime(2024, 1, 4, tzinfo=dt.UTC), state=second.state)
        assert third.warnings == []


@pytest.mark.parametrize("status", ["status:400", "status:404"])
def test_a_rejected_funnel_is_skipped(status: str) -> None:
    """A funnel that Mixpanel rejects while it returns others is skipped with a warning."""
    funnels = [{"funnel_id": number, "name": "", "days": days("2024-01-02")} for number in (1, 2, 3)]
    for number, others in ((2, [2, 3]), (3, [1, 3])):
        # The first request is the list.
        with Emulator(FixedProject(funnels=funnels), faults=[Fault("funnels", number, status)]) as emulator:
            settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-03"}
            run = run_tap(settings, catalog=catalog()).well()
        assert [record["funnel_id"] for record in run.records("funnels")] == others
        assert set(run.states[-1]["bookmarks"]["funnels"]["by_funnel"]) == set(map(str, others))
        [problem] = run.problems
        assert f"of funnel {number - 1}: HTTP {status[-3:]}" in problem
        assert problem.endswith("Skipping this funnel")


def test_a_new_funnel_does_not_stop_the_known_ones() -> None:
    """Known funnels are read although new ones begin before the plan's history; the run fails with that error."""
    funnels = [{"funnel_id": number, "name": "", "days": DAYS_OF_JUNE} for number in (1, 2, 3, 4)]
    known = dict.fromkeys(("3", "4"), "2024-06-29T00:00:00+00:00")
    with Emulator(FixedProject(funnels=funnels), now=lambda: NOW, plan=Plan(history_days=30)) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-06-30"}
        run = run_tap(settings, catalog=catalog(), state={"bookmarks": {"funnels": {"by_funnel": known}}})
        requests = requested(emulator)
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("funnels 2024-01-01..2024-06-30 of funnel 1: HTTP 403, the request begins before")
    assert "the plan's history: set start_date to" in error
    # The other new funnel begins on the same day, so it is not requested.
    assert [request[0] for request in requests] == ["1", "3", "4"]
    assert keys(run) == [(funnel, f"2024-06-{day}") for funnel in (3, 4) for day in range(24, 31)]
    assert run.states[-1]["bookmarks"]["funnels"]["by_funnel"] == dict.fromkeys(("3", "4"), "2024-07-01T00:00:00+00:00")


def test_a_limited_history_fails_funnels() -> None:
    """Days before the plan's history fail the stream instead of skipping the funnel."""
    with Emulator(PROJECT, faults=[Fault("funnels", 2, "status:403-history")]) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-03"}
        run = run_tap(settings, catalog=catalog())
    assert run.exit_code == 1
    assert run.records("funnels") == []
    [error] = run.errors
    assert "of funnel 7509: HTTP 403, the request begins before the plan's history" in error


@pytest.mark.parametrize("status", ["status:404", "status:404-datagroup"])
def test_only_rejected_funnels_fail_the_stream(status: str) -> None:
    """If Mixpanel rejects every funnel, the stream fails."""
    with Emulator(PROJECT, faults=[Fault("funnels", range(2, 99), status)]) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-03"}
        run = run_tap(settings, catalog=catalog())
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert "of funnel 7509: HTTP 404" in run.errors[0]


def test_invalid_start_or_state_of_funnels() -> None:
    """A missing start date or an invalid state is rejected before any request."""
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings, catalog=catalog())
        assert run.exit_code == 1
        assert "start_date is missing: set it to the first day of funnels" in run.errors[0]
        for broken, says in (
            ({"replication_key_value": "soon"}, "the bookmark of funnels is broken"),
            ({"funnel_ids": 7}, "the bookmark of funnels is broken: funnel_ids is 7, not a list"),
            ({"by_funnel": [7]}, "broken: by_funnel is [7], not an object"),
            (
                {"by_funnel": {"seven": "2024-01-04T00:00:00+00:00"}},
                'by_funnel has the key "seven", which is not a funnel ID',
            ),
            ({"by_funnel": {"7": "soon"}}, 'by_funnel.7 is "soon", not a date-time such as'),
        ):
            settings = emulator.settings | {"start_date": "2024-01-01"}
            for selection in (catalog(), full_table()):
                run = run_tap(settings, catalog=selection, state={"bookmarks": {"funnels": broken}})
                assert run.exit_code == 1
                assert says in run.errors[0]
        assert emulator.requests == []
