from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.mixpanel.export import ProcessingTimeFilter
from tap_mixpanel_stream.replication.state import bookmark_text
from tap_mixpanel_stream.replication.windows import (
    LARGE,
    MIB,
    MOST_DAYS,
    DateRange,
    Window,
    WindowPlanner,
    end_instant,
    first_day,
    last_day,
    next_days,
)

ZONES = st.sampled_from(
    [
        UTC,
        ZoneInfo("America/Los_Angeles"),
        ZoneInfo("America/Sao_Paulo"),  # its clocks changed at midnight
        ZoneInfo("America/Havana"),
        ZoneInfo("Asia/Kolkata"),
        ZoneInfo("Pacific/Kiritimati"),
        ZoneInfo("Pacific/Apia"),  # it once left a day out
        ZoneInfo("Europe/Berlin"),
    ]
)
DAYS = st.dates(date(2005, 1, 1), date(2030, 12, 31))
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def plan_of(first: date, last: date, window_days: int | None = None) -> WindowPlanner:
    return WindowPlanner([DateRange(Window(first, last))], window_days)


def following(planner: WindowPlanner) -> DateRange:
    date_range = planner.next()
    assert date_range
    return date_range


def all_windows(
    planner: WindowPlanner, bytes_a_day: float, in_flight: int = 1, cut_from: float = math.inf
) -> list[Window]:
    """All windows of a plan, of days that are alike, where Mixpanel cuts off what is larger than `cut_from`."""
    windows: list[Window] = []
    flying: list[DateRange] = []
    while True:
        while len(flying) < in_flight and (date_range := planner.next()):
            flying.append(date_range)
            windows.append(date_range.window)
        if not flying:
            return windows
        done = flying.pop(0)
        size = int(bytes_a_day * done.window.days)
        if size > cut_from and done.window.days > 1:
            planner.report(done, 0, was_truncated=True)
            planner.report_halves(size)
        else:
            planner.report(done, size)


def test_a_window_shows_its_days() -> None:
    assert str(Window(date(2024, 1, 1), date(2024, 1, 7))) == "2024-01-01..2024-01-07"
    assert str(Window(date(2024, 1, 1), date(2024, 1, 1))) == "2024-01-01"
    assert Window(date(2024, 1, 1), date(2024, 1, 7)).days == 7


def test_a_window_cannot_end_before_it_begins() -> None:
    with pytest.raises(ValueError, match="cannot end"):
        Window(date(2024, 1, 2), date(2024, 1, 1))


@given(first=DAYS, length=st.integers(1, 1500), size=st.integers(0, 300 * MIB), in_flight=st.integers(1, 8))
def test_windows_tile_the_range_in_order(first: date, length: int, size: int, in_flight: int) -> None:
    last = first + timedelta(days=length - 1)
    windows = all_windows(plan_of(first, last), size, in_flight)
    assert windows[0].first == first
    assert windows[-1].last == last
    for one, other in itertools.pairwise(windows):
        assert other.first == one.last + timedelta(days=1)
    assert all(1 <= window.days <= MOST_DAYS for window in windows)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_three_years_of_a_small_project_take_at_most_40_requests(in_flight: int) -> None:
    windows = all_windows(plan_of(date(2022, 1, 1), date(2024, 12, 31)), 500_000, in_flight)
    assert sum(window.days for window in windows) == 1096
    assert len(windows) <= 40


def test_windows_of_a_large_project_stay_small() -> None:
    windows = all_windows(plan_of(date(2024, 1, 1), date(2024, 12, 31)), 40 * MIB, in_flight=2)
    assert all(window.days * 40 * MIB <= LARGE for window in windows)
    assert {window.days for window in windows[4:-1]} == {4}


def test_a_cut_window_shortens_the_next_ones() -> None:
    planner = plan_of(date(2024, 1, 1), date(2024, 12, 31))
    for _ in range(5):
        planner.report(following(planner), 0)
    cut = following(planner)
    assert cut.window.days == 32
    planner.report(cut, 0, was_truncated=True)
    assert following(planner).window.days == 16


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("cut_from", [50 * MIB, 100 * MIB, 150 * MIB])
@pytest.mark.parametrize("a_day", [3 * MIB, 12 * MIB, 20 * MIB])
def test_windows_do_not_grow_again_to_where_they_were_cut(a_day: int, cut_from: int, in_flight: int) -> None:
    windows = all_windows(plan_of(date(2024, 1, 1), date(2024, 12, 31)), a_day, in_flight, cut_from)
    cut = [window for window in windows if window.days * a_day > cut_from]
    assert 1 <= len(cut) <= 3 * in_flight
    assert all(window.days * a_day > cut_from / 4 for window in windows[40:-1])


def test_passing_trouble_with_a_small_window_leaves_no_mark() -> None:
    planner = plan_of(date(2022, 1, 1), date(2024, 12, 31))
    following(planner)
    planner.report(following(planner), 0, was_truncated=True)
    planner.report_halves(3 * MIB)
    assert len(all_windows(planner, 500_000)) <= 40


def test_late_rows_of_days_that_were_read_say_nothing_about_days_that_were_not() -> None:
    before = datetime(2024, 3, 1, tzinfo=UTC)
    read = DateRange(
        Window(date(2024, 1, 1), date(2024, 1, 31)), ProcessingTimeFilter(before - timedelta(days=30), before)
    )
    planner = WindowPlanner(
        [read, DateRange(Window(date(2024, 2, 1), date(2024, 2, 29)), ProcessingTimeFilter(None, before))]
    )
    while (date_range := following(planner)).is_update:
        planner.report(date_range, 0)
    assert date_range.window == Window(date(2024, 2, 1), date(2024, 2, 1))


def test_a_late_report_counts_by_what_a_window_of_todays_length_would_hold() -> None:
    planner = plan_of(date(2024, 1, 1), date(2024, 12, 31))
    first = following(planner)
    for _ in range(3):
        planner.report(following(planner), 0)
    planner.report(first, 20 * MIB)
    assert following(planner).window.days == 8


def test_a_late_report_of_a_short_cut_window_counts() -> None:
    planner = plan_of(date(2024, 1, 1), date(2024, 12, 31))
    first, second = following(planner), following(planner)
    planner.report(second, 0)
    planner.report(first, 0, was_truncated=True)
    assert following(planner).window.days == 1


def test_a_fixed_length_is_kept() -> None:
    planner = plan_of(date(2024, 1, 1), date(2024, 1, 31), 10)
    assert [window.days for window in all_windows(planner, 1000 * MIB)] == [10, 10, 10, 1]


def test_no_days_no_windows() -> None:
    assert WindowPlanner([]).next() is None


def test_no_window_reaches_over_the_end_of_a_part() -> None:
    days = [Window(date(2024, 1, 1), date(2024, 1, 3)), Window(date(2024, 1, 4), date(2024, 1, 20))]
    planner = WindowPlanner([DateRange(window) for window in days])
    assert [str(window) for window in all_windows(planner, 0)] == [
        "2024-01-01",
        "2024-01-02..2024-01-03",
        "2024-01-04..2024-01-07",
        "2024-01-08..2024-01-15",
        "2024-01-16..2024-01-20",
    ]


@given(first=DAYS, length=st.integers(2, 400), backwards=st.booleans())
def test_halves_tile_their_window(first: date, length: int, backwards: bool) -> None:
    date_range = DateRange(Window(first, first + timedelta(days=length - 1)), backwards=backwards)
    halves = [half.window for half in date_range.halves()]
    assert 0 <= halves[1].days - halves[0].days <= 1
    older, newer = reversed(halves) if backwards else halves
    assert (older.first, newer.last) == (date_range.window.first, date_range.window.last)
    assert newer.first == older.last + timedelta(days=1)


def test_backwards_the_last_days_come_first() -> None:
    whole = DateRange(Window(date(2024, 1, 1), date(2024, 1, 20)), backwards=True)
    assert [str(window) for window in all_windows(WindowPlanner([whole]), 0)] == [
        "2024-01-20",
        "2024-01-18..2024-01-19",
        "2024-01-14..2024-01-17",
        "2024-01-06..2024-01-13",
        "2024-01-01..2024-01-05",
    ]


def test_a_plan_that_was_ended_has_no_more_windows() -> None:
    planner = plan_of(date(2024, 1, 1), date(2024, 1, 31))
    following(planner)
    planner.end()
    assert planner.next() is None


def test_a_day_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        DateRange(Window(date(2024, 1, 1), date(2024, 1, 1))).halves()


@pytest.mark.parametrize(
    ("days", "size", "was_truncated", "expected"),
    [
        (1, 0, False, 2),
        (64, MIB, False, 90),
        (90, 0, False, 90),
        (8, 80 * MIB, False, 16),
        (8, 81 * MIB, False, 15),
        (8, 141 * MIB, False, 9),
        (8, 160 * MIB, False, 8),
        (8, 256 * MIB, False, 8),
        (8, 256 * MIB + 1, False, 4),
        (1, 300 * MIB, False, 1),
        (8, 0, True, 4),
        (1, 0, True, 1),
    ],
)
def test_windows_grow_towards_the_aim_and_halve_when_large_or_cut(
    days: int, size: int, *, was_truncated: bool, expected: int
) -> None:
    assert next_days(days, size, was_truncated=was_truncated) == expected


@given(start=DAYS, runs=st.lists(MOMENTS, min_size=1, max_size=6), lookback=st.integers(0, 10), zone=ZONES)
def test_consecutive_runs_read_every_day_and_only_the_lookback_twice(
    start: date, runs: list[datetime], lookback: int, zone: tzinfo
) -> None:
    bookmark: datetime | None = None
    read_to: date | None = None
    for now in sorted(runs):
        first, last = first_day(bookmark, start, lookback, zone), last_day(None, now, zone)
        if first > last:
            continue
        assert first >= start
        if read_to is None:
            assert first == start
        else:
            # The day of the last run was not over: it comes again, and the look-back before it. No day is left out.
            assert first == max(start, read_to - timedelta(days=lookback))
        bookmark = end_instant(Window(first, last), zone, now)
        read_to = last


@given(day=DAYS, zone=ZONES)
def test_the_bookmark_after_a_past_day_is_where_the_next_day_begins(day: date, zone: tzinfo) -> None:
    end = end_instant(Window(day, day), zone, datetime(2031, 6, 1, tzinfo=UTC))
    following = day + timedelta(days=1)
    if zone == ZoneInfo("Pacific/Apia") and following == date(2011, 12, 30):
        following += timedelta(days=1)  # the day that never was
    assert first_day(end, date(2000, 1, 1), 0, zone) == following
    assert (end - timedelta(seconds=1)).astimezone(zone).date() == day or day == date(2011, 12, 30)


def test_the_bookmark_for_today_is_the_instant_before_the_request() -> None:
    asked = datetime(2024, 1, 16, 9, 30, 15, 999_999, tzinfo=UTC)
    end = end_instant(Window(date(2024, 1, 1), date(2024, 1, 16)), UTC, asked)
    assert end == datetime(2024, 1, 16, 9, 30, 15, tzinfo=UTC)
    assert bookmark_text(end) == "2024-01-16T09:30:15+00:00"


def test_the_bookmark_of_a_past_day_is_midnight_in_the_projects_zone() -> None:
    asked = datetime(2024, 7, 20, tzinfo=UTC)
    end = end_instant(Window(date(2024, 7, 1), date(2024, 7, 7)), ZoneInfo("America/Los_Angeles"), asked)
    assert bookmark_text(end) == "2024-07-08T07:00:00+00:00"


@pytest.mark.parametrize(
    ("bookmark", "lookback", "expected"),
    [
        (None, 5, date(2024, 1, 1)),
        (datetime(2024, 1, 16, tzinfo=UTC), 0, date(2024, 1, 16)),
        (datetime(2024, 1, 16, tzinfo=UTC), 5, date(2024, 1, 11)),
        (datetime(2024, 1, 3, tzinfo=UTC), 5, date(2024, 1, 1)),
        (datetime(2024, 1, 16, tzinfo=UTC), 10**9, date(2024, 1, 1)),
        (datetime(2020, 1, 1, tzinfo=UTC), 0, date(2024, 1, 1)),
    ],
)
def test_a_run_starts_at_the_bookmark_less_the_lookback(
    bookmark: datetime | None, lookback: int, expected: date
) -> None:
    assert first_day(bookmark, date(2024, 1, 1), lookback, UTC) == expected


def test_a_run_ends_today_in_the_projects_zone_and_never_later() -> None:
    now = datetime(2024, 1, 16, 3, tzinfo=UTC)
    los_angeles = ZoneInfo("America/Los_Angeles")
    assert last_day(None, now, los_angeles) == date(2024, 1, 15)
    assert last_day(date(2024, 2, 1), now, UTC) == date(2024, 1, 16)
    assert last_day(date(2024, 1, 2), now, UTC) == date(2024, 1, 2)
