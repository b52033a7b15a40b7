"""A month of nightly runs with events that arrive late; then the target is compared with the source."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.harness import catalog_of
from tests.mixpanel.fake_clock import FakeClock
from tests.records import reference
from tests.soak.in_process import run_here
from tests.soak.test_random_faults import RAW_EVENTS

if TYPE_CHECKING:
    from tests.soak.in_process import Result

FIRST = dt.date(2024, 1, 1)
FIRST_NIGHT = dt.datetime(2024, 1, 4, 2, tzinfo=dt.UTC)
NIGHTS = 31
LOOKBACK = 5
HIDDEN = dt.timedelta(minutes=45)
SETTLING_MS = 3600 * 1000

# Number of imported events whose day was already outside the look-back.
TOO_LATE = 6

Record = dict[str, Any]
Key = tuple[str, str, str]
Row = tuple[str, int | None]
"""The identity of an event of the synthetic project: its trace id, and its processing time if it has one."""


class Nights:
    """A pipeline that runs each night."""

    def __init__(self, first: dt.date = FIRST, **settings: Any) -> None:
        self.first = first
        self.project = SyntheticProject(5, first, events_per_day=60, profiles=50, visibility_delay=HIDDEN)
        self.clock = FakeClock(FIRST_NIGHT)
        self.emulator = Emulator(self.project, now=self.now)
        self.settings = self.emulator.settings | {"start_date": str(first), "lookback_days": LOOKBACK} | settings
        self.state: dict[str, Any] | None = None
        self.failed = 0

    def now(self) -> dt.datetime:
        """Return the current time; each run has its own clock, since a failed run stops its clock."""
        return self.clock.now()

    def run(self, night: int, catalog: dict[str, Any], *, fails: bool = False, at: int = 3, **settings: Any) -> Result:
        """Run once; with `fails`, the window with number `at` fails."""
        self.clock = FakeClock(FIRST_NIGHT + dt.timedelta(days=night))
        requested = sum(seen.kind == "export" for seen in self.emulator.requests)
        self.emulator.faults = [Fault("export", requested + at, "status:402")] if fails else []
        # One at a time, so that a request has the number of its window.
        settings = self.settings | {"concurrent_exports": 1} | settings
        result = run_here(settings, self.clock, catalog=catalog, state=self.state)
        assert (result.error is not None) == fails
        self.failed += result.error is not None
        self.state = result.state or self.state
        return result

    def source(self) -> list[bytes]:
        """Return all events visible in the last night."""
        return list(self.project.lines(self.first, self.now().date(), now=self.now()))


def row_of(line: bytes) -> Row:
    properties = json.loads(line)["properties"]
    return properties["trace_id"], properties.get("mp_processing_time_ms")


def is_too_late(line: bytes) -> bool:
    """Return whether the event was imported and became visible when its day was outside the look-back."""
    properties = json.loads(line)["properties"]
    if "$mp_api_timestamp_ms" in properties:
        return False
    visible_at = dt.datetime.fromtimestamp(properties["mp_processing_time_ms"] / 1000, dt.UTC) + HIDDEN
    return (visible_at.date() - dt.datetime.fromtimestamp(properties["time"], dt.UTC).date()).days > LOOKBACK


def test_by_event_time_an_upserted_table_is_complete() -> None:
    """By event time a table upserted by key equals the source, except for events outside the look-back."""
    nights = Nights(raw=False)
    catalog = catalog_of("events")
    target: dict[Key, Record] = {}
    delivered = 0
    with nights.emulator:
        for night in range(NIGHTS):
            result = nights.run(night, catalog, fails=night in {10, 11, 20})
            target |= {key_of(record): record for record in map(reference.parsed, result.lines)}
            delivered += result.lines.total()
        source = nights.source()
    expected: dict[Key, list[Record]] = {}
    for line in source:
        record = reference.normalized(line)
        expected.setdefault(key_of(record), []).append(record)
    late = {key_of(reference.normalized(line)) for line in source if is_too_late(line)}
    assert nights.failed == 3
    assert target.keys() <= expected.keys()
    assert expected.keys() - target.keys() <= late
    assert len(expected.keys() - target.keys()) == TOO_LATE
    for key, record in target.items():
        # Duplicates are one row here, and an identity merge outside the look-back is not read.
        assert without_identity(record) in map(without_identity, expected[key])
    assert delivered - len(target) == 8_414, "the look-back delivers events again"


def test_by_ingestion_time_appended_rows_are_unique() -> None:
    """By ingestion time an append-only table has every event once, except those without a processing time."""
    nights = Nights(raw=True, incremental_by="ingestion_time")
    target: Counter[Row] = Counter()
    with nights.emulator:
        for night in range(NIGHTS):
            result = nights.run(night, RAW_EVENTS, fails=night in {0, 10, 11, 20})
            target.update(row_of(line) for line in result.lines.elements())
        source, now = nights.source(), nights.now()
    assert nights.failed == 4
    assert missing_of(target, source, now) == TOO_LATE
    # Only events without a processing time are delivered again.
    again = {row: count for row, count in target.items() if count > 1}
    assert {processed for _, processed in again} == {None}
    assert sum(count - 1 for count in again.values()) == 53
    assert target.total() < 1.1 * len(source)


def test_switching_modes_loses_nothing() -> None:
    """Switching between event time and ingestion time loses nothing."""
    nights = Nights(raw=True)
    target: Counter[Row] = Counter()
    doubled = []
    with nights.emulator:
        for night in range(NIGHTS):
            by = "ingestion_time" if 8 <= night < 18 or night >= 24 else "event_time"
            # Including the last run before a switch and the first one after it.
            result = nights.run(night, RAW_EVENTS, fails=night in {7, 8, 18, 23, 27}, incremental_by=by)
            new = Counter(row_of(line) for line in result.lines.elements())
            doubled.append(sum(1 for row in new if row in target and row[1] is not None))
            target += new
        source, now = nights.source(), nights.now()
    assert nights.failed == 5
    assert missing_of(target, source, now) == TOO_LATE
    # After a switch to ingestion time the look-back is delivered once more, and later nothing.
    assert doubled[10:18] == [0] * 8
    assert doubled[26:] == [0] * 5
    assert all(doubled[1:8])
    assert all(doubled[18:24])


@pytest.mark.parametrize(
    ("switched", "halfway"), [(False, ["2023-10-13", "2023-08-21"]), (True, ["2023-10-25", "2023-09-03"])]
)
def test_a_newest_first_backfill_loses_nothing(switched: bool, halfway: list[str]) -> None:
    """A newest-first back-fill over several nights loses nothing, and by ingestion time repeats nothing."""
    nights = Nights(dt.date(2023, 7, 1), raw=True, window_days=1, max_quota_wait=0)
    target: Counter[Row] = Counter()
    reached = []
    with nights.emulator:
        for night in range(10):
            settings = {"backfill": "newest_first", "incremental_by": "ingestion_time"}
            if switched and night in {1, 3}:
                settings = {"backfill": "newest_first"}
            if switched and night == 2:
                settings = {"incremental_by": "ingestion_time", "end_date": "2023-07-25"}
            result = nights.run(night, RAW_EVENTS, fails=night in {0, 2}, at=20, **settings)
            target.update(row_of(line) for line in result.lines.elements())
            assert nights.state
            reached.append(nights.state["bookmarks"]["events"].get("ahead", {}).get("from_date"))
        source, now = nights.source(), nights.now()
    # Night 2 fails after 12 days of history, or reads from the oldest day.
    assert reached[:5] == ["2023-12-17", "2023-10-25", *halfway, None]
    assert reached[5:] == [None] * 5
    assert missing_of(target, source, now) == 1
    if not switched:
        assert {processed for (_, processed), count in target.items() if count > 1} == {None}


def missing_of(target: Counter[Row], source: list[bytes], now: dt.datetime) -> int:
    """Return the number of settled rows missing in a target, and check that all of them are too late."""
    edge = now.timestamp() * 1000 - SETTLING_MS
    due = [line for line in source if (row_of(line)[1] or 0) < edge]
    missing = Counter(row_of(line) for line in due) - target
    assert missing <= Counter(row_of(line) for line in due if is_too_late(line))
    assert target.keys() <= {row_of(line) for line in source}
    assert len(due) > 1800
    return missing.total()


def key_of(record: Record) -> Key:
    return record["event_name"], record["event_time"], record["insert_id"]


def without_identity(record: Record) -> Record:
    """Return a record without its identity and its processing time."""
    changing = {"$distinct_id_before_identity", "mp_processing_time_ms"}
    properties = {name: value for name, value in record["properties"].items() if name not in changing}
    return {**record, "distinct_id": None, "properties": properties}
