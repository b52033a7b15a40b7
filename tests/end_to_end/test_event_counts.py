"""Mixpanel's own event counts, read from the emulator by the installed command."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, Plan, SyntheticProject
from tests.harness import Run, catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

NOW = dt.datetime(2024, 6, 30, 9, 30, 15, tzinfo=dt.UTC)
DAY = dt.date(2024, 6, 20)


@cache
def catalog(*others: str) -> dict[str, Any]:
    return catalog_of("event_counts", *others)


def event(name: str, number: int = 0, day: dt.date = DAY, **more: Any) -> bytes:
    time = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp()) + number
    properties = {"time": time, "distinct_id": f"u{number}", "$insert_id": f"i{number}", **more}
    return json.dumps({"event": name, "properties": properties}).encode()


def counts(run: Run | Result) -> dict[tuple[str, str], int]:
    """Return the counts by key, and check that each key occurs once."""
    messages = (json.loads(line) for line in run.stdout.splitlines())
    records = [
        message["record"] for message in messages if message["type"] == "RECORD" and message["stream"] == "event_counts"
    ]
    found = {(record["date"], record["event_name"]): record["count"] for record in records}
    assert len(found) == len(records)
    return found


def requested(emulator: Emulator) -> list[dict[str, str]]:
    """Return the requests for counts, without those for names."""
    return [seen.query for seen in emulator.requests if seen.kind == "event_counts" and "event" in seen.query]


def here(
    project: FixedProject | SyntheticProject, *streams: str, now: dt.datetime = NOW, **more: Any
) -> tuple[Result, list[dict[str, str]]]:
    clock = FakeClock(now)
    with Emulator(project, now=clock.now, faults=more.pop("faults", ())) as emulator:
        state = more.pop("state", None)
        settings = {**emulator.settings, "start_date": "2024-01-01", **more}
        result = run_here(settings, clock, catalog=catalog(*streams), state=state)
        return result, requested(emulator)


def test_each_name_and_day_has_one_count() -> None:
    """Duplicates count once, and a day without events has no record."""
    twice = event("Größe", 1)
    later = DAY + dt.timedelta(days=2)
    project = FixedProject(
        {
            DAY: [twice, twice, event("Größe", 2), event("B", 1), event("B", 1, distinct_id="another")],
            later: [event("B", 3, later)],
        }
    )
    with Emulator(project, now=lambda: NOW) as emulator:
        days = {"start_date": "2024-06-18", "end_date": "2024-06-29"}
        run = run_tap(emulator.settings | days, catalog=catalog()).well()
        [query] = requested(emulator)
    assert counts(run) == {("2024-06-20", "Größe"): 2, ("2024-06-20", "B"): 2, ("2024-06-22", "B"): 1}
    parameters = {name: query[name] for name in ("type", "unit", "from_date", "to_date")}
    assert parameters == {"type": "general", "unit": "day", "from_date": "2024-06-18", "to_date": "2024-06-29"}
    assert run.states[-1]["bookmarks"]["event_counts"] == {
        "replication_key": "date",
        "replication_key_value": "2024-06-30T00:00:00+00:00",
        "event_names": ["B", "Größe"],
    }


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_counts_match_the_events_loaded(zone: str) -> None:
    """Counts equal the events loaded in the same run, by days of the project's time zone."""
    project = SyntheticProject(first_day=dt.date(2022, 6, 1), events_per_day=80, profiles=50, zone=zone)
    with Emulator(project, now=lambda: dt.datetime(2022, 6, 10, 3, tzinfo=dt.UTC)) as emulator:
        settings = emulator.settings | {"start_date": "2022-06-01", "end_date": "2022-06-08", "project_timezone": zone}
        run = run_tap(settings, catalog=catalog("events")).well()
    loaded: Counter[tuple[str, str]] = Counter()
    keys = {(row["event_name"], row["event_time"], row["insert_id"]) for row in run.records()}
    for name, time, _ in keys:
        loaded[str(dt.datetime.fromisoformat(time).astimezone(project.zone).date()), name] += 1
    assert counts(run) == loaded
    assert {day for day, _ in loaded} == {f"2022-06-{day:02}" for day in range(1, 9)}


def test_names_are_listed_or_seen_in_events() -> None:
    """Names that Mixpanel no longer lists are counted if the same run read events with them."""
    old = dt.date(2024, 2, 1)
    project = FixedProject({old: [event("Old", 1, old), event("Both", 2, old)], DAY: [event("Both"), event("New")]})
    alone, queries = here(project)
    assert [json.loads(query["event"]) for query in queries] == [["Both", "New"]]
    assert ("2024-02-01", "Old") not in counts(alone)
    assert any("counting only events of the last 31 days" in warning for warning in alone.warnings)
    together, queries = here(project, "events")
    assert [json.loads(query["event"]) for query in queries] == [["Both", "New", "Old"]]
    assert counts(together)["2024-02-01", "Old"] == 1
    assert together.warnings == []


def test_a_new_name_is_counted_from_the_start() -> None:
    """A name found by a later run is counted once for all days."""
    old = dt.date(2024, 2, 1)
    project = FixedProject({old: [event("Old", 1, old), event("New", 2, old)], DAY: [event("New")]})
    first, _ = here(project)
    assert counts(first) == {("2024-02-01", "New"): 1, (str(DAY), "New"): 1}
    second, queries = here(project, "events", state=first.state, now=NOW + dt.timedelta(days=1))
    assert counts(second) == {("2024-02-01", "Old"): 1}
    assert [(json.loads(query["event"]), query["from_date"], query["to_date"]) for query in queries] == [
        (["Old"], "2024-01-01", "2024-06-24"),
        (["New", "Old"], "2024-06-25", "2024-07-01"),
    ]
    assert second.state is not None
    assert second.state["bookmarks"]["event_counts"]["event_names"] == ["New", "Old"]
    third, queries = here(project, state=second.state, now=NOW + dt.timedelta(days=2))
    assert third.error is None
    assert [query["from_date"] for query in queries] == ["2024-06-26"]


def test_a_new_name_does_not_stop_the_known_ones() -> None:
    """Known names are counted although new ones begin before the plan's history; the run fails with that error."""
    project = FixedProject({DAY: [event("New"), event("Old")]})
    state = {"replication_key_value": "2024-06-21T00:00:00+00:00", "event_names": ["Gone", "Old"]}
    with Emulator(project, now=lambda: NOW, plan=Plan(history_days=30)) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-06-25"}
        run = run_tap(settings, catalog=catalog(), state={"bookmarks": {"event_counts": state}})
        only_new = {"bookmarks": {"event_counts": state | {"event_names": []}}}
        without_known = run_tap(settings, catalog=catalog(), state=only_new)
    for failed in (run, without_known):
        assert failed.exit_code == 1
        [error] = failed.errors
        assert error.startswith("event_counts 2024-01-01..2024-06-15: HTTP 403, the request begins before the plan's")
    assert counts(run) == {(str(DAY), "Old"): 1}
    # The new name is not counted up to the bookmark, so it stays new.
    assert run.states[-1]["bookmarks"]["event_counts"] == {
        "replication_key": "date",
        "replication_key_value": "2024-06-26T00:00:00+00:00",
        "event_names": ["Gone", "Old"],
    }
    assert counts(without_known) == {}
    assert without_known.states == [only_new]


def test_an_omitted_name_is_counted_again_later() -> None:
    """A name that a run omitted is later counted from the start, so that it has no gap."""
    days = [dt.date(2024, 1, number) for number in range(1, 11)]
    project = FixedProject({day: [event(name, 1, day) for name in ("Purchase", "Search")] for day in days})
    both, state = ["Search", "Purchase"], None
    loaded: dict[tuple[str, str], int] = {}
    for names, last in ((both, "2024-01-03"), (["Search"], "2024-01-06"), (both, "2024-01-10")):
        run, _ = here(project, event_names=names, end_date=last, lookback_days=0, state=state)
        assert run.error is None
        state = run.state
        loaded |= counts(run)
    assert loaded == {(str(day), name): 1 for day in days for name in both}
    assert state is not None
    assert state["bookmarks"]["event_counts"]["event_names"] == ["Purchase", "Search"]


def test_a_name_no_longer_listed_is_still_counted() -> None:
    """Names in the state are still counted, so an event that returns later has no gap."""
    old, late = dt.date(2024, 3, 1), dt.date(2024, 5, 20)
    project = FixedProject({old: [event("Rare", 1, old)], late: [event("Rare", 2, late)], DAY: [event("New")]})
    first, _ = here(project, now=dt.datetime(2024, 3, 10, tzinfo=dt.UTC))
    second, queries = here(project, now=dt.datetime(2024, 5, 1, tzinfo=dt.UTC), state=first.state)
    assert [json.loads(query["event"]) for query in queries] == [["Rare"]]
    third, queries = here(project, state=second.state)
    assert counts(third) == {(str(late), "Rare"): 1, (str(DAY), "New"): 1}
    assert [(json.loads(query["event"]), query["from_date"]) for query in queries] == [
        (["New"], "2024-01-01"),
        (["New", "Rare"], "2024-04-26"),
    ]


def test_a_new_name_is_counted_without_new_days() -> None:
    """A new name's days are read even if the bookmark is past the end date."""
    project = FixedProject({DAY: [event("New"), event("Old")]})
    days: dict[str, Any] = {"lookback_days": 0, "end_date": "2024-06-24"}
    first, _ = here(project, event_names=["Old"], **days)
    both: dict[str, Any] = {"event_names": ["Old", "New"], "state": first.state}
    second, queries = here(project, **both, **days)
    assert counts(second) == {(str(DAY), "New"): 1}
    assert [query["to_date"] for query in queries] == ["2024-06-24"]
    assert second.state == first.state
    # A look-back window that ends before the bookmark does not add the name to the state either.
    third, _ = here(project, **both, end_date="2024-06-23")
    assert counts(third) == {(str(DAY), "New"): 1, (str(DAY), "Old"): 1}
    assert third.state == first.state
    nothing, queries = here(project, event_names=["Old"], state=first.state, **days)
    assert (nothing.error, queries) == (None, [])


def test_a_name_with_an_unpaired_surrogate_is_omitted() -> None:
    """A name with an unpaired surrogate is omitted, and the other names are counted."""
    half = event("half").replace(b'"half"', rb'"\ud83d"')
    odd = event("Odd", 2, text="?").replace(b'"?"', rb'"\ud83d"')
    with_half, queries = here(FixedProject({DAY: [event("A", 1), half, odd]}), "events")
    assert with_half.error is None
    assert [json.loads(query["event"]) for query in queries] == [["A", "Odd"]]


def test_a_new_name_is_in_the_state_once_counted() -> None:
    """A new name is in the state only once all its days are counted."""
    old = dt.date(2024, 2, 1)
    project = FixedProject({old: [event("Old", 1, old)], DAY: [event("New")]})
    first, _ = here(project, event_names=["New"])
    faults = [Fault("event_counts", range(2, 99), "status:503")]
    failed, _ = here(project, event_names=["New", "Old"], state=first.state, faults=faults)
    assert failed.error is not None
    assert failed.state is not None
    assert failed.state["bookmarks"]["event_counts"]["event_names"] == ["New"]
    again, _ = here(project, event_names=["New", "Old"], state=failed.state)
    assert ("2024-02-01", "Old") in counts(again)


@pytest.mark.parametrize("broken", [{"event_names": 7}, {"event_names": [["a"]]}, {"replication_key_value": 7}])
def test_an_invalid_event_counts_state_is_rejected(broken: dict[str, Any]) -> None:
    """An invalid state is rejected before any request."""
    with Emulator(FixedProject()) as emulator:
        state = {"bookmarks": {"event_counts": broken}}
        run = run_tap(emulator.settings | {"start_date": "2024-01-01"}, catalog=catalog(), state=state)
        assert emulator.requests == []
    assert run.exit_code == 1
    assert "the bookmark of event_counts is broken" in run.errors[0]


def test_event_names_limits_the_counts() -> None:
    """With `event_names` only these are counted, and Mixpanel is not asked for names."""
    with Emulator(FixedProject({DAY: [event("A"), event("B")]}), now=lambda: NOW) as emulator:
        settings = emulator.settings | {"start_date": str(DAY), "end_date": str(DAY), "event_names": ["B", "Never"]}
        run = run_tap(settings, catalog=catalog()).well()
        assert len(emulator.requests) == 1
    assert counts(run) == {(str(DAY), "B"): 1}


def test_many_names_take_few_requests() -> None:
    """Long names are split over as few requests as the URL length allows."""
    names = [f"Ereignis № {number:03} {'ü' * 20}" for number in range(255)]
    project = FixedProject({DAY: [event(name) for name in names]})
    result, queries = here(project, start_date="2024-06-01")
    assert result.error is None
    assert counts(result) == {(str(DAY), name): 1 for name in names}
    assert sorted(name for query in queries for name in json.loads(query["event"])) == sorted(names)
    sizes = [len(json.dumps(query["event"])) for query in queries]
    assert len(queries) > 1
    # The next name would not have fitted into any but the last.
    assert min(sizes[:-1]) > 0.9 * max(sizes)


def test_counts_of_the_lookback_are_read_again() -> None:
    """The days of the look-back are counted again, since events arrive late."""
    project = SyntheticProject(first_day=dt.date(2024, 6, 1), events_per_day=20)
    first, queries = here(project, start_date="2024-06-01")
    assert [query["from_date"] for query in queries] == ["2024-06-01"]
    assert first.state is not None
    assert first.state["bookmarks"]["event_counts"]["replication_key_value"] == "2024-06-30T09:30:15+00:00"
    second, queries = here(project, start_date="2024-06-01", state=first.state, now=NOW + dt.timedelta(days=2))
    assert [(query["from_date"], query["to_date"]) for query in queries] == [("2024-06-25", "2024-07-02")]
    # A window that ends before the bookmark does not move it back.
    third, _ = here(project, start_date="2024-06-01", state=second.state, end_date="2024-06-28")
    assert third.state == second.state


def test_years_of_counts_are_requested_by_year() -> None:
    """A request that fails twice is halved, and no day is counted twice or omitted."""
    project = FixedProject({dt.date(2022, 3, 1): [event("A", 1, dt.date(2022, 3, 1))], DAY: [event("A")]})
    expected = {("2022-03-01", "A"): 1, (str(DAY), "A"): 1}
    result, queries = here(project, start_date="2022-01-01", event_names=["A"])
    assert counts(result) == expected
    assert [query["from_date"] for query in queries] == ["2022-01-01", "2023-01-02", "2024-01-03"]
    faults = [Fault("event_counts", (1, 2), "status:504")]
    result, queries = here(project, start_date="2022-01-01", event_names=["A"], faults=faults)
    assert counts(result) == expected
    assert len(queries) == 2 + 5
    assert any(warning.endswith("Requesting 183 days at a time") for warning in result.warnings)


@pytest.mark.parametrize(
    "name", ["status:503", "status:400", "cut-json", "empty-body", "empty-object", "gzip-cut", "page-html", "reset"]
)
def test_a_failed_request_is_not_an_empty_day(name: str) -> None:
    """If one of several requests fails, the stream fails and no bookmark moves."""
    names = [f"{number:03} {'ü' * 60}" for number in range(40)]
    project = FixedProject({DAY: [event(name) for name in names]})
    faults = [Fault("event_counts", range(3, 99), name)]
    with Emulator(project, now=lambda: NOW, faults=faults) as emulator:
        settings = emulator.settings | {"start_date": str(DAY), "end_date": str(DAY), "max_retries": 1}
        run = run_tap(settings, catalog=catalog())
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("event_counts 2024-06-20: ")
    assert counts(run) == {}
    assert run.states == []


def test_counts_of_other_days_are_rejected() -> None:
    """Counts of days not requested mean that the response belongs to another request."""

    project = FixedProject({DAY: [event("A")]})
    with Emulator(project, now=lambda: NOW) as emulator:
        answer = emulator._event_counts

        def shifted(request: Any) -> object:
            body = json.dumps(answer(request))
            return json.loads(body.replace("2024-06-20", "2024-05-20"))

        emulator._event_counts = shifted  # type: ignore[method-assign]
        settings = emulator.settings | {"start_date": str(DAY), "end_date": str(DAY), "event_names": ["A"]}
        result = run_here(settings, FakeClock(NOW), catalog=catalog())
    assert result.error is not None
    assert "1 of 1 days are missing, the first is 2024-06-20" in result.error
    assert counts(result) == {}


def test_a_project_without_names_moves_no_bookmark() -> None:
    """Without names nothing is counted, so no day is marked as counted."""
    result, queries = here(FixedProject(), start_date="2024-06-01")
    assert result.error is None
    assert queries == []
    assert any("there is nothing to count" in warning for warning in result.warnings)
    assert result.state is not None
    assert result.state["bookmarks"].get("event_counts", {}) == {}


def test_a_plan_without_the_query_api_has_no_counts() -> None:
    """Events are read, and one warning says that counts are not in the plan."""
    with Emulator(FixedProject({DAY: [event("A")]}), now=lambda: NOW, plan=Plan(has_query_api=False)) as emulator:
        days = {"start_date": str(DAY), "end_date": str(DAY)}
        run = run_tap(emulator.settings | days, catalog=catalog("events")).well()
    assert len(run.records()) == 1
    assert counts(run) == {}
    [problem] = run.problems
    assert problem.endswith("The stream stays empty")


def test_a_future_event_counts_bookmark_is_rejected() -> None:
    """A bookmark from another clock would leave all days uncounted."""
    state = {"bookmarks": {"event_counts": {"replication_key_value": "2124-01-01T00:00:00+00:00"}}}
    with Emulator(FixedProject()) as emulator:
        run = run_tap(emulator.settings | {"start_date": "2024-01-01"}, catalog=catalog(), state=state)
        assert emulator.requests == []
    assert run.exit_code == 1
    assert "the bookmark of event_counts is in the future" in run.errors[0]


def test_stream_maps_keep_event_counts() -> None:
    """With and without a stream map, counts and states are the same."""
    project = FixedProject({DAY: [event("A"), event("B")]})
    with Emulator(project, now=lambda: NOW) as emulator:
        settings = emulator.settings | {"start_date": str(DAY), "end_date": str(DAY)}
        in_blocks = run_tap(settings, catalog=catalog()).well()
        maps = {"stream_maps": {"event_counts": {"count": "record['count']"}}}
        one_by_one = run_tap(settings | maps, catalog=catalog()).well()
    assert counts(in_blocks) == counts(one_by_one) != {}
    assert in_blocks.states == one_by_one.states


@pytest.mark.parametrize(
    ("more", "number", "settings"),
    [
        ({}, 2, "start_date"),
        ({"event_names": ["A"], "end_date": "2024-06-21"}, 1, "event_names, start_date or end_date"),
    ],
)
def test_a_rejected_parameter_names_the_set_settings(more: dict[str, Any], number: int, settings: str) -> None:
    """The error for a 400 names the settings behind the request, without those that are not set."""
    fault = Fault("event_counts", number, "status:400")
    result, _ = here(FixedProject({DAY: [event("A")]}), faults=[fault], **more)
    assert f"Mixpanel rejected a parameter: check {settings}. Response" in (result.error or "")
