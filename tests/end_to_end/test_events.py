"""Events, read from the emulator by the installed command."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject, SyntheticProject
from tests.harness import catalog_of, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST = dt.date(2024, 1, 1)
RANGE = {"start_date": "2024-01-01", "end_date": "2024-01-04"}
# An identity map: it changes nothing, but sends the records through the SDK one by one.
UNCHANGED = {"stream_maps": {"events": {"event_name": "event_name"}}}


def small_project() -> SyntheticProject:
    return SyntheticProject(seed=7, first_day=FIRST, last_day=dt.date(2024, 1, 4), events_per_day=150, profiles=20)


def lines_of(project: SyntheticProject | FixedProject, first: dt.date, last: dt.date) -> list[bytes]:
    return list(project.lines(first, last, now=dt.datetime.now(dt.UTC)))


def line(time: object, name: str = "Signed up", **properties: object) -> bytes:
    properties = {"time": time, "distinct_id": "u1", "$insert_id": f"id-{time}", **properties}
    return json.dumps({"event": name, "properties": properties}, ensure_ascii=False).encode()


def multiset(records: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps(record, sort_keys=True) for record in records)


def as_normalized(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the normalized record of an event of the small project; insert_id is None if it has none."""
    properties = dict(raw["properties"])
    time = dt.datetime.fromtimestamp(properties.pop("time"), tz=dt.UTC)
    distinct_id = properties.pop("distinct_id", None)
    if isinstance(distinct_id, int):
        distinct_id = str(distinct_id)
    return {
        "event_name": raw["event"],
        "event_time": time.isoformat(timespec="milliseconds" if time.microsecond else "seconds"),
        "distinct_id": distinct_id or "",
        "insert_id": properties.pop("$insert_id", None),
        "properties": properties,
    }


def test_normalized_events_match_the_project(only_events: dict[str, Any]) -> None:
    """Normalized records are exactly the project's events, with a made id if one is missing."""
    project = small_project()
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | RANGE, catalog=only_events).well()
    expected = [as_normalized(json.loads(event)) for event in lines_of(project, FIRST, dt.date(2024, 1, 4))]
    records = run.records()
    without_id = [record for record in expected if record["insert_id"] is None]
    assert without_id, "the project needs events without an insert id"
    made_up = {record["insert_id"] for record in records} - {record["insert_id"] for record in expected}
    for record in records:
        if record["insert_id"] in made_up:
            assert len(record["insert_id"]) == 36
            record["insert_id"] = None
    assert multiset(records) == multiset(expected)


def test_raw_events_are_the_lines_unchanged(only_raw_events: dict[str, Any]) -> None:
    """Raw records are exactly the exported lines, without a key."""
    project = small_project()
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | RANGE | {"raw": True}, catalog=only_raw_events).well()
    begin = b'{"type":"RECORD","stream":"events","record":'
    delivered = Counter(
        message.removeprefix(begin).rpartition(b',"time_extracted"')[0]
        for message in run.stdout.splitlines()
        if message.startswith(begin)
    )
    assert delivered == Counter(lines_of(project, FIRST, dt.date(2024, 1, 4)))
    assert run.schemas()["events"].get("bookmark_properties") in (None, [])
    assert run.schemas()["events"]["key_properties"] == []


def test_values_are_delivered_byte_for_byte(only_events: dict[str, Any]) -> None:
    """Property values are delivered byte for byte."""
    odd = '"n":1.50,"big":1180591620717411303424,"huge":1e400,"z":{"b":1,"a":-0.0},"u":"\\u00fc\u2028"'
    body = f'{{"event":"E","properties":{{"time":1704067200,"distinct_id":7,"$insert_id":"i",{odd}}}}}'.encode()
    with Emulator(FixedProject({FIRST: [body]})) as emulator:
        run = run_tap(emulator.settings | RANGE, catalog=only_events).well()
    assert f'"properties":{{{odd}}}'.encode() in run.stdout
    assert b'"distinct_id":"7"' in run.stdout


@pytest.mark.parametrize("raw", [False, True])
def test_stream_maps_keep_events_and_states(
    raw: bool, only_events: dict[str, Any], only_raw_events: dict[str, Any]
) -> None:
    """With and without a stream map, records and states are the same."""
    catalog = only_raw_events if raw else only_events
    unchanged = {"stream_maps": {"events": {"event": "event"}}} if raw else UNCHANGED
    with Emulator(small_project()) as emulator:
        settings = emulator.settings | RANGE | {"raw": raw, "window_days": 1}
        in_blocks = run_tap(settings, catalog=catalog).well()
        one_by_one = run_tap(settings | unchanged, catalog=catalog).well()
    assert in_blocks.records() == one_by_one.records()
    assert in_blocks.states == one_by_one.states


def test_switching_raw_keeps_the_state(only_events: dict[str, Any], only_raw_events: dict[str, Any]) -> None:
    """After `raw` is switched, a run continues from the state of the other shape."""
    with Emulator(small_project()) as emulator:
        settings = emulator.settings | RANGE
        normalized = run_tap(settings, catalog=only_events).well()
        raw = run_tap(settings | {"raw": True}, catalog=only_raw_events).well()
        assert normalized.states == raw.states
        begin = len(emulator.requests)
        longer = settings | {"end_date": "2024-01-06", "lookback_days": 1}
        switched = run_tap(longer | {"raw": True}, catalog=only_raw_events, state=normalized.states[-1]).well()
    assert min(seen.query["from_date"] for seen in emulator.requests[begin:]) == "2024-01-04"
    assert switched.bookmark == "2024-01-07T00:00:00+00:00"


def test_a_second_run_reads_lookback_and_new_days(only_events: dict[str, Any]) -> None:
    """A second run requests only the look-back and the new days."""
    with Emulator(small_project()) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "lookback_days": 2}
        first = run_tap(settings | {"end_date": "2024-01-03"}, catalog=only_events).well()
        assert first.bookmark == "2024-01-04T00:00:00+00:00"
        begin = len(emulator.requests)
        second = run_tap(settings | {"end_date": "2024-01-05"}, catalog=only_events, state=first.states[-1]).well()
    requested = [seen.query for seen in emulator.requests[begin:]]
    assert min(query["from_date"] for query in requested) == "2024-01-02"
    assert max(query["to_date"] for query in requested) == "2024-01-05"
    assert second.bookmark == "2024-01-06T00:00:00+00:00"


def test_the_bookmark_never_moves_back(only_events: dict[str, Any]) -> None:
    """A run with an earlier end date delivers records and keeps the bookmark."""
    state = {
        "bookmarks": {"events": {"replication_key": "event_time", "replication_key_value": "2024-01-04T00:00:00Z"}}
    }
    with Emulator(small_project()) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-02"}
        run = run_tap(settings, catalog=only_events, state=state).well()
    assert run.bookmark == "2024-01-04T00:00:00Z"
    assert run.records()


def test_an_event_dated_2099_does_not_move_the_bookmark(only_events: dict[str, Any]) -> None:
    """An event from a wrong clock is delivered and does not move the bookmark."""
    project = FixedProject({FIRST: [line(1704067200), line(4070908800)]})
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | RANGE, catalog=only_events).well()
    assert {record["event_time"] for record in run.records()} == {
        "2024-01-01T00:00:00+00:00",
        "2099-01-01T00:00:00+00:00",
    }
    assert run.bookmark == "2024-01-05T00:00:00+00:00"


def test_days_without_events_lose_no_event(only_events: dict[str, Any]) -> None:
    """Events after 40 days without events are delivered."""
    days = [FIRST, FIRST + dt.timedelta(days=40), FIRST + dt.timedelta(days=41)]
    project = FixedProject({day: [line(1704067200 + (day - FIRST).days * 86400)] for day in days})
    with Emulator(project) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-02-29"}
        run = run_tap(settings, catalog=only_events).well()
    assert len(run.records()) == 3
    assert run.bookmark == "2024-03-01T00:00:00+00:00"


def test_without_an_end_date_the_bookmark_is_now(only_events: dict[str, Any]) -> None:
    """Without an end date the bookmark is the time of the request."""
    today = dt.datetime.now(dt.UTC).date()
    with Emulator(FixedProject({})) as emulator:
        before = dt.datetime.now(dt.UTC).replace(microsecond=0)
        run = run_tap(emulator.settings | {"start_date": today.isoformat()}, catalog=only_events).well()
        after = dt.datetime.now(dt.UTC)
    assert run.bookmark is not None
    assert before <= dt.datetime.fromisoformat(run.bookmark) <= after


def test_project_timezone_converts_local_times_to_utc(only_events: dict[str, Any]) -> None:
    """With `project_timezone` local times become UTC, in winter and in summer."""
    new_york = {"project_timezone": "America/New_York"}
    # 08:00 in New York, written as if it were UTC: 13:00 UTC in winter, 12:00 in summer.
    winter, summer = 1705305600, 1720944000
    project = FixedProject(
        {dt.date(2024, 1, 15): [line(winter)], dt.date(2024, 7, 14): [line(summer)]}, zone="America/New_York"
    )
    with Emulator(project) as emulator:
        settings = emulator.settings | new_york | {"start_date": "2024-01-15", "end_date": "2024-07-14"}
        run = run_tap(settings, catalog=only_events).well()
    assert [record["event_time"] for record in run.records()] == [
        "2024-01-15T13:00:00+00:00",
        "2024-07-14T12:00:00+00:00",
    ]
    assert run.bookmark == "2024-07-15T04:00:00+00:00"


def test_event_filters_are_applied(only_events: dict[str, Any]) -> None:
    """`event_names` and `events_where` filter the events."""
    project = FixedProject(
        {FIRST: [line(1704067200, "A", x=1), line(1704067201, "A", x=2), line(1704067202, "B", x=2)]}
    )
    filters = {"event_names": ["A"], "events_where": 'properties["x"] == 2'}
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | RANGE | filters, catalog=only_events).well()
    assert [record["insert_id"] for record in run.records()] == ["id-1704067201"]


def test_time_in_ms_keeps_milliseconds(only_events: dict[str, Any]) -> None:
    """With `time_in_ms` event times have milliseconds."""
    project = small_project()
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | RANGE | {"time_in_ms": True}, catalog=only_events).well()
        assert {seen.query.get("time_in_ms") for seen in emulator.requests} == {"true"}
    now = dt.datetime.now(dt.UTC)
    in_ms = [json.loads(event) for event in project.lines(FIRST, dt.date(2024, 1, 4), now=now, in_ms=True)]
    expected = Counter(event["properties"]["time"] for event in in_ms)
    assert Counter(_in_ms(record["event_time"]) for record in run.records()) == expected
    assert any(instant % 1000 for instant in expected)


def _in_ms(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize("way", [{}, UNCHANGED])
def test_deselected_columns_of_events(way: dict[str, Any]) -> None:
    """Deselected columns are in neither the records nor the schema."""
    catalog = catalog_of("events", deselected={"events": ["distinct_id", "properties"]})
    with Emulator(FixedProject({FIRST: [line(1704067200)]})) as emulator:
        run = run_tap(emulator.settings | RANGE | way, catalog=catalog).well()
    kept = {"event_name", "event_time", "insert_id"}
    assert [set(record) for record in run.records()] == [kept]
    assert set(run.schemas()["events"]["schema"]["properties"]) == kept


def test_stream_maps_and_flattening_work(only_events: dict[str, Any]) -> None:
    """Alias, filter, new column and flattening take effect."""
    project = FixedProject({FIRST: [line(1704067200, city="Zürich"), line(1704067201, name="B")]})
    with Emulator(project) as emulator:
        maps = {
            "stream_maps": {"events": {"__alias__": "moves", "__filter__": "event_name == 'Signed up'", "n": "'x'"}}
        }
        mapped = run_tap(emulator.settings | RANGE | maps, catalog=only_events).well()
        flat = run_tap(
            emulator.settings | RANGE | {"flattening_enabled": True, "flattening_max_depth": 1}, catalog=only_events
        ).well()
    assert [record["n"] for record in mapped.records("moves")] == ["x"]
    assert isinstance(flat.records()[0]["properties"], str)
    assert json.loads(flat.records()[0]["properties"])["city"] == "Zürich"
    assert set(flat.records()[0]) <= set(flat.schemas()["events"]["schema"]["properties"])


def test_an_integer_of_4400_digits(
    only_events: dict[str, Any],
) -> None:
    """A huge integer is delivered; with a stream map it is an error."""
    number = b"7" * 4400
    event = b'{"event":"A","properties":{"time":1704067200,"$insert_id":"i","n":%b}}' % number
    with Emulator(FixedProject({FIRST: [event]})) as emulator:
        assert b'"n":%b}' % number in run_tap(emulator.settings | RANGE, catalog=only_events).well().stdout
        stopped = run_tap(emulator.settings | RANGE | UNCHANGED, catalog=only_events)
    assert stopped.exit_code == 1
    [error] = stopped.errors
    assert "events: a record has an integer with too many digits for stream maps and flattening" in error


def test_a_future_start_date_is_warned_about(only_events: dict[str, Any]) -> None:
    """A `start_date` in the future is a warning, with exit code 0."""
    with Emulator(small_project()) as emulator:
        run = run_tap(emulator.settings | {"start_date": "2999-01-01"}, catalog=only_events)
    assert run.exit_code == 0
    assert ["nothing to read" in line for line in run.problems] == [True]


def test_the_test_option_reads_one_row_per_stream() -> None:
    """`--test` requests one row of each stream and reports no problem."""
    with Emulator(small_project()) as emulator:
        run = run_tap(emulator.settings | {"start_date": "2024-01-01"}, "--test").well()
        exports = [seen.query for seen in emulator.requests if seen.kind == "export"]
        engages = [seen.form for seen in emulator.requests if seen.kind == "engage"]
    assert [export["limit"] for export in exports] == ["1"]
    assert [engage["page_size"] for engage in engages] == ["1"]
    assert len(run.records()) == len(run.records("profiles")) == 1
    assert run.problems == []


def test_keys_are_unique_except_for_duplicates(only_events: dict[str, Any]) -> None:
    """Records with the same key are duplicates of the same event."""
    project = small_project()
    with Emulator(project) as emulator:
        run = run_tap(emulator.settings | RANGE, catalog=only_events).well()
    by_key: dict[tuple[str, ...], set[str]] = {}
    for record in run.records():
        key = record["event_name"], record["event_time"], record["insert_id"]
        by_key.setdefault(key, set()).add(json.dumps(record["properties"], sort_keys=True))
    assert len(by_key) > 500
    assert all(len(rows) == 1 for rows in by_key.values())
