"""Days, date ranges, and the windows in which a run requests them. Dates only.

In Mixpanel's API `from_date` and `to_date` are both inclusive, and in the project's time zone (Mixpanel's docs).
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from ..mixpanel.request import days_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..mixpanel.export import ProcessingTimeFilter

MIB = 1024 * 1024
LARGE = 256 * MIB
"""Decompressed bytes above which a window is too large, and the next windows get shorter."""

AIM = 160 * MIB
"""Decompressed bytes that windows grow towards, well under `LARGE`: days differ, and some have half as much again."""

CUT_FOR_SIZE = 64 * MIB
"""Decompressed bytes above which a truncated window may have been truncated for its size."""

DAY = timedelta(days=1)

MOMENT = timedelta(microseconds=1)
"""The resolution of a datetime: `instant - MOMENT` is the last moment before an instant."""

MOST_DAYS = 90
"""Maximum days of an adaptive window. Mixpanel's docs name no limit; one connector assumes 100 days."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Days from `first` to `last`, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"a window cannot end ({self.last}) before it begins ({self.first})")

    @property
    def days(self) -> int:
        """Return the number of days, at least 1."""
        return (self.last - self.first).days + 1

    def dates(self) -> Iterator[date]:
        """Yield the days in order."""
        return (self.first + timedelta(days=number) for number in range(self.days))

    def is_adjacent(self, other: Window) -> bool:
        """Return whether no day lies between two windows, whichever comes first."""
        return DAY in {other.first - self.last, self.first - other.last}

    def __str__(self) -> str:
        return days_text(self.first, self.last)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days that are requested in one and the same way: a whole back-fill, or a single window.

    Attributes:
        window: The days.
        processed: Only rows that Mixpanel processed then; None for all rows.
        backwards: Whether its last days are delivered first.
        is_history: Whether the next run can continue with it just as well, if the quota does not suffice for all of it.
    """

    window: Window
    processed: ProcessingTimeFilter | None = None
    backwards: bool = False
    is_history: bool = False

    @property
    def is_update(self) -> bool:
        """Return whether its days were read before, so that it brings few rows of them."""
        return self.processed is not None and self.processed.since is not None

    def split(self, days: int) -> tuple[DateRange, DateRange]:
        """Return the first `days` days to deliver, and the rest, which must not be empty."""
        begin = self.window.first + (self.window.days - days if self.backwards else days) * DAY
        older, newer = (
            replace(self, window=Window(self.window.first, begin - DAY)),
            replace(self, window=Window(begin, self.window.last)),
        )
        return (newer, older) if self.backwards else (older, newer)

    def halves(self) -> tuple[DateRange, DateRange]:
        """Return two halves in the order of delivery, the first one shorter if the number of days is odd.

        Raises:
            ValueError: It is a single day.
        """
        if self.window.days == 1:
            raise ValueError(f"a single day ({self.window}) cannot be split")
        return self.split(self.window.days // 2)


def span(date_ranges: Sequence[DateRange]) -> Window:
    """Return the days from the first to the last of some date ranges, in whatever order; at least one."""
    windows = [date_range.window for date_range in date_ranges]
    return Window(min(window.first for window in windows), max(window.last for window in windows))


def first_day(bookmark: datetime | None, start_date: date, lookback_days: int, zone: tzinfo) -> date:
    """Return the first day that a run requests.

    Args:
        bookmark: Everything before this instant is delivered; None on the first run.
        start_date: The earliest day to request.
        lookback_days: Days before the bookmark's day to read again, for late events.
        zone: The project's time zone.
    """
    if bookmark is None:
        return start_date
    day = bookmark.astimezone(zone).date()
    # Compared by distance: a long look-back must not run past the first date there is.
    return start_date if (day - start_date).days <= lookback_days else day - timedelta(days=lookback_days)


def last_day(end_date: date | None, now: datetime, zone: tzinfo) -> date:
    """Return the last day that a run requests: `end_date`, or today in the project's zone if that comes first.

    Mixpanel responds with 400 to a day that has not begun in the project (seen on the live API by others).
    """
    today = now.astimezone(zone).date()
    return today if end_date is None else min(end_date, today)


def end_instant(window: Window, zone: tzinfo, known_at: datetime) -> datetime:
    """Return the instant before which everything is delivered once a window is, UTC.

    Args:
        window: The window.
        zone: The project's time zone.
        known_at: What has reached Mixpanel by then is in the window: the instant of the request, or the one before
            which its rows were processed. Aware.

    Returns:
        The midnight after the window's last day. For a day that was not over at `known_at`, that whole second.
    """
    known = known_at.astimezone(UTC).replace(microsecond=0)
    try:
        # Where a clock change skips or doubles that midnight, Python's rules give the moment at which the day begins.
        midnight = datetime.combine(window.last + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return known
    return min(midnight, known)


def next_days(days: int, decompressed_bytes: float, *, was_truncated: bool, aim: float = AIM) -> int:
    """Return the number of days to request after a window, from 1 to `MOST_DAYS`.

    Args:
        days: The window's days.
        decompressed_bytes: Its decompressed size.
        was_truncated: Whether it did not arrive whole.
        aim: Decompressed bytes to grow towards.
    """
    if was_truncated or decompressed_bytes > LARGE:
        days //= 2
    elif decompressed_bytes <= aim:
        days = min(2 * days, int(days * aim / max(1, decompressed_bytes)))
    return max(1, min(days, MOST_DAYS))


class WindowPlanner:
    """Cuts a run's date ranges into windows, whose length adapts to the size of those before. Thread-safe.

    Any number of windows may be under way; reports may come late, in any order and from any thread.
    """

    def __init__(self, date_ranges: Iterable[DateRange], window_days: int | None = None) -> None:
        """Plan date ranges in their order.

        Args:
            date_ranges: The date ranges. No window spans two of them.
            window_days: A fixed length. Without it windows begin with one day and adapt.
        """
        self._date_ranges = deque(date_ranges)
        self._fixed = window_days
        # Updates are sized apart: the few late rows of many days say nothing about a day that was never read.
        self._days = dict.fromkeys((False, True), window_days or 1)
        self._aim: float = AIM
        self._lock = threading.Lock()

    def next(self) -> DateRange | None:
        """Return the next window, or None after the last one."""
        with self._lock:
            if not self._date_ranges:
                return None
            date_range = self._date_ranges.popleft()
            days = self._days[date_range.is_update]
            if date_range.window.days <= days:
                return date_range
            window, rest = date_range.split(days)
            self._date_ranges.appendleft(rest)
            return window

    def end(self) -> None:
        """Drop all windows that `next` has not returned yet."""
        with self._lock:
            self._date_ranges.clear()

    def report(self, date_range: DateRange, decompressed_bytes: int, *, was_truncated: bool = False) -> None:
        """Adapt the length of the next windows to a finished one.

        Args:
            date_range: A window that came from `next`.
            decompressed_bytes: Its decompressed size.
            was_truncated: Whether it did not arrive whole.
        """
        if self._fixed:
            return
        days = date_range.window.days
        with self._lock:
            present = self._days[date_range.is_update]
            if was_truncated or decompressed_bytes > LARGE:
                following = min(present, next_days(days, decompressed_bytes, was_truncated=was_truncated))
            else:
                # Judged by what a window of the present length would hold at the same density: with several windows
                # under way, most reports are about shorter ones.
                size = decompressed_bytes * present / days
                following = next_days(present, size, was_truncated=False, aim=self._aim)
            self._days[date_range.is_update] = following

    def report_halves(self, decompressed_bytes: int) -> None:
        """Keep windows from growing to a size at which one arrived in halves only.

        A window is at most twice as large as one that arrived whole, so half of its size does arrive whole.

        Args:
            decompressed_bytes: The decompressed size of both halves.
        """
        with self._lock:
            if decompressed_bytes > CUT_FOR_SIZE:
                self._aim = min(self._aim, decompressed_bytes / 2)
