"""Complete but suspicious responses: empty between busy days, fewer rows than before, events from other days."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject
from tests.harness import Run, run_tap

MONDAY = dt.date(2024, 1, 1)
BY_DAY = {"project_timezone": "UTC", "start_date": "2024-01-01", "window_days": 1, "concurrent_exports": 1}


def day(number: int) -> dt.date:
    return MONDAY + dt.timedelta(days=number)


def lines(number: int, count: int, name: str = "A") -> list[bytes]:
    start = int(dt.datetime.combine(day(number), dt.time(9), dt.UTC).timestamp())
    return [
        b'{"event":"%b","properties":{"time":%d,"distinct_id":"u","$insert_id":"%d-%d"}}'
        % (name.encode(), start + each, number, each)
        for each in range(count)
    ]


def project(*counts: int) -> FixedProject:
    """Return a project with these numbers of events on consecutive days from a Monday on."""
    return FixedProject({day(number): lines(number, count) for number, count in enumerate(counts)})


def run(
    source: FixedProject,
    catalog: dict[str, Any],
    *faults: Fault,
    state: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Run, list[str]]:
    """Run over the project's days; return the run and the days requested."""
    with Emulator(source, faults=faults) as emulator:
        config = emulator.settings | BY_DAY | {"end_date": str(max(source.events))} | settings
        done = run_tap(config, catalog=catalog, state=state)
        return done, [seen.query["from_date"] for seen in emulator.requests]


WAYS: list[dict[str, Any]] = [{}, {"concurrent_exports": 3}, {"worker_processes": 1}, {"raw": True}]


# --- A window without events between busy ones ------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_day_between_busy_ones_is_refetched(
    way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """An empty day between busy ones is fetched again, with a warning."""
    catalog = only_raw_events if way.get("raw") else only_events
    done, requested = run(project(100, 100, 100), catalog, Fault("export", 2, "empty-body"), **way)
    assert done.exit_code == 0
    # With several requests at a time, the second request may be for another day.
    if "concurrent_exports" not in way:
        assert len(done.records()) == 300
        assert requested.count("2024-01-02") == 2
        [warning] = done.problems
        assert "events 2024-01-02: the response was unexpectedly empty" in warning
        assert "100 events" in warning


def test_a_day_that_stays_empty_is_accepted(only_events: dict[str, Any]) -> None:
    """A day that is empty twice is accepted, and the bookmark moves past it."""
    done, requested = run(project(100, 0, 100), only_events)
    assert len(done.well().records()) == 200
    assert requested == ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-02"]
    assert done.bookmark == "2024-01-04T00:00:00+00:00"


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_day_before_a_failure_is_not_accepted(
    way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """It cannot be confirmed, so the bookmark stays before it."""
    catalog = only_raw_events if way.get("raw") else only_events
    settings = {"project_timezone": "UTC"} | way | {"concurrent_exports": 1}
    done, requested = run(
        project(100, 100, 100),
        catalog,
        Fault("export", 2, "empty-body"),
        Fault("export", 3, "status:401"),
        **settings,
    )
    assert done.exit_code == 1
    assert requested == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert len(done.records()) == 100
    assert done.bookmark == "2024-01-02T00:00:00+00:00"


def test_an_empty_day_without_quota_is_not_accepted(only_events: dict[str, Any]) -> None:
    """If the quota does not allow a second request, the day is left to the next run."""
    settings: dict[str, Any] = {"project_timezone": "UTC", "hourly_quota": 3, "max_quota_wait": 0}
    done, requested = run(project(100, 100, 100), only_events, Fault("export", 2, "empty-body"), **settings)
    assert done.exit_code == 1
    assert requested == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert len(done.records()) == 100
    assert done.bookmark == "2024-01-02T00:00:00+00:00"


def test_half_a_window_after_an_empty_day_is_dropped(only_events: dict[str, Any]) -> None:
    """Delivering the first half of the failed window would move the bookmark over the empty days."""
    faults = [Fault("export", 2, "empty-body"), Fault("export", 3, "reset"), Fault("export", 5, "status:401")]
    settings: dict[str, Any] = {"project_timezone": "UTC", "window_days": 2, "max_retries": 0}
    done, requested = run(project(*[100] * 6), only_events, *faults, **settings)
    assert done.exit_code == 1
    assert requested == ["2024-01-01", "2024-01-03", "2024-01-05", "2024-01-05", "2024-01-06"]
    assert len(done.records()) == 200
    assert done.bookmark == "2024-01-03T00:00:00+00:00"


@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        ((0, 100, 0, 0, 100, 0), {}),
        ((99, 0, 100, 0, 99), {}),
        ((3, 0, 2, 0, 3), {}),
        # Weeks without events on Sunday, on Saturday and Sunday, on Friday and Saturday.
        ((500, 500, 500, 500, 500, 500, 0, 500), {}),
        ((500, 500, 500, 500, 500, 0, 0, 500), {}),
        ((500, 500, 500, 500, 0, 0, 500, 500), {}),
        ((500, 500, 500, 500, 500, 0, 0, 500, 500), {"window_days": 2, "start_date": "2024-01-02"}),
        ((200, 0, 200), {"event_names": ["A"]}),
        ((200, 0, 200), {"events_where": 'properties["distinct_id"] == "u"'}),
    ],
)
def test_plausible_empty_days_are_not_refetched(
    counts: tuple[int, ...], settings: dict[str, Any], only_events: dict[str, Any]
) -> None:
    """Weekends, small projects and filters explain empty days, so no day is requested twice."""
    done, requested = run(project(*counts), only_events, **settings)
    assert done.exit_code == 0
    assert len(requested) == len(set(requested))


def test_a_day_that_had_events_before_is_refetched(only_events: dict[str, Any]) -> None:
    """An empty day that had events in the previous run is fetched again."""
    first, _ = run(project(3, 0, 2), only_events)
    assert first.states[-1]["bookmarks"]["events"]["rows"] == {"2024-01-01": 3, "2024-01-03": 2}
    again, requested = run(project(3, 0, 2), only_events, Fault("export", 3, "empty-body"), state=first.states[-1])
    assert again.exit_code == 0
    assert requested == ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-03"]
    assert len(again.records()) == 5


# --- Fewer rows than before -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, {"window_days": 3}, {"time_in_ms": True}])
def test_fewer_events_than_before_are_a_warning(
    way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """Fewer events than in the previous run are one warning with both numbers."""
    catalog = only_raw_events if way.get("raw") else only_events
    first, _ = run(project(10, 20, 30), catalog, **way)
    assert first.well().problems == []
    again, _ = run(project(10, 15, 30), catalog, state=first.states[-1], **way)
    [warning] = again.well().problems
    assert "fewer events than in the previous run: 2024-01-02 (15 of 20)" in warning
    third, _ = run(project(10, 15, 30), catalog, state=again.states[-1], **way)
    assert third.well().problems == []


def test_a_small_loss_of_events_is_no_warning(only_events: dict[str, Any]) -> None:
    """A loss of 1 %, as after deduplication, is no warning; a larger one is."""
    first, _ = run(project(400), only_events)
    again, _ = run(project(396), only_events, state=first.states[-1])
    assert again.well().problems == []
    third, _ = run(project(380), only_events, state=again.states[-1])
    assert len(third.well().problems) == 1


def test_the_state_has_row_counts_of_the_lookback(only_events: dict[str, Any]) -> None:
    """The state has the row counts of the days read again, and none with a filter."""
    done, _ = run(project(*[5] * 10), only_events, lookback_days=2)
    assert done.states[-1]["bookmarks"]["events"]["rows"] == {"2024-01-08": 5, "2024-01-09": 5, "2024-01-10": 5}
    narrowed, _ = run(project(*[5] * 10), only_events, state=done.states[-1], event_names=["A"])
    assert narrowed.well().problems == []
    assert "rows" not in narrowed.states[-1]["bookmarks"]["events"]


@pytest.mark.parametrize("rows", [[1], {"2024": 1}, {"2024-01-01": "x"}])
def test_invalid_row_counts_in_the_state_are_rejected(rows: Any, only_events: dict[str, Any]) -> None:
    """Invalid row counts in the state are rejected."""
    state = {"bookmarks": {"events": {"replication_key_value": "2024-01-02T00:00:00+00:00", "rows": rows}}}
    done, _ = run(project(5), only_events, state=state)
    assert done.exit_code == 1
    assert "the bookmark of events is broken" in done.errors[0]


# --- Events of other days ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [1, 30])
def test_a_response_with_other_days_is_retried(
    value: int, way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """A response with events from other days is requested again, with a warning."""
    catalog = only_raw_events if way.get("raw") else only_events
    fault = Fault("export", 2, "other-days", value=value)
    done, _ = run(project(5, 5, 5), catalog, fault, **way)
    [warning] = done.well().problems
    assert "the response has events from other days" in warning
    assert "retrying" in warning
    assert len(done.records()) == 15
    if not way.get("raw"):
        assert sorted({record["event_time"][:10] for record in done.records()}) == [str(day(n)) for n in range(3)]


def test_responses_with_other_days_fail_the_run(only_events: dict[str, Any]) -> None:
    """After the last retry, events from other days fail the run."""
    fault = Fault("export", range(2, 99), "other-days")
    done, _ = run(project(5, 5, 5), only_events, fault, max_retries=1)
    assert done.exit_code == 1
    assert "events 2024-01-02: the response has events from other days, such as 2023-12-03" in done.errors[0]
    assert done.bookmark == "2024-01-02T00:00:00+00:00"


def test_neighboring_days_are_accepted_on_a_retry(only_events: dict[str, Any]) -> None:
    """After a change of the project's zone, events can have the neighboring day: a retry accepts them."""
    done, requested = run(project(5, 5), only_events, Fault("export", range(2, 99), "other-days", value=1))
    assert requested.count("2024-01-02") == 2
    assert len(done.well().records()) == 10


@pytest.mark.parametrize(("retries", "faults"), [(0, []), (1, [Fault("export", 2, "status:500")])])
def test_the_last_try_accepts_neighboring_days(retries: int, faults: list[Fault], only_events: dict[str, Any]) -> None:
    """Without another try left, neighboring days are accepted, because each run would fail."""
    shifted = Fault("export", range(2 + retries, 99), "other-days", value=1)
    done, _ = run(project(5, 5), only_events, *faults, shifted, max_retries=retries)
    assert len(done.well().records()) == 10


def test_a_response_with_one_expected_event_is_accepted(only_events: dict[str, Any]) -> None:
    """If any event has the requested day, all events are delivered."""
    source = FixedProject({MONDAY: [*lines(40, 30), *lines(0, 1)]})
    done, requested = run(source, only_events)
    assert len(done.well().records()) == 31
    assert requested == ["2024-01-01"]


# --- Names without an event -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_an_event_name_without_events_is_a_warning(
    way: dict[str, Any], only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """The warning has each name without events and the closest name seen."""
    catalog = only_raw_events if way.get("raw") else only_events
    source = FixedProject({MONDAY: lines(0, 60, "Sign Up"), day(1): [*lines(1, 60), *lines(1, 1, 'Say \\"x\\"')]})
    names = ["Sign up ", "Sign Up", "Zzz", "A", 'Say "x"']
    done, _ = run(source, catalog, event_names=names, **way)
    [warning] = done.well().problems
    assert (
        "event_names: no event in this run is named 'Sign up ' (the closest name seen is 'Sign Up') or 'Zzz'" in warning
    )


def test_event_names_with_events_are_no_warning(only_events: dict[str, Any]) -> None:
    """If every name has events, there is no warning."""
    done, _ = run(project(1, 1), only_events, event_names=["A"])
    assert done.well().problems == []
