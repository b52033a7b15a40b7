"""Which days to ask for. Dates only: nothing in here knows of HTTP.

Mixpanel's docs: `from_date` and `to_date` are both inclusive, and in the project's time zone where that is not UTC.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..mixpanel.export import ProcessingTimeFilter

MIB = 1024 * 1024
LARGE = 256 * MIB
"""Unpacked bytes from which on a window is too large, and the next ones get shorter."""

AIM = 160 * MIB
"""Unpacked bytes that windows grow towards, well under `LARGE`: days differ, and some have half as much again."""

CUT_FOR_SIZE = 64 * MIB
"""Unpacked bytes from which on a window that was cut may have been so for its size."""

DAY = timedelta(days=1)

MOMENT = timedelta(microseconds=1)
"""The shortest time there is: what comes last before an instant."""

FIRST_YEAR, LAST_YEAR = 1900, 9000
"""The years in which a bookmark can lie."""

MOST_DAYS = 90
"""Days an adaptive window spans at the most. Mixpanel's docs name no limit; one connector assumes 100 days."""


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
        """How many days it spans, at least 1."""
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}..{self.last}"


def first_day(bookmark: datetime | None, start_date: date, lookback_days: int, zone: tzinfo) -> date:
    """The first day that a run asks for.

    Args:
        bookmark: Everything before this instant is delivered; None on the first run.
        start_date: Never ask for a day before this one.
        lookback_days: Days before the bookmark's day to read again, for late events.
        zone: The project's time zone.
    """
    if bookmark is None:
        return start_date
    day = bookmark.astimezone(zone).date()
    # Compared by distance: a long look-back must not run past the first date there is.
    return start_date if (day - start_date).days <= lookback_days else day - timedelta(days=lookback_days)


def last_day(end_date: date | None, now: datetime, zone: tzinfo) -> date:
    """The last day that a run asks for: `end_date`, or today in the project's zone where that comes first.

    Mixpanel answers 400 to a day that has not begun in the project (seen on the live API by others).
    """
    today = now.astimezone(zone).date()
    return today if end_date is None else min(end_date, today)


def next_days(days: int, decompressed_bytes: float, *, was_cut: bool, aim: float = AIM) -> int:
    """How many days to ask for after a window, between 1 and `MOST_DAYS`.

    Args:
        days: The window's days.
        decompressed_bytes: Its bytes once unpacked.
        was_cut: Whether it did not arrive whole.
        aim: Unpacked bytes to grow towards.
    """
    if was_cut or decompressed_bytes > LARGE:
        days //= 2
    elif decompressed_bytes <= aim:
        days = min(2 * days, int(days * aim / max(1, decompressed_bytes)))
    return max(1, min(days, MOST_DAYS))


@dataclass(frozen=True, slots=True)
class DateRange:
    """Days of a run that are asked for in one and the same way: many of them, or a single window.

    Attributes:
        window: The days.
        processed: Only rows that Mixpanel processed then; None for all rows.
        backwards: Whether its last days are delivered first.
        is_history: Whether the next run can go on with it just as well, should the quota not allow all of it.
    """

    window: Window
    processed: ProcessingTimeFilter | None = None
    backwards: bool = False
    is_history: bool = False

    @property
    def is_update(self) -> bool:
        """Whether its days were read before, so that a few rows of them are all it brings."""
        return self.processed is not None and self.processed.since is not None

    def cut(self, days: int) -> tuple[DateRange, DateRange]:
        """What is delivered first, so many days of it, and the rest; there must be a rest."""
        begin = self.window.first + (self.window.days - days if self.backwards else days) * DAY
        older, newer = (
            replace(self, window=Window(self.window.first, begin - DAY)),
            replace(self, window=Window(begin, self.window.last)),
        )
        return (newer, older) if self.backwards else (older, newer)

    def halves(self) -> tuple[DateRange, DateRange]:
        """The part as two, in the order in which they are delivered, the first one shorter where the days are odd.

        Raises:
            ValueError: It is a single day.
        """
        if self.window.days == 1:
            raise ValueError(f"a single day ({self.window}) cannot be split")
        return self.cut(self.window.days // 2)


def ends(date_ranges: Sequence[DateRange]) -> tuple[date, date]:
    """The first and the last day of some parts, in whatever order they stand; there must be one."""
    return min(date_range.window.first for date_range in date_ranges), max(
        date_range.window.last for date_range in date_ranges
    )


def end_instant(window: Window, zone: tzinfo, known_at: datetime) -> datetime:
    """The instant before which everything is delivered once a window is, UTC.

    Args:
        window: The window.
        zone: The project's time zone.
        known_at: What has reached Mixpanel by then is in the window: the instant at which it was asked for, or the one
            before which its rows were processed. Aware.

    Returns:
        The midnight after the window's last day. For a day that was not over at `known_at`, that whole second.
    """
    asked = known_at.astimezone(UTC).replace(microsecond=0)
    try:
        # Where a clock change skips or doubles that midnight, Python's rules give the moment at which the day begins.
        midnight = datetime.combine(window.last + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
    except OverflowError:
        return asked
    return min(midnight, asked)


class WindowPlanner:
    """Yields a run's windows in order, each as long as the ones before it have shown to be wise.

    Any number of windows may be on their way; reports may come late and in any order, from any thread.
    """

    def __init__(self, date_ranges: Iterable[DateRange], window_days: int | None = None) -> None:
        """Plans the days of some parts, in their order.

        Args:
            date_ranges: No window reaches over the end of one.
            window_days: A fixed length. Without it windows start with one day and adapt.
        """
        self._parts = deque(date_ranges)
        self._fixed = window_days
        # The few late rows of many days say nothing about how much a day holds that was never read.
        self._days = dict.fromkeys((False, True), window_days or 1)
        self._aim: float = AIM
        self._lock = threading.Lock()

    def next(self) -> DateRange | None:
        """The next window, as a part of its own; None when all days are out."""
        with self._lock:
            if not self._parts:
                return None
            date_range = self._parts.popleft()
            days = self._days[date_range.is_update]
            if date_range.window.days <= days:
                return date_range
            window, rest = date_range.cut(days)
            self._parts.appendleft(rest)
            return window

    def end(self) -> None:
        """Leaves out what has not been asked for yet."""
        with self._lock:
            self._parts.clear()

    def report(self, date_range: DateRange, decompressed_bytes: int, *, was_cut: bool = False) -> None:
        """Takes in how a window went.

        Args:
            date_range: A window that came from `next`.
            decompressed_bytes: Its bytes once unpacked.
            was_cut: Whether it did not arrive whole.
        """
        if self._fixed:
            return
        days = date_range.window.days
        with self._lock:
            present = self._days[date_range.is_update]
            if was_cut or decompressed_bytes > LARGE:
                following = min(present, next_days(days, decompressed_bytes, was_cut=was_cut))
            else:
                # Judged by what a window of the present length would hold at the same density: with several windows on
                # their way, most reports are about shorter ones.
                following = next_days(present, decompressed_bytes * present / days, was_cut=False, aim=self._aim)
            self._days[date_range.is_update] = following

    def report_cut(self, decompressed_bytes: int) -> None:
        """Takes in how large a window was that arrived by halves only: windows grow no more to where they may be cut.

        A window is at most twice as large as one that came whole, so half of it is a size that comes whole.

        Args:
            decompressed_bytes: What the halves had together.
        """
        with self._lock:
            if decompressed_bytes > CUT_FOR_SIZE:
                self._aim = min(self._aim, decompressed_bytes / 2)


def bookmark_text(instant: datetime) -> str:
    """A bookmark as the state holds it, in whole seconds: `2024-01-16T00:00:00+00:00`.

    Raises:
        ValueError: The instant has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError("a bookmark needs a time zone")
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def parse_bookmark(text: str) -> datetime:
    """A bookmark from the state, as UTC; a time without a zone is taken as UTC.

    Raises:
        ValueError: It is no ISO 8601 date-time, or one near the ends of the calendar, out of which a time zone or a
            look-back would lead.
    """
    try:
        instant = datetime.fromisoformat(text)
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no date-time such as 2024-01-16T00:00:00+00:00") from None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(
            f"{text!r} is not between the years {FIRST_YEAR} and {LAST_YEAR}: leave it out to read everything"
        )
    return instant
