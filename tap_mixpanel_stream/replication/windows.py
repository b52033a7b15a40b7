"""Date ranges, and the windows in which a run requests them.

In Mixpanel's API `from_date` and `to_date` are both inclusive and in the project's time zone (Mixpanel's docs).
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
"""Decompressed size in bytes above which a window is too large. The next windows are then shorter."""

TARGET_SIZE = 160 * MIB
"""Decompressed size in bytes that windows grow towards. Well below `LARGE`, because days differ by half or more."""

SUSPECT_SIZE = 64 * MIB
"""Decompressed size in bytes above which a window may have been truncated because of its size."""

DAY = timedelta(days=1)

MOMENT = timedelta(microseconds=1)
"""The resolution of a datetime: `instant - MOMENT` is the last moment before an instant."""

MAX_DAYS = 90
"""Maximum number of days of an adaptive window. Mixpanel's docs state no limit; one connector assumes 100 days."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The days from `first` to `last`, both inclusive."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"a window cannot end ({self.last}) before it begins ({self.first})")

    @property
    def days(self) -> int:
        """The number of days, at least 1."""
        return (self.last - self.first).days + 1

    def dates(self) -> Iterator[date]:
        """Yield the days in order."""
        return (self.first + timedelta(days=number) for number in range(self.days))

    def is_adjacent(self, other: Window) -> bool:
        """Return whether one window begins on the day after the other ends."""
        return DAY in {other.first - self.last, self.first - other.last}

    def __str__(self) -> str:
        return days_text(self.first, self.last)


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days and how to request them: a whole back-fill or a single window.

    Attributes:
        window: The days.
        processed: The processing times of the rows to request; None for all rows.
        is_backwards: Whether the last days are delivered first.
        is_deferrable: Whether the run may leave the rest of the range to the next run when the quota is used up.
    """

    window: Window
    processed: ProcessingTimeFilter | None = None
    is_backwards: bool = False
    is_deferrable: bool = False

    @property
    def is_update(self) -> bool:
        """Whether the days were read before, so that only their few late rows are requested."""
        return self.processed is not None and self.processed.since is not None

    def split(self, days: int) -> tuple[DateRange, DateRange]:
        """Return the first `days` days in the order of delivery, and the rest. The rest must not be empty."""
        begin = self.window.first + (self.window.days - days if self.is_backwards else days) * DAY
        older, newer = (
            replace(self, window=Window(self.window.first, begin - DAY)),
            replace(self, window=Window(begin, self.window.last)),
        )
        return (newer, older) if self.is_backwards else (older, newer)

    def halves(self) -> tuple[DateRange, DateRange]:
        """Return the two halves in the order of delivery. If the number of days is odd, the first is shorter.

        Raises:
            ValueError: The range is a single day.
        """
        if self.window.days == 1:
            raise ValueError(f"a single day ({self.window}) cannot be split")
        return self.split(self.window.days // 2)


def span(date_ranges: Sequence[DateRange]) -> Window:
    """Return the window from the first to the last day of one or more date ranges in any order."""
    windows = [date_range.window for date_range in date_ranges]
    return Window(min(window.first for window in windows), max(window.last for window in windows))


def first_day(bookmark: datetime | None, start_date: date, lookback_days: int, zone: tzinfo) -> date:
    """Return the first day that a run requests.

    Args:
        bookmark: The instant before which everything has been delivered; None in the first run.
        start_date: The earliest day to request.
        lookback_days: The number of days before the bookmark's day to read again, for late events.
        zone: The project's time zone.
    """
    if bookmark is None:
        return start_date
    day = bookmark.astimezone(zone).date()
    # Compare the distance first, because subtracting a long look-back could go below the first date that `date` allows.
    return start_date if (day - start_date).days <= lookback_days else day - timedelta(days=lookback_days)


def last_day(end_date: date | None, now: datetime, zone: tzinfo) -> date:
    """Return the last day that a run requests: `end_date`, or today in the project's zone if that is earlier.

    Mixpanel responds with a 400 for a day that has not begun in the project, as others have seen on the live API.
    """
    today = now.astimezone(zone).date()
    return today if end_date is None else min(end_date, today)


def end_instant(window: Window, zone: tzinfo, known_at: datetime) -> datetime:
    """Return the end of the period that a window delivers, exclusive, in UTC.

    Args:
        window: The window.
        zone: The project's time zone.
        known_at: The time up to which the window contains what reached Mixpanel: the time of the request, or the end of
            the requested processing times. With a time zone.

    Returns:
        The midnight after the window's last day, or `known_at` in whole seconds if that is earlier.
    """
    known = known_at.astimezone(UTC).replace(microsecond=0)
    try:
        # If a clock change skips or repeats that midnight, Python returns the moment at which the day begins.
        midnight = datetime.combine(window.last + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return known
    return min(midnight, known)


def next_days(days: int, decompressed_bytes: float, *, was_truncated: bool, target_size: float = TARGET_SIZE) -> int:
    """Return the number of days of the next window, from 1 to `MAX_DAYS`.

    Args:
        days: The number of days of the previous window.
        decompressed_bytes: The decompressed size of that window.
        was_truncated: Whether that window was truncated.
        target_size: The decompressed size to grow towards, in bytes.
    """
    if was_truncated or decompressed_bytes > LARGE:
        days //= 2
    elif decompressed_bytes <= target_size:
        days = min(2 * days, int(days * target_size / max(1, decompressed_bytes)))
    return max(1, min(days, MAX_DAYS))


class WindowPlanner:
    """Splits a run's date ranges into windows whose length adapts to the size of earlier windows. Thread-safe.

    Several windows can be in progress at once. Their sizes can be reported in any order and from any thread.
    """

    def __init__(self, date_ranges: Iterable[DateRange], window_days: int | None = None) -> None:
        """Plan the windows of date ranges.

        Args:
            date_ranges: The date ranges in the order of delivery. A window is always within one range.
            window_days: A fixed number of days; None to start with one day and adapt.
        """
        self._date_ranges = deque(date_ranges)
        self._is_fixed = window_days is not None
        # The length of the next window, by `is_update`: the few late rows of known days do not predict other sizes.
        self._days = dict.fromkeys((False, True), window_days or 1)
        self._target_size: float = TARGET_SIZE
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
        """Discard the windows that `next` has not returned yet."""
        with self._lock:
            self._date_ranges.clear()

    def report(self, date_range: DateRange, decompressed_bytes: int, *, was_truncated: bool = False) -> None:
        """Adapt the length of the next windows to a finished window.

        Args:
            date_range: A window from `next`.
            decompressed_bytes: The decompressed size of the window.
            was_truncated: Whether the window was truncated.
        """
        if self._is_fixed:
            return
        days = date_range.window.days
        with self._lock:
            current = self._days[date_range.is_update]
            if was_truncated or decompressed_bytes > LARGE:
                new = min(current, next_days(days, decompressed_bytes, was_truncated=was_truncated))
            else:
                # With several windows in progress, most reports are about shorter windows. So extrapolate the size to a
                # window of the current length.
                size = decompressed_bytes * current / days
                new = next_days(current, size, was_truncated=False, target_size=self._target_size)
            self._days[date_range.is_update] = new

    def report_halves(self, decompressed_bytes: int) -> None:
        """Limit the size of the next windows after a window had to be fetched in halves.

        A window is at most twice as large as an earlier complete one, so windows of half the size are safe.

        Args:
            decompressed_bytes: The decompressed size of both halves together.
        """
        with self._lock:
            if decompressed_bytes > SUSPECT_SIZE:
                self._target_size = min(self._target_size, decompressed_bytes / 2)
