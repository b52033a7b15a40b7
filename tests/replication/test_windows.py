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
    MAX_DAYS,
    MIB,
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
        ZoneInfo("Pacific/Apia"),  # it once skipped a day
        ZoneInfo("Europe/Berlin"),
    ]
)
DAYS = st.dates(date(2005, 1, 1), date(2030, 12, 31))
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2030, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


def plan_of(first: date, last: date, window_days: int | None = None) -> WindowPlanner:
    return WindowPlanner([DateRange(Window(first, last))], window_days)


def next_range(planner: WindowPlanner) -> DateRange:
    date_range = planner.next()
    assert date_range
    return date_range


def all_windows(
    planner: WindowPlanner, bytes_a_day: float, in_flight: int = 1, cut_from: float = math.inf
) -> list[Window]:
    """Return all windows of a plan, for days of equal size and exports truncated above `cut_from` bytes."""
    windows: list[Window] = []
    pending: list[DateRange] = []
    while True:
        while len(pending) < in_flight and (date_range := planner.next()):
            pending.append(date_range)
            windows.append(date_range.window)
        if not pending:
            return windows
        done = pending.pop(0)
        size = int(bytes_a_day * done.window.days)
        if size > cut_from and done.window.days > 1:
            planner.report(done, 0, was_truncated=True)
            planner.report_halves(size)
        else:
            planner.report(done, size)


def test_a_window_is_shown_as_its_days() -> None:
    """A window is shown as its first and last day."""
    assert str(Window(date(2024, 1, 1), date(2024, 1, 7))) == "2024-01-01..2024-01-07"
    assert str(Window(date(2024, 1, 1), date(2024, 1, 1))) == "2024-01-01"
    assert Window(date(2024, 1, 1), date(2024, 1, 7)).days == 7


def test_a_window_cannot_end_before_it_begins() -> None:
    """A window that ends before it begins is rejected."""
    with pytest.raises(ValueError, match="cannot end"):
        Window(date(2024, 1, 2), date(2024, 1, 1))


@given(first=DAYS, length=st.integers(1, 1500), size=st.integers(0, 300 * MIB), in_flight=st.integers(1, 8))
def test_windows_cover_the_range_in_order(first: date, length: int, size: int, in_flight: int) -> None:
    """Windows cover the date range in order, without gaps and overlaps."""
    last = first + timedelta(days=length - 1)
    windows = all_windows(plan_of(first, last), size, in_flight)
    assert windows[0].first == first
    assert windows[-1].last == last
    for one, other in itertools.pairwise(windows):
        assert other.first == one.last + timedelta(days=1)
    assert all(1 <= window.days <= MAX_DAYS for window in windows)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_three_years_of_a_small_project_take_40_requests(in_flight: int) -> None:
    """Three years of a small project take at most 40 windows."""
    windows = all_windows(plan_of(date(2022, 1, 1), date(2024, 12, 31)), 500_000, in_flight)
    assert sum(window.days for window in windows) == 1096
    assert len(windows) <= 40


def test_windows_of_a_large_project_stay_small() -> None:
    """Windows of a large project stay below the size limit."""
    windows = all_windows(plan_of(date(2024, 1, 1), date(2024, 12, 31)), 40 * MIB, in_flight=2)
    assert all(window.days * 40 * MIB <= LARGE for window in windows)
    assert {window.days for window in windows[4:-1]} == {4}


def test_a_truncated_window_shortens_the_next_ones() -> None:
    """After a truncated window the next one has half the days."""
    planner = plan_of(date(2024, 1, 1), date(2024, 12, 31))
    for _ in range(5):
        planner.report(next_range(planner), 0)
    cut = next_range(planner)
    assert cut.window.days == 32
    planner.report(cut, 0, was_truncated=True)
    assert next_range(planner).window.days == 16


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("cut_from", [50 * MIB, 100 * MIB, 150 * MIB])
@pytest.mark.parametrize("a_day", [3 * MIB, 12 * MIB, 20 * MIB])
def test_windows_stay_below_the_truncation_size(a_day: int, cut_from: int, in_flight: int) -> None:
    """Windows do not grow again to the size at which they were truncated."""
    windows = all_windows(plan_of(date(2024, 1, 1), date(2024, 12, 31)), a_day, in_flight, cut_from)
    cut = [window for window in windows if window.days * a_day > cut_from]
    assert 1 <= len(cut) <= 3 * in_flight
    assert all(window.days * a_day > cut_from / 4 for window in windows[40:-1])


def test_one_truncated_small_window_has_no_effect() -> None:
    """A small window that was truncated once does not keep later windows small."""
    planner = plan_of(date(2022, 1, 1), date(2024, 12, 31))
    next_range(planner)
    planner.report(next_range(planner), 0, was_truncated=True)
    planner.report_halves(3 * MIB)
    assert len(all_windows(planner, 500_000)) <= 40


def test_update_windows_do_not_size_full_windows() -> None:
    """Small updates of delivered days do not lengthen the windows of unread days."""
    before = datetime(2024, 3, 1, tzinfo=UTC)
    read = DateRange(
        Window(date(2024, 1, 1), date(2024, 1, 31)), ProcessingTimeFilter(before - timedelta(days=30), before)
    )
    planner = WindowPlanner(
        [read, DateRange(Window(date(2024, 2, 1), date(2024, 2, 29)), ProcessingTimeFilter(None, before))]
    )
    while (date_range := next_range(planner)).is_update:
        planner.report(date_range, 0)
    assert date_range.window == Window(date(2024, 2, 1), date(2024, 2, 1))


def test_a_late_report_is_scaled_to_the_current_length() -> None:
    """A late report counts as the size of a window of the current length."""
    planner = plan_of(date(2024, 1, 1), date(2024, 12, 31))
    first = next_range(planner)
    for _ in range(3):
        planner.report(next_range(planner), 0)
    planner.report(first, 20 * MIB)
    assert next_range(planner).window.days == 8


def test_a_late_report_of_a_truncated_window_counts() -> None:
    """A late report of a short truncated window shortens the next one."""
    planner = plan_of(date(2024, 1, 1), date(2024, 12, 31))
    first, second = next_range(planner), next_range(planner)
    planner.report(second, 0)
    planner.report(first, 0, was_truncated=True)
    assert next_range(planner).window.days == 1


def test_window_days_fixes_the_length() -> None:
    """With `window_days` all windows but the last have that length."""
    planner = plan_of(date(2024, 1, 1), date(2024, 1, 31), 10)
    assert [window.days for window in all_windows(planner, 1000 * MIB)] == [10, 10, 10, 1]


def test_no_days_give_no_windows() -> None:
    """A plan without date ranges has no windows."""
    assert WindowPlanner([]).next() is None


def test_no_window_crosses_a_date_range() -> None:
    """No window contains days of two date ranges."""
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
def test_halves_cover_their_window(first: date, length: int, backwards: bool) -> None:
    """The halves of a window cover it without gap and overlap, backwards in reverse order."""
    date_range = DateRange(Window(first, first + timedelta(days=length - 1)), is_backwards=backwards)
    halves = [half.window for half in date_range.halves()]
    assert 0 <= halves[1].days - halves[0].days <= 1
    older, newer = reversed(halves) if backwards else halves
    assert (older.first, newer.last) == (date_range.window.first, date_range.window.last)
    assert newer.first == older.last + timedelta(days=1)


def test_backwards_plans_start_with_the_last_day() -> None:
    """Backwards, the last days come first."""
    whole = DateRange(Window(date(2024, 1, 1), date(2024, 1, 20)), is_backwards=True)
    assert [str(window) for window in all_windows(WindowPlanner([whole]), 0)] == [
        "2024-01-20",
        "2024-01-18..2024-01-19",
        "2024-01-14..2024-01-17",
        "2024-01-06..2024-01-13",
        "2024-01-01..2024-01-05",
    ]


def test_an_ended_plan_has_no_more_windows() -> None:
    """After `end` a plan returns no window."""
    planner = plan_of(date(2024, 1, 1), date(2024, 1, 31))
    next_range(planner)
    planner.end()
    assert planner.next() is None


def test_a_day_cannot_be_split() -> None:
    """A window of one day cannot be split."""
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
def test_next_window_length(days: int, size: int, *, was_truncated: bool, expected: int) -> None:
    """Windows grow toward the target size and halve when too large or truncated."""
    assert next_days(days, size, was_truncated=was_truncated) == expected


@given(start=DAYS, runs=st.lists(MOMENTS, min_size=1, max_size=6), lookback=st.integers(0, 10), zone=ZONES)
def test_consecutive_runs_read_every_day(start: date, runs: list[datetime], lookback: int, zone: tzinfo) -> None:
    """Consecutive runs read every day, and only the look-back and the last day twice."""
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
            # The last run's day was not over: it is read again, with the look-back before it. No day is skipped.
            assert first == max(start, read_to - timedelta(days=lookback))
        bookmark = end_instant(Window(first, last), zone, now)
        read_to = last


@given(day=DAYS, zone=ZONES)
def test_the_bookmark_of_a_past_day_starts_the_next(day: date, zone: tzinfo) -> None:
    """Without a look-back the bookmark of a past day makes the next run start with the following day."""
    end = end_instant(Window(day, day), zone, datetime(2031, 6, 1, tzinfo=UTC))
    following = day + timedelta(days=1)
    if zone == ZoneInfo("Pacific/Apia") and following == date(2011, 12, 30):
        following += timedelta(days=1)  # the day that Samoa skipped
    assert first_day(end, date(2000, 1, 1), 0, zone) == following
    assert (end - timedelta(seconds=1)).astimezone(zone).date() == day or day == date(2011, 12, 30)


def test_the_bookmark_of_today_is_the_request_time() -> None:
    """For a window that includes today the bookmark is the time of the request."""
    requested = datetime(2024, 1, 16, 9, 30, 15, 999_999, tzinfo=UTC)
    end = end_instant(Window(date(2024, 1, 1), date(2024, 1, 16)), UTC, requested)
    assert end == datetime(2024, 1, 16, 9, 30, 15, tzinfo=UTC)
    assert bookmark_text(end) == "2024-01-16T09:30:15+00:00"


def test_the_bookmark_of_a_past_day_is_midnight() -> None:
    """For a past day the bookmark is the next midnight in the project's time zone."""
    requested = datetime(2024, 7, 20, tzinfo=UTC)
    end = end_instant(Window(date(2024, 7, 1), date(2024, 7, 7)), ZoneInfo("America/Los_Angeles"), requested)
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
def test_a_run_starts_lookback_days_before_the_bookmark(
    bookmark: datetime | None, lookback: int, expected: date
) -> None:
    """A run starts `lookback_days` before the bookmark, but not before the start date."""
    assert first_day(bookmark, date(2024, 1, 1), lookback, UTC) == expected


def test_a_run_ends_today_at_the_latest() -> None:
    """A run ends with the end date or today in the project's time zone, whichever is earlier."""
    now = datetime(2024, 1, 16, 3, tzinfo=UTC)
    los_angeles = ZoneInfo("America/Los_Angeles")
    assert last_day(None, now, los_angeles) == date(2024, 1, 15)
    assert last_day(date(2024, 2, 1), now, UTC) == date(2024, 1, 16)
    assert last_day(date(2024, 1, 2), now, UTC) == date(2024, 1, 2)
