"""A month of nightly runs against a history that goes on arriving; then the target is compared with the source."""

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

# How many events of the source were imported for days that were behind the look-back by then.
TOO_LATE = 6

Record = dict[str, Any]
Key = tuple[str, str, str]
Row = tuple[str, int | None]
"""What tells a row of the made-up project from all others, whatever it is merged into: its trace, and when Mixpanel
processed it, if it tells."""


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
        """The present; each run has a clock of its own, since a run that fails stops it."""
        return self.clock.now()

    def run(self, night: int, catalog: dict[str, Any], *, fails: bool = False, at: int = 3, **settings: Any) -> Result:
        """Run once; where it is to fail, in the window of that number."""
        self.clock = FakeClock(FIRST_NIGHT + dt.timedelta(days=night))
        asked = sum(seen.kind == "export" for seen in self.emulator.requests)
        self.emulator.faults = [Fault("export", asked + at, "status:402")] if fails else []
        # One at a time: a request's number is its window's.
        settings = self.settings | {"concurrent_exports": 1} | settings
        result = run_here(settings, self.clock, catalog=catalog, state=self.state)
        assert (result.error is not None) == fails
        self.failed += result.error is not None
        self.state = result.state or self.state
        return result

    def source(self) -> list[bytes]:
        """All that shows in the last night."""
        return list(self.project.lines(self.first, self.now().date(), now=self.now()))


def row_of(line: bytes) -> Row:
    properties = json.loads(line)["properties"]
    return properties["trace_id"], properties.get("mp_processing_time_ms")


def came_too_late(line: bytes) -> bool:
    """Whether it was imported, and showed when its day was behind the look-back."""
    properties = json.loads(line)["properties"]
    if "$mp_api_timestamp_ms" in properties:
        return False
    shows = dt.datetime.fromtimestamp(properties["mp_processing_time_ms"] / 1000, dt.UTC) + HIDDEN
    return (shows.date() - dt.datetime.fromtimestamp(properties["time"], dt.UTC).date()).days > LOOKBACK


def test_by_event_time_a_target_that_updates_rows_by_key_equals_the_source() -> None:
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
    held: dict[Key, list[Record]] = {}
    for line in source:
        record = reference.normalized(line)
        held.setdefault(key_of(record), []).append(record)
    late = {key_of(reference.normalized(line)) for line in source if came_too_late(line)}
    assert nights.failed == 3
    assert target.keys() <= held.keys()
    assert held.keys() - target.keys() <= late
    assert len(held.keys() - target.keys()) == TOO_LATE
    for key, record in target.items():
        # An event that came twice is one row here, and a merge of identities behind the look-back is not seen.
        assert without_identity(record) in map(without_identity, held[key])
    assert delivered - len(target) == 8_414, "the look-back brings events again"


def test_by_ingestion_time_a_target_that_only_appends_has_every_event_once() -> None:
    nights = Nights(raw=True, incremental_by="ingestion_time")
    target: Counter[Row] = Counter()
    with nights.emulator:
        for night in range(NIGHTS):
            result = nights.run(night, RAW_EVENTS, fails=night in {0, 10, 11, 20})
            target.update(row_of(line) for line in result.lines.elements())
        source, now = nights.source(), nights.now()
    assert nights.failed == 4
    assert missing_of(target, source, now) == TOO_LATE
    # The rows that come again are those that do not tell when they were processed, and no others.
    again = {row: count for row, count in target.items() if count > 1}
    assert {processed for _, processed in again} == {None}
    assert sum(count - 1 for count in again.values()) == 53
    assert target.total() < 1.1 * len(source)


def test_between_the_modes_nothing_is_lost() -> None:
    nights = Nights(raw=True)
    target: Counter[Row] = Counter()
    doubled = []
    with nights.emulator:
        for night in range(NIGHTS):
            by = "ingestion_time" if 8 <= night < 18 or night >= 24 else "event_time"
            # Among them the last run before a switch and the first one after it.
            result = nights.run(night, RAW_EVENTS, fails=night in {7, 8, 18, 23, 27}, incremental_by=by)
            new = Counter(row_of(line) for line in result.lines.elements())
            doubled.append(sum(1 for row in new if row in target and row[1] is not None))
            target += new
        source, now = nights.source(), nights.now()
    assert nights.failed == 5
    assert missing_of(target, source, now) == TOO_LATE
    # After a switch to ingestion time the days of the look-back come once more, and later nothing does.
    assert doubled[10:18] == [0] * 8
    assert doubled[26:] == [0] * 5
    assert all(doubled[1:8])
    assert all(doubled[18:24])


@pytest.mark.parametrize(
    ("switched", "halfway"), [(False, ["2023-10-13", "2023-08-21"]), (True, ["2023-10-25", "2023-09-03"])]
)
def test_a_back_fill_newest_first_loses_nothing_and_by_ingestion_time_repeats_nothing(
    switched: bool, halfway: list[str]
) -> None:
    """There are 187 days before the first night, and 60 requests a night for windows of a day, the front's first."""
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
    # Night 2 fails after 12 days of history, or goes forwards from the other end.
    assert reached[:5] == ["2023-12-17", "2023-10-25", *halfway, None]
    assert reached[5:] == [None] * 5
    assert missing_of(target, source, now) == 1
    if not switched:
        assert {processed for (_, processed), count in target.items() if count > 1} == {None}


def missing_of(target: Counter[Row], source: list[bytes], now: dt.datetime) -> int:
    """How many rows a target lacks that is due to hold what was processed an hour before; all of them came too late."""
    edge = now.timestamp() * 1000 - SETTLING_MS
    due = [line for line in source if (row_of(line)[1] or 0) < edge]
    missing = Counter(row_of(line) for line in due) - target
    assert missing <= Counter(row_of(line) for line in due if came_too_late(line))
    assert target.keys() <= {row_of(line) for line in source}
    assert len(due) > 1800
    return missing.total()


def key_of(record: Record) -> Key:
    return record["event_name"], record["event_time"], record["insert_id"]


def without_identity(record: Record) -> Record:
    """A record without what a merge changes, and without when Mixpanel processed it."""
    changing = {"$distinct_id_before_identity", "mp_processing_time_ms"}
    properties = {name: value for name, value in record["properties"].items() if name not in changing}
    return {**record, "distinct_id": None, "properties": properties}
