"""State across many runs, with events that arrive late: a model of Mixpanel and of a target's final content."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from tap_mixpanel_stream.mixpanel.export import ProcessingTimeFilter
from tap_mixpanel_stream.replication.row_counts import RowCounts
from tap_mixpanel_stream.replication.state import (
    SETTLING,
    DeliveredDays,
    NewestFirstBlock,
    ReplicationSettings,
    bookmark_text,
    parse_bookmark,
    read_bookmark,
    settled_until,
    write_bookmark,
)
from tap_mixpanel_stream.replication.windows import (
    MOMENT,
    DateRange,
    Window,
    WindowPlanner,
    end_instant,
    first_day,
    last_day,
)

START = date(2024, 3, 1)  # clocks change in this month
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
ZONES = st.sampled_from([UTC, ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")])
Mode = Literal["event_time", "ingestion_time", "older"]


@dataclass(frozen=True)
class Row:
    """An event: its day, when it was processed and became visible, and whether it has a processing time."""

    number: int
    day: date
    processed: datetime
    visible_at: datetime
    has_processing_time: bool


@dataclass(frozen=True)
class Run:
    """One run of the model.

    Attributes:
        mode: `older` is version 0.1.0 of the tap, which only uses the bookmark.
        newest_first: Whether the back-fill goes backwards.
        hours: Hours since the previous run.
        lasts: Hours from its first request to its last.
        end: Its end date, in days after the start date; None for no end date.
        window_days: Length of its windows.
        fails_after: Number of windows delivered before it fails; None if it succeeds.
        lost_states: Number of its last states that are lost, like those of a target that crashed.
    """

    mode: Mode
    hours: int
    newest_first: bool = False
    lasts: int = 0
    end: int | None = None
    window_days: int = 3
    fails_after: int | None = None
    lost_states: int = 0


@dataclass
class World:
    """The events in Mixpanel, and the rows delivered to the target."""

    rows: list[Row]
    settings: ReplicationSettings
    now: datetime = BEGIN
    state: dict[str, Any] = field(default_factory=dict)
    target: Counter[Row] = field(default_factory=Counter)

    def run(self, run: Run) -> None:
        """Run the tap once."""
        self.now += timedelta(hours=run.hours)
        date_ranges = self.older_ranges(run) if run.mode == "older" else self.date_ranges(run)
        plan = WindowPlanner(date_ranges, run.window_days)
        windows = list(iter(plan.next, None))
        states = [dict(self.state)]
        for number, date_range in enumerate(windows):
            if number == run.fails_after:
                break
            requested_at = self.now + timedelta(hours=run.lasts) * number / len(windows)
            self.target.update(self.respond(date_range, requested_at))
            self.record(run, date_range, requested_at)
            states.append(dict(self.state))
        self.state = states[max(0, len(states) - 1 - run.lost_states)]
        self.now += timedelta(hours=run.lasts)

    def end_date(self, run: Run) -> date | None:
        return None if run.end is None else START + timedelta(days=run.end)

    def date_ranges(self, run: Run) -> list[DateRange]:
        now, before = self.now, None
        if run.mode == "ingestion_time":
            before = settled_until(now)
            now = before - MOMENT
        last = last_day(self.end_date(run), now, self.settings.zone)
        return read_bookmark(self.state).ranges_to_read(
            self.settings, last, newest_first=run.newest_first, processed_before=before
        )

    def older_ranges(self, run: Run) -> list[DateRange]:
        text = self.state.get("replication_key_value")
        before = None if text is None else parse_bookmark(text)
        first = first_day(before, self.settings.start_date, self.settings.lookback_days, self.settings.zone)
        last = last_day(self.end_date(run), self.now, self.settings.zone)
        return [DateRange(Window(first, last))] if first <= last else []

    def respond(self, date_range: DateRange, requested_at: datetime) -> list[Row]:
        """Return the rows that Mixpanel returns for a date range."""
        return [
            row
            for row in self.rows
            if date_range.window.first <= row.day <= date_range.window.last
            and row.visible_at <= requested_at
            and (date_range.processed is None or not row.has_processing_time or matches(date_range.processed, row))
        ]

    def record(self, run: Run, date_range: DateRange, requested_at: datetime) -> None:
        """Record a delivered window in the state, and check that the state is true."""
        until = end_instant(
            date_range.window, self.settings.zone, date_range.processed.before if date_range.processed else requested_at
        )
        if run.mode == "older":
            text = self.state.get("replication_key_value")
            if text is None or until > parse_bookmark(text):
                self.state = {**self.state, "replication_key_value": bookmark_text(until)}
            return
        before = read_bookmark(self.state)
        state = dict(self.state)
        write_bookmark(state, before, before.with_range(date_range, until, self.settings))
        after = read_bookmark(state)
        assert before.before is None or (after.before is not None and after.before >= before.before)
        ahead = before.close_empty_gap(self.settings).ahead
        if ahead and after.ahead:
            assert after.ahead.first <= ahead.first
            assert after.ahead.before >= ahead.before
        for row in self.rows:
            if row.day in after.ingested and row.processed < after.ingested[row.day]:
                assert self.target[row], f"{row} is in the state but was not delivered"
        self.state = state


def matches(processed: ProcessingTimeFilter, row: Row) -> bool:
    return (processed.since is None or processed.since <= row.processed) and row.processed < processed.before


def is_promised(row: Row, settings: ReplicationSettings, longest: timedelta) -> bool:
    """Return whether the row became visible while its day was within the look-back of the next run."""
    visible_at = (row.visible_at + longest).astimezone(settings.zone).date()
    return row.day >= settings.start_date and (visible_at - row.day).days <= settings.lookback_days


@st.composite
def worlds(draw: st.DrawFn) -> World:
    zone: tzinfo = draw(ZONES)
    lookback = draw(st.integers(0, 6))
    rows = []
    for number in range(draw(st.integers(1, 25))):
        day = START + timedelta(days=draw(st.integers(0, 10) | st.integers(36, 55) | st.integers(0, 60)))
        begin = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
        # A client clock that is ahead makes events that are processed before their own time.
        # Most runs are at full hours around midnight: these times are near the edges of their date ranges.
        days, hours = draw(st.integers(-1, lookback + 1)), draw(st.sampled_from([-1, -1, 0, 0, 1, 13]))
        processed = begin + timedelta(days=days, hours=hours, minutes=draw(st.sampled_from([-50, -1, 0, 1])))
        visible_at = processed + timedelta(minutes=draw(st.sampled_from([0, 10, 59])))
        rows.append(Row(number, day, processed, visible_at, draw(st.booleans())))
    return World(rows, ReplicationSettings(START, lookback, zone))


def runs_of(modes: list[Mode], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Run]]:
    return st.lists(
        st.builds(
            Run,
            mode=st.sampled_from(modes),
            newest_first=st.booleans(),
            hours=st.sampled_from([24, 24, 24, 24, 25, 0, 1, 72, 400]),
            lasts=st.sampled_from([0, 0, 9]),
            end=st.none() | st.integers(0, 60),
            window_days=st.sampled_from([1, 2, 3, 90]),
            fails_after=st.none() | st.integers(0, 8),
            **more,
        ),
        min_size=1,
        max_size=12,
    )


@st.composite
def backfills(draw: st.DrawFn, modes: list[Mode]) -> list[Run]:
    """A few days or none, then a pause of weeks, then nights that fail while they read backwards."""

    def run(hours: int, *, newest_first: bool, may_go_well: bool) -> Run:
        how_far = st.integers(0, 25)
        return Run(
            draw(st.sampled_from(modes)),
            hours,
            newest_first=newest_first,
            window_days=draw(st.sampled_from([1, 2, 3, 7])),
            fails_after=draw(st.none() | how_far if may_go_well else how_far),
        )

    early = draw(st.integers(0, 6))
    runs = [run(24 * early, newest_first=False, may_go_well=True)] if early else []
    runs.append(run(24 * 42, newest_first=True, may_go_well=False))
    runs += [run(24, newest_first=draw(st.booleans()), may_go_well=True) for _ in range(draw(st.integers(0, 6)))]
    return runs


def last_run(mode: Mode, *, newest_first: bool) -> Run:
    """Return a run after all rows have arrived, which succeeds and has no end date."""
    return Run(mode, hours=24 * 100, newest_first=newest_first)


@settings(max_examples=400, deadline=None)
@given(
    world=worlds(),
    runs=runs_of(["event_time", "ingestion_time", "older"], lost_states=st.sampled_from([0, 0, 0, 1, 3]))
    | backfills(["event_time", "ingestion_time", "older"])
    | backfills(["event_time"])
    | backfills(["ingestion_time"]),
    mode=st.sampled_from(["event_time", "ingestion_time"]),
    newest_first=st.booleans(),
)
def test_no_row_is_lost_across_failures_and_modes(
    world: World, runs: list[Run], mode: Mode, newest_first: bool
) -> None:
    """Every row that the look-back covers is delivered, whatever fails and however modes are switched."""
    for run in [*runs, last_run(mode, newest_first=newest_first)]:
        world.run(run)
    assert "ahead" not in world.state
    longest = timedelta(hours=max(run.lasts for run in runs))
    lost = [row for row in world.rows if is_promised(row, world.settings, longest) and not world.target[row]]
    assert lost == []


@settings(max_examples=400, deadline=None)
@given(world=worlds(), runs=runs_of(["ingestion_time"]) | backfills(["ingestion_time"]), newest_first=st.booleans())
def test_by_ingestion_time_each_row_is_delivered_once(world: World, runs: list[Run], newest_first: bool) -> None:
    """By ingestion time no row is delivered twice, whatever fails."""
    for run in [*runs, last_run("ingestion_time", newest_first=newest_first)]:
        world.run(run)
    assert [row for row, count in world.target.items() if row.has_processing_time and count > 1] == []


def test_a_row_is_settled_an_hour_after_processing() -> None:
    """`settled_until` returns the time an hour before, in whole seconds."""
    assert settled_until(datetime(2024, 3, 1, 2, 0, 0, 999_999, tzinfo=UTC)) == datetime(2024, 3, 1, 1, tzinfo=UTC)
    assert timedelta(minutes=45) < SETTLING


NOW = datetime(2024, 3, 20, 9, tzinfo=UTC)
SETTINGS = ReplicationSettings(START, 5, UTC)


def requested(delivered: DeliveredDays) -> list[tuple[str, str | None]]:
    date_ranges = delivered.ranges_to_read(SETTINGS, NOW.date(), processed_before=settled_until(NOW))
    return [
        (
            str(date_range.window),
            date_range.processed.since.isoformat() if date_range.processed and date_range.processed.since else None,
        )
        for date_range in date_ranges
    ]


def test_delivered_days_are_read_for_new_rows_only() -> None:
    """Delivered days are read only for rows processed since."""
    instant = datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = dict.fromkeys([date(2024, 3, day) for day in range(14, 20)], instant)
    assert requested(DeliveredDays(instant, ingested=days)) == [
        ("2024-03-14..2024-03-19", "2024-03-19T08:00:00+00:00"),
        ("2024-03-20", None),
    ]


def test_a_bookmark_set_back_reads_its_days_in_full() -> None:
    """After the bookmark was set back, its days are read in full."""
    days = dict.fromkeys([date(2024, 3, day) for day in range(14, 20)], datetime(2024, 3, 19, 8, tzinfo=UTC))
    assert requested(DeliveredDays(datetime(2024, 3, 10, tzinfo=UTC), ingested=days)) == [
        ("2024-03-05..2024-03-20", None)
    ]
    assert requested(DeliveredDays(ingested=days)) == [("2024-03-01..2024-03-20", None)]


def test_after_a_failure_each_day_is_read_from_its_time() -> None:
    """After a failed run each day is read for rows processed since its own delivery."""
    old, new = datetime(2024, 3, 18, 8, tzinfo=UTC), datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = {date(2024, 3, day): new if day < 16 else old for day in range(13, 19)}
    assert requested(DeliveredDays(old, ingested=days)) == [
        ("2024-03-13..2024-03-15", "2024-03-19T08:00:00+00:00"),
        ("2024-03-16..2024-03-18", "2024-03-18T08:00:00+00:00"),
        ("2024-03-19..2024-03-20", None),
    ]


def test_a_longer_lookback_reads_added_days_in_full() -> None:
    """Days that a longer look-back adds are read in full."""
    instant = datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = {date(2024, 3, day): instant for day in range(17, 20)}
    assert requested(DeliveredDays(instant, ingested=days)) == [
        ("2024-03-14..2024-03-16", None),
        ("2024-03-17..2024-03-19", "2024-03-19T08:00:00+00:00"),
        ("2024-03-20", None),
    ]


def planned(delivered: DeliveredDays, last: date, *, newest_first: bool = True) -> list[str]:
    """Return the date ranges as text, with `<` for backwards and `~` for history."""
    date_ranges = delivered.ranges_to_read(SETTINGS, last, newest_first=newest_first)
    return [
        f"{date_range.window}{'<' * date_range.is_backwards}{'~' * date_range.is_deferrable}"
        for date_range in date_ranges
    ]


def test_newest_first_reads_the_last_30_days_first() -> None:
    """Newest first, the last 30 days are read before all others."""
    assert planned(DeliveredDays(), date(2024, 6, 30)) == ["2024-06-01..2024-06-30<", "2024-03-01..2024-05-31<~"]
    assert planned(DeliveredDays(), date(2024, 3, 30)) == ["2024-03-01..2024-03-30"]
    assert planned(DeliveredDays(), date(2024, 6, 30), newest_first=False) == ["2024-03-01..2024-06-30"]
    long_ago = DeliveredDays(datetime(2024, 3, 20, tzinfo=UTC))
    assert planned(long_ago, date(2024, 6, 30)) == ["2024-06-01..2024-06-30<", "2024-03-15..2024-05-31<~"]


def test_recent_days_are_updated_before_the_history() -> None:
    """Newest first, a run reads new days before it continues the history."""
    halfway = DeliveredDays(ahead=NewestFirstBlock(date(2024, 5, 10), datetime(2024, 6, 29, 9, tzinfo=UTC)))
    assert planned(halfway, date(2024, 6, 30)) == ["2024-06-24..2024-06-30", "2024-03-01..2024-05-09<~"]
    # Oldest first, the history is read first; neither order reads delivered days again.
    assert planned(halfway, date(2024, 6, 30), newest_first=False) == [
        "2024-03-01..2024-05-09",
        "2024-06-24..2024-06-30",
    ]


def test_the_lookback_excludes_undelivered_history() -> None:
    """The look-back does not include days that the back-fill still has to read."""
    begun = DeliveredDays(ahead=NewestFirstBlock(date(2024, 6, 29), datetime(2024, 6, 29, 9, tzinfo=UTC)))
    assert planned(begun, date(2024, 6, 30)) == ["2024-06-29..2024-06-30", "2024-03-01..2024-06-28<~"]


def test_an_end_date_before_delivered_days() -> None:
    """With an end date before the delivered block, only the history up to it is read."""
    halfway = DeliveredDays(ahead=NewestFirstBlock(date(2024, 5, 10), datetime(2024, 6, 29, 9, tzinfo=UTC)))
    assert planned(halfway, date(2024, 4, 30)) == ["2024-03-01..2024-04-30~"]
    assert planned(halfway, date(2024, 5, 9)) == ["2024-03-01..2024-05-09<~"]


def test_the_bookmark_stays_until_the_gap_is_closed() -> None:
    """The bookmark moves only when the gap, including its look-back, is closed."""
    bookmark, front = datetime(2024, 3, 20, tzinfo=UTC), datetime(2024, 6, 29, 9, tzinfo=UTC)
    almost = DeliveredDays(bookmark, NewestFirstBlock(date(2024, 3, 17), front))
    assert planned(almost, date(2024, 6, 29)) == ["2024-06-24..2024-06-29", "2024-03-15..2024-03-16<~"]
    last = DateRange(Window(date(2024, 3, 15), date(2024, 3, 16)), is_backwards=True)
    assert almost.with_range(last, datetime(2024, 3, 17, tzinfo=UTC), SETTINGS) == DeliveredDays(front)
    before = DateRange(Window(date(2024, 3, 16), date(2024, 3, 16)), is_backwards=True)
    after = almost.with_range(before, datetime(2024, 3, 17, tzinfo=UTC), SETTINGS)
    assert after == DeliveredDays(bookmark, NewestFirstBlock(date(2024, 3, 16), front))


def test_reading_forwards_closes_the_gap() -> None:
    """Forwards, the gap is closed when the bookmark reaches the newest-first block."""
    front = datetime(2024, 6, 29, 9, tzinfo=UTC)
    halfway = DeliveredDays(ahead=NewestFirstBlock(date(2024, 5, 10), front))
    some = DateRange(Window(START, date(2024, 5, 8)))
    assert halfway.with_range(some, datetime(2024, 5, 9, tzinfo=UTC), SETTINGS) == DeliveredDays(
        datetime(2024, 5, 9, tzinfo=UTC), halfway.ahead
    )
    all_of_it = DateRange(Window(START, date(2024, 5, 9)))
    assert halfway.with_range(all_of_it, datetime(2024, 5, 10, tzinfo=UTC), SETTINGS) == DeliveredDays(front)


def test_with_a_gap_the_state_has_no_bookmark() -> None:
    """During a first back-fill the state has the newest-first block and no bookmark."""
    state: dict[str, Any] = {}
    ahead = NewestFirstBlock(date(2024, 5, 10), datetime(2024, 6, 29, 9, tzinfo=UTC))
    write_bookmark(state, DeliveredDays(), DeliveredDays(ahead=ahead))
    assert state == {
        "replication_key": "event_time",
        "ahead": {"from_date": "2024-05-10", "before": "2024-06-29T09:00:00+00:00"},
    }
    assert read_bookmark(state) == DeliveredDays(ahead=ahead)


def test_the_state_drops_days_outside_the_lookback() -> None:
    """The state contains no day that no run reads again."""
    before, front = datetime(2024, 3, 20, tzinfo=UTC), datetime(2024, 6, 29, 9, tzinfo=UTC)
    date_range = DateRange(Window(START, date(2024, 6, 29)), ProcessingTimeFilter(None, front))
    assert sorted(DeliveredDays().with_range(date_range, front, SETTINGS).ingested) == [
        date(2024, 6, day) for day in range(24, 30)
    ]
    days = {START + timedelta(days=number): front for number in range(121)}
    halfway = DeliveredDays(before, NewestFirstBlock(date(2024, 6, 28), front), days)
    after = halfway.with_range(
        DateRange(Window(date(2024, 6, 20), date(2024, 6, 27)), is_backwards=True), front, SETTINGS
    )
    assert sorted(day for day in after.ingested if day >= date(2024, 6, 20)) == [
        date(2024, 6, day) for day in range(24, 30)
    ]


def test_days_with_the_same_instant_are_one_range() -> None:
    """Consecutive days with the same instant are one range in the state."""
    old, new = datetime(2024, 3, 18, 8, tzinfo=UTC), datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = {date(2024, 3, 13): new, date(2024, 3, 14): new, date(2024, 3, 15): old, date(2024, 3, 17): old}
    state: dict[str, Any] = {}
    write_bookmark(state, DeliveredDays(), DeliveredDays(old, ingested=days))
    assert state == {
        "replication_key": "event_time",
        "replication_key_value": "2024-03-18T08:00:00+00:00",
        "ingested": [
            {"from_date": "2024-03-13", "to_date": "2024-03-14", "before": "2024-03-19T08:00:00+00:00"},
            {"from_date": "2024-03-15", "to_date": "2024-03-15", "before": "2024-03-18T08:00:00+00:00"},
            {"from_date": "2024-03-17", "to_date": "2024-03-17", "before": "2024-03-18T08:00:00+00:00"},
        ],
    }
    assert read_bookmark(state) == DeliveredDays(old, ingested=days)


def test_by_event_time_the_state_is_only_the_bookmark() -> None:
    """By event time the state contains only the bookmark."""
    date_range = DateRange(Window(START, date(2024, 3, 2)))
    delivered = DeliveredDays().with_range(date_range, datetime(2024, 3, 3, tzinfo=UTC), SETTINGS)
    state: dict[str, Any] = {}
    write_bookmark(state, DeliveredDays(), delivered)
    assert state == {"replication_key": "event_time", "replication_key_value": "2024-03-03T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"ingested": [{"from_date": "2024-03-02"}]}, "ingested.to_date is missing, not a date"),
        (
            {"ingested": [{"from_date": "2024-03-02", "to_date": "2024-03-01", "before": "2024-03-03"}]},
            "cannot end",
        ),
        (
            {"ingested": [{"from_date": "2024-03-02", "to_date": "2024-03-02", "before": "soon"}]},
            'ingested.before is "soon", not a date-time',
        ),
        ({"ingested": "2024-03-02"}, 'ingested is "2024-03-02", not a list'),
        ({"ingested": ["2024-03-02"]}, 'an entry of ingested is "2024-03-02", not an object'),
        ({"ahead": {"from_date": "2024-03-02"}}, "ahead.before is missing, not a date-time"),
        ({"ahead": {"from_date": 20240302, "before": "2024-03-02"}}, "ahead.from_date is 20240302, not a date such as"),
        ({"ahead": ["2024-03-02"]}, 'ahead is ["2024-03-02"], not an object'),
        ({"replication_key_value": 5}, "replication_key_value is 5, not a date-time such as 2024-01-16T00:00:00+00:00"),
    ],
)
def test_an_invalid_state_is_rejected(broken: dict[str, Any], says: str) -> None:
    """The message names the key, its value and the expected type."""
    with pytest.raises(ValueError, match=re.escape(says)):
        read_bookmark(broken)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "rows is [], not an object"),
        ({"today": 5}, 'a day of rows is "today", not a date such as 2024-01-16'),
        ({"2024-03-02": "many"}, 'rows.2024-03-02 is "many", not an integer'),
    ],
)
def test_invalid_row_counts_are_rejected(rows: object, says: str) -> None:
    """The message names the key and its value, which Python's own errors do not."""
    with pytest.raises(ValueError, match=re.escape(says)):
        RowCounts.read({"rows": rows}, date(2024, 3, 2), 5)


@given(st.datetimes(datetime(1900, 1, 1), datetime(9000, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_bookmark_round_trips(instant: datetime) -> None:
    """A bookmark that was written is read back, in whole seconds."""
    assert parse_bookmark(bookmark_text(instant)) == instant.replace(microsecond=0)


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-16T00:00:00+00:00",
        "2024-01-16T00:00:00Z",
        "2024-01-16T00:00:00",
        "2024-01-16",
        "2024-01-15T16:00:00-08:00",
    ],
)
def test_bookmark_formats(text: str) -> None:
    """Each usual spelling of the same instant is read."""
    assert bookmark_text(parse_bookmark(text)) == "2024-01-16T00:00:00+00:00"


@pytest.mark.parametrize("text", ["", "yesterday", "1705363200", "2024-13-01", "0001-01-01T00:00:00+23:00"])
def test_an_invalid_bookmark_is_rejected(text: str) -> None:
    """Text that is not a date-time is rejected as a bookmark."""
    with pytest.raises(ValueError, match="not a date-time such as 2024-01-16T00:00:00"):
        parse_bookmark(text)


def test_a_bookmark_needs_a_time_zone() -> None:
    """A naive datetime cannot be written; an aware one is written in UTC."""
    with pytest.raises(ValueError, match="zone"):
        bookmark_text(datetime(2024, 1, 16))  # noqa: DTZ001
    assert bookmark_text(datetime(2024, 1, 16, tzinfo=timezone(timedelta(hours=1)))) == "2024-01-15T23:00:00+00:00"
