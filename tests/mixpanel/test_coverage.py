"""Many runs, against a history that goes on arriving: a model of Mixpanel and of what a target holds in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from tap_mixpanel_stream.mixpanel.coverage import SETTLING, Delivered, Scope, settled
from tap_mixpanel_stream.mixpanel.windows import (
    MOMENT,
    Part,
    Plan,
    Window,
    bookmark_text,
    end_instant,
    first_day,
    last_day,
    parse_bookmark,
)
from tap_mixpanel_stream.streams.bookmark import read_bookmark, write_bookmark

if TYPE_CHECKING:
    from tap_mixpanel_stream.mixpanel.export import Processed

START = date(2024, 3, 1)  # clocks change in this month
BEGIN = datetime(2024, 3, 1, tzinfo=UTC)
ZONES = st.sampled_from([UTC, ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")])
Mode = Literal["event_time", "ingestion_time", "older"]


@dataclass(frozen=True)
class Row:
    """An event: its day in the project, when it was processed and when it showed, and whether it tells the former."""

    number: int
    day: date
    processed: datetime
    shows: datetime
    tells: bool


@dataclass(frozen=True)
class Run:
    """One run: how long after the one before it, and how it goes.

    Attributes:
        mode: `older` is the tap of version 0.1.0, which knows the bookmark only.
        hours: Since the run before.
        lasts: Hours from its first request to its last.
        end: Its last day, counted from the start date; None for no end date.
        window_days: How long its windows are.
        fails_after: How many windows are out when it fails; None where it does not.
        forgotten: How many of the states it wrote are lost, as by a target that crashed.
    """

    mode: Mode
    hours: int
    lasts: int = 0
    end: int | None = None
    window_days: int = 3
    fails_after: int | None = None
    forgotten: int = 0


@dataclass
class World:
    """What there is in Mixpanel, and what has come out of it."""

    rows: list[Row]
    scope: Scope
    now: datetime = BEGIN
    state: dict[str, Any] = field(default_factory=dict)
    target: Counter[Row] = field(default_factory=Counter)

    def run(self, run: Run) -> None:
        """Run the tap once."""
        self.now += timedelta(hours=run.hours)
        parts = self.older_parts(run) if run.mode == "older" else self.parts(run)
        plan = Plan(parts, run.window_days)
        windows = list(iter(plan.next, None))
        states = [dict(self.state)]
        for number, part in enumerate(windows):
            if number == run.fails_after:
                break
            asked_at = self.now + timedelta(hours=run.lasts) * number / len(windows)
            self.target.update(self.answer(part, asked_at))
            self.book(run, part, asked_at)
            states.append(dict(self.state))
        self.state = states[max(0, len(states) - 1 - run.forgotten)]
        self.now += timedelta(hours=run.lasts)

    def end_date(self, run: Run) -> date | None:
        return None if run.end is None else START + timedelta(days=run.end)

    def parts(self, run: Run) -> list[Part]:
        now, before = self.now, None
        if run.mode == "ingestion_time":
            before = settled(now)
            now = before - MOMENT
        last = last_day(self.end_date(run), now, self.scope.zone)
        return read_bookmark(self.state).to_read(self.scope, last, before)

    def older_parts(self, run: Run) -> list[Part]:
        text = self.state.get("replication_key_value")
        before = None if text is None else parse_bookmark(text)
        first = first_day(before, self.scope.start_date, self.scope.lookback_days, self.scope.zone)
        last = last_day(self.end_date(run), self.now, self.scope.zone)
        return [Part(Window(first, last))] if first <= last else []

    def answer(self, part: Part, asked_at: datetime) -> list[Row]:
        """What Mixpanel answers."""
        return [
            row
            for row in self.rows
            if part.window.first <= row.day <= part.window.last
            and row.shows <= asked_at
            and (part.processed is None or not row.tells or matches(part.processed, row))
        ]

    def book(self, run: Run, part: Part, asked_at: datetime) -> None:
        """Note a window that is out, and see that what is noted is true."""
        until = end_instant(part.window, self.scope.zone, part.processed.before if part.processed else asked_at)
        if run.mode == "older":
            text = self.state.get("replication_key_value")
            if text is None or until > parse_bookmark(text):
                self.state = {**self.state, "replication_key_value": bookmark_text(until)}
            return
        before = read_bookmark(self.state)
        state = dict(self.state)
        write_bookmark(state, before, before.with_part(part, until, self.scope))
        after = read_bookmark(state)
        assert before.before is None or (after.before is not None and after.before >= before.before)
        for row in self.rows:
            if row.day in after.ingested and row.processed < after.ingested[row.day]:
                assert self.target[row], f"{row} is said to be delivered"
        self.state = state


def matches(processed: Processed, row: Row) -> bool:
    return (processed.since is None or processed.since <= row.processed) and row.processed < processed.before


def is_promised(row: Row, scope: Scope, longest: timedelta) -> bool:
    """Whether it showed while its day was still within the look-back of whatever run came next."""
    shows = (row.shows + longest).astimezone(scope.zone).date()
    return row.day >= scope.start_date and (shows - row.day).days <= scope.lookback_days


@st.composite
def worlds(draw: st.DrawFn) -> World:
    zone: tzinfo = draw(ZONES)
    lookback = draw(st.integers(0, 6))
    rows = []
    for number in range(draw(st.integers(1, 25))):
        day = START + timedelta(days=draw(st.integers(0, 12) | st.integers(0, 60)))
        begin = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
        # A clock that is ahead makes events that are processed before their own time.
        # Most runs are at full hours around midnight: so this is near the edges of what they ask for.
        days, hours = draw(st.integers(-1, lookback + 1)), draw(st.sampled_from([-1, -1, 0, 0, 1, 13]))
        processed = begin + timedelta(days=days, hours=hours, minutes=draw(st.sampled_from([-50, -1, 0, 1])))
        shows = processed + timedelta(minutes=draw(st.sampled_from([0, 10, 59])))
        rows.append(Row(number, day, processed, shows, draw(st.booleans())))
    return World(rows, Scope(START, lookback, zone))


def runs_of(modes: list[Mode], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Run]]:
    return st.lists(
        st.builds(
            Run,
            mode=st.sampled_from(modes),
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


def last_run(mode: Mode) -> Run:
    """A run after everything has arrived, which goes well and knows no end."""
    return Run(mode, hours=24 * 100)


@settings(max_examples=400, deadline=None)
@given(
    world=worlds(),
    runs=runs_of(["event_time", "ingestion_time", "older"], forgotten=st.sampled_from([0, 0, 0, 1, 3])),
    mode=st.sampled_from(["event_time", "ingestion_time"]),
)
def test_no_row_is_lost_whatever_fails_and_however_the_modes_are_switched(
    world: World, runs: list[Run], mode: Mode
) -> None:
    for run in [*runs, last_run(mode)]:
        world.run(run)
    longest = timedelta(hours=max(run.lasts for run in runs))
    lost = [row for row in world.rows if is_promised(row, world.scope, longest) and not world.target[row]]
    assert lost == []


@settings(max_examples=400, deadline=None)
@given(world=worlds(), runs=runs_of(["ingestion_time"]))
def test_by_ingestion_time_each_row_comes_once_whatever_fails(world: World, runs: list[Run]) -> None:
    for run in [*runs, last_run("ingestion_time")]:
        world.run(run)
    assert [row for row, count in world.target.items() if row.tells and count > 1] == []


def test_a_row_is_settled_an_hour_after_it_was_processed() -> None:
    assert settled(datetime(2024, 3, 1, 2, 0, 0, 999_999, tzinfo=UTC)) == datetime(2024, 3, 1, 1, tzinfo=UTC)
    assert timedelta(minutes=45) < SETTLING


NOW = datetime(2024, 3, 20, 9, tzinfo=UTC)
SCOPE = Scope(START, 5, UTC)


def asked(delivered: Delivered) -> list[tuple[str, str | None]]:
    parts = delivered.to_read(SCOPE, NOW.date(), settled(NOW))
    return [
        (str(part.window), part.processed.since.isoformat() if part.processed and part.processed.since else None)
        for part in parts
    ]


def test_days_that_are_delivered_are_asked_for_new_rows_only() -> None:
    instant = datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = dict.fromkeys([date(2024, 3, day) for day in range(14, 20)], instant)
    assert asked(Delivered(instant, days)) == [
        ("2024-03-14..2024-03-19", "2024-03-19T08:00:00+00:00"),
        ("2024-03-20", None),
    ]


def test_a_bookmark_that_was_set_back_has_its_days_read_anew() -> None:
    days = dict.fromkeys([date(2024, 3, day) for day in range(14, 20)], datetime(2024, 3, 19, 8, tzinfo=UTC))
    assert asked(Delivered(datetime(2024, 3, 10, tzinfo=UTC), days)) == [("2024-03-05..2024-03-20", None)]
    assert asked(Delivered(None, days)) == [("2024-03-01..2024-03-20", None)]


def test_after_a_run_that_failed_each_day_is_asked_for_what_it_lacks() -> None:
    old, new = datetime(2024, 3, 18, 8, tzinfo=UTC), datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = {date(2024, 3, day): new if day < 16 else old for day in range(13, 19)}
    assert asked(Delivered(old, days)) == [
        ("2024-03-13..2024-03-15", "2024-03-19T08:00:00+00:00"),
        ("2024-03-16..2024-03-18", "2024-03-18T08:00:00+00:00"),
        ("2024-03-19..2024-03-20", None),
    ]


def test_a_longer_look_back_reads_the_added_days_whole() -> None:
    instant = datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = {date(2024, 3, day): instant for day in range(17, 20)}
    assert asked(Delivered(instant, days)) == [
        ("2024-03-14..2024-03-16", None),
        ("2024-03-17..2024-03-19", "2024-03-19T08:00:00+00:00"),
        ("2024-03-20", None),
    ]


def test_the_state_shows_days_that_share_an_instant_as_one_range() -> None:
    old, new = datetime(2024, 3, 18, 8, tzinfo=UTC), datetime(2024, 3, 19, 8, tzinfo=UTC)
    days = {date(2024, 3, 13): new, date(2024, 3, 14): new, date(2024, 3, 15): old, date(2024, 3, 17): old}
    state: dict[str, Any] = {}
    write_bookmark(state, Delivered(), Delivered(old, days))
    assert state == {
        "replication_key": "event_time",
        "replication_key_value": "2024-03-18T08:00:00+00:00",
        "ingested": [
            {"from_date": "2024-03-13", "to_date": "2024-03-14", "before": "2024-03-19T08:00:00+00:00"},
            {"from_date": "2024-03-15", "to_date": "2024-03-15", "before": "2024-03-18T08:00:00+00:00"},
            {"from_date": "2024-03-17", "to_date": "2024-03-17", "before": "2024-03-18T08:00:00+00:00"},
        ],
    }
    assert read_bookmark(state) == Delivered(old, days)


def test_by_event_time_the_state_is_the_bookmark_alone() -> None:
    part = Part(Window(START, date(2024, 3, 2)))
    delivered = Delivered().with_part(part, datetime(2024, 3, 3, tzinfo=UTC), SCOPE)
    state: dict[str, Any] = {}
    write_bookmark(state, Delivered(), delivered)
    assert state == {"replication_key": "event_time", "replication_key_value": "2024-03-03T00:00:00+00:00"}


@pytest.mark.parametrize(
    "broken",
    [
        {"ingested": [{"from_date": "2024-03-02"}]},
        {"ingested": [{"from_date": "2024-03-02", "to_date": "2024-03-01", "before": "2024-03-03"}]},
        {"ingested": [{"from_date": "2024-03-02", "to_date": "2024-03-02", "before": "soon"}]},
        {"ingested": "2024-03-02"},
        {"replication_key_value": 5},
    ],
)
def test_a_state_that_holds_something_else_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_bookmark(broken)
