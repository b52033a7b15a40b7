"""What is delivered, and what is therefore to be asked for. Days and instants only: nothing in here knows of HTTP.

Whatever is noted here is a fact about the past, and stays true whatever later runs do: so settings can be switched from
run to run, and a fact that is forgotten costs a repetition, never a row.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from ..mixpanel.export import ProcessingTimeFilter
from .windows import DAY, MOMENT, DateRange, Window, first_day

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

SETTLING = timedelta(hours=1)
"""How long ago a row must have been processed to be sure to show. Rows were seen to be missing for about 45 minutes."""

MOST_AHEAD = timedelta(minutes=10)
"""How far this machine's clock may be ahead of Mixpanel's: less than what `SETTLING` leaves over."""

NEWEST_FIRST_DAYS = 30
"""Newest first: how many days come before all others."""


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """The settings that say which days count.

    Attributes:
        start_date: No day before this one.
        lookback_days: Days to read again before the day up to which all is delivered.
        zone: The project's time zone.
    """

    start_date: date
    lookback_days: int
    zone: tzinfo

    def first_day(self, before: datetime | None) -> date:
        """The first day to ask for where everything before an instant is delivered; None where nothing is."""
        return first_day(before, self.start_date, self.lookback_days, self.zone)

    def last_begun(self, instant: datetime) -> date:
        """The last day that has begun before an instant."""
        return (instant - MOMENT).astimezone(self.zone).date()


@dataclass(frozen=True, slots=True)
class NewestFirstBlock:
    """Days that are delivered ahead of those before them.

    Attributes:
        first: The first of them; the day before it is still to be read.
        before: Everything from that day on and before this instant is delivered.
    """

    first: date
    before: datetime


@dataclass(frozen=True, slots=True)
class DeliveredDays:
    """What the runs so far have delivered.

    Attributes:
        before: Everything before this instant, as far as it had reached Mixpanel when its day was read; None for
            nothing.
        ahead: What is delivered beyond that, with a gap between; None for nothing.
        ingested: Of a day, all rows that Mixpanel processed before this instant. Kept for the days only that a run
            would ask for again, and believed only where the others say that the day is delivered: who sets those back
            wants to read again.
    """

    before: datetime | None = None
    ahead: NewestFirstBlock | None = None
    ingested: Mapping[date, datetime] = field(default_factory=dict)

    def to_read(
        self,
        scope: ReplicationSettings,
        last: date,
        *,
        newest_first: bool = False,
        processed_before: datetime | None = None,
    ) -> list[DateRange]:
        """What a run asks for, in this order.

        Args:
            scope: Which days count.
            last: The last day of the run.
            newest_first: Whether the last days come before all others, where there is much to read.
            processed_before: By ingestion time: only rows processed before this instant, and of days of which such rows
                are delivered only those since. None for all rows.
        """
        date_ranges = self.closed(scope).in_order(scope, last, newest_first=newest_first)
        if processed_before is None:
            return date_ranges
        return [
            piece for date_range in date_ranges for piece in self._by_ingestion(date_range, processed_before, scope)
        ]

    def in_order(self, scope: ReplicationSettings, last: date, *, newest_first: bool) -> list[DateRange]:
        """The days that a run asks for, whatever of them is delivered by ingestion time."""
        first = scope.first_day(self.before)
        if self.ahead is None:
            if first > last:
                return []
            return _from_the_end(first, last) if newest_first else [DateRange(Window(first, last))]
        gap_end = min(self.ahead.first - DAY, last)
        # Backwards it can only go on from the days that are delivered.
        backwards = newest_first and gap_end == self.ahead.first - DAY
        gap = (
            [DateRange(Window(first, gap_end), backwards=backwards, is_history=newest_first)]
            if first <= gap_end
            else []
        )
        begin = max(self.ahead.first, scope.first_day(self.ahead.before))
        front = [DateRange(Window(begin, last))] if begin <= last else []
        return front + gap if newest_first else gap + front

    def _by_ingestion(self, date_range: DateRange, before: datetime, scope: ReplicationSettings) -> Iterator[DateRange]:
        """The part, cut where rows are delivered up to another instant."""
        known = {day: since for day, since in self.ingested.items() if self._holds(day, scope)}
        alike = [list(days) for _, days in itertools.groupby(days_of(date_range.window), known.get)]
        for days in reversed(alike) if date_range.backwards else alike:
            yield replace(
                date_range, window=Window(days[0], days[-1]), processed=ProcessingTimeFilter(known.get(days[0]), before)
            )

    def _holds(self, day: date, scope: ReplicationSettings) -> bool:
        """Whether a day is delivered, to its end or as far as it had gone."""
        if self.before is not None and day <= scope.last_begun(self.before):
            return True
        return self.ahead is not None and self.ahead.first <= day <= scope.last_begun(self.ahead.before)

    def with_range(self, date_range: DateRange, until: datetime, scope: ReplicationSettings) -> DeliveredDays:
        """What is delivered once a window is.

        Args:
            date_range: A window of those to be read; all before it are delivered.
            until: The instant before which everything is delivered with it.
            scope: Which days count.
        """
        ingested = dict(self.ingested)
        if date_range.processed is not None:
            for day in days_of(date_range.window):
                ingested[day] = max(date_range.processed.before, ingested.get(day, date_range.processed.before))
        after = self.closed(scope).moved(date_range, until).closed(scope)
        return replace(after, ingested={day: instant for day, instant in ingested.items() if after.asks(day, scope)})

    def moved(self, date_range: DateRange, until: datetime) -> DeliveredDays:
        """The same with a window's days, and without what `ingested` makes of them."""
        window, ahead = date_range.window, self.ahead
        if ahead is not None and (date_range.backwards or window.first >= ahead.first):
            return replace(self, ahead=NewestFirstBlock(min(window.first, ahead.first), max(until, ahead.before)))
        if date_range.backwards:
            return replace(self, ahead=NewestFirstBlock(window.first, until))
        # The windows of the look-back end before it: it must not move back.
        after = replace(self, before=until if self.before is None else max(until, self.before))
        return after.joined() if ahead is not None and window.last >= ahead.first - DAY else after

    def closed(self, scope: ReplicationSettings) -> DeliveredDays:
        """The same without a gap, where there is nothing left to read in it."""
        return self.joined() if self.ahead and self.ahead.first <= scope.first_day(self.before) else self

    def joined(self) -> DeliveredDays:
        """The same without a gap: what is ahead goes on where the rest ends."""
        if self.ahead is None:
            return self
        before = self.ahead.before if self.before is None else max(self.before, self.ahead.before)
        return replace(self, before=before, ahead=None)

    def asks(self, day: date, scope: ReplicationSettings) -> bool:
        """Whether the next run asks for a day, should it have come by then."""
        is_ahead = self.ahead is not None and day >= self.ahead.first
        return day >= scope.first_day(self.ahead.before if self.ahead and is_ahead else self.before)


def _from_the_end(first: date, last: date) -> list[DateRange]:
    """The last days, and then all before them, backwards; in one piece where there are no more."""
    begin = last - (NEWEST_FIRST_DAYS - 1) * DAY
    if begin <= first:
        return [DateRange(Window(first, last))]
    return [
        DateRange(Window(begin, last), backwards=True),
        DateRange(Window(first, begin - DAY), backwards=True, is_history=True),
    ]


def settled(now: datetime) -> datetime:
    """The instant such that rows processed before it are sure to show, a whole second, UTC."""
    return (now.astimezone(UTC) - SETTLING).replace(microsecond=0)


def days_of(window: Window) -> Iterator[date]:
    """A window's days, in order."""
    return (window.first + timedelta(days=number) for number in range(window.days))
