"""Keys: insert ids that many users share, and keys too long for PostgreSQL."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.docs import pages
from tests.harness import catalog_of, run_tap

if TYPE_CHECKING:
    from tests.harness import Run

DAYS = [dt.date(2024, 1, 15), dt.date(2024, 1, 16)]
SETTINGS = {"start_date": str(DAYS[0]), "end_date": str(DAYS[-1]), "window_days": 1}
KEY = ["event_name", "event_time", "insert_id"]
WITH_USER = [*KEY, "distinct_id"]


def events(day: dt.date, count: int) -> list[bytes]:
    """Return events of one second from a client that sends one insert id for all users."""
    noon = int(dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp())
    properties = [{"time": noon, "distinct_id": f"u{number}", "$insert_id": "constant"} for number in range(count)]
    return [json.dumps({"event": "A", "properties": each}).encode() for each in properties]


SHARED = FixedProject({day: events(day, 8) for day in DAYS})


def run(more: dict[str, Any], catalog: dict[str, Any] | None = None, project: FixedProject = SHARED) -> Run:
    with Emulator(project) as emulator:
        return run_tap(emulator.settings | SETTINGS | more, catalog=catalog or catalog_of("events")).well()


def shown(test: str) -> dict[str, Any]:
    """Return the settings on docs/streams.md that a test checks."""
    [block] = pages.marked(pages.text_of("docs/streams.md"), f"checked by {test}")
    settings: dict[str, Any] = json.loads(block.text)
    return settings


def warnings(result: Run) -> list[str]:
    return [line for line in result.problems if "$insert_id" in line]


@pytest.mark.parametrize("more", [{}, {"worker_processes": 2}, {"stream_maps": {"events": {"more": "'x'"}}}])
def test_shared_insert_ids_are_reported_once(more: dict[str, Any]) -> None:
    """One warning with the numbers on every route, and all events are delivered."""
    result = run(more)
    assert len(result.records()) == 16
    [warning] = warnings(result)
    assert "16 of 16 sampled events" in warning
    assert "up to 8 users with one id" in warning


def test_raw_events_have_no_key_warning() -> None:
    """Raw records have no key, so there is no warning."""
    assert not warnings(run({"raw": True}, catalog=catalog_of("events", raw=True)))


def test_distinct_id_joins_the_key_as_documented() -> None:
    """The stream map in docs/streams.md adds `distinct_id` to the key and ends the warning."""
    maps = shown("test_distinct_id_joins_the_key_as_documented")
    result = run(maps)
    assert result.schemas()["events"]["key_properties"] == WITH_USER
    assert len({tuple(record[name] for name in WITH_USER) for record in result.records()}) == 16
    assert not warnings(result)


def test_a_catalog_adds_distinct_id_to_the_key() -> None:
    """The key in the catalog applies without a stream map."""
    catalog = catalog_of("events")
    [entry] = [stream for stream in catalog["streams"] if stream["tap_stream_id"] == "events"]
    entry["key_properties"] = WITH_USER
    result = run({}, catalog=catalog)
    assert result.schemas()["events"]["key_properties"] == WITH_USER
    assert not warnings(result)


def test_long_keys_are_shortened_as_documented() -> None:
    """The stream map in docs/streams.md keeps keys under PostgreSQL's limit, and short keys unchanged."""
    noon = int(dt.datetime.combine(DAYS[0], dt.time(12), dt.UTC).timestamp())
    lines = [
        json.dumps({"event": name * size, "properties": {"time": noon, "$insert_id": f"{number}" * size}}).encode()
        for number, (name, size) in enumerate([("a", 1), ("b", 5000)])
    ]
    maps = shown("test_long_keys_are_shortened_as_documented")
    result = run(maps, project=FixedProject({DAYS[0]: lines}))
    short, long = sorted(result.records(), key=lambda record: str(record["event_name"]))
    assert (short["event_name"], short["insert_id"]) == ("a", "0")
    assert sum(len(long[name].encode()) for name in KEY) < 2700
    assert result.schemas()["events"]["key_properties"] == KEY
