"""What is delivered, and what is therefore to be asked for. Days and instants only: nothing in here knows of HTTP.

Whatever is noted here is a fact about the past, and stays true whatever later runs do: so settings can be switched from
run to run, and a fact that is forgotten costs a repetition, never a row.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from .export import Processed
from .windows import MOMENT, Part, Window, first_day, last_day

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

SETTLING = timedelta(hours=1)
"""How long ago a row must have been processed to be sure to show. Rows were seen to be missing for about 45 minutes."""

MOST_AHEAD = timedelta(minutes=10)
"""How far this machine's clock may be ahead of Mixpanel's: less than what `SETTLING` leaves over."""


@dataclass(frozen=True, slots=True)
class Scope:
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


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the runs so far have delivered.

    Attributes:
        before: Everything before this instant, as far as it had reached Mixpanel when its day was read; None for
            nothing.
        ingested: Of a day, all rows that Mixpanel processed before this instant. Kept for the days only that a run
            would ask for again, and believed only before the instant `before`: who sets that back wants to read again.
    """

    before: datetime | None = None
    ingested: Mapping[date, datetime] = field(default_factory=dict)

    def to_read(self, scope: Scope, last: date, processed_before: datetime | None) -> list[Part]:
        """What a run asks for, in this order.

        Args:
            scope: Which days count.
            last: The last day of the run.
            processed_before: By ingestion time: only rows processed before this instant, and of days of which such rows
                are delivered only those since. None for all rows.
        """
        first = scope.first_day(self.before)
        if first > last:
            return []
        whole = Part(Window(first, last))
        if processed_before is None:
            return [whole]
        return list(self._by_ingestion(whole, processed_before, scope))

    def _by_ingestion(self, part: Part, before: datetime, scope: Scope) -> Iterator[Part]:
        """The part, cut where rows are delivered up to another instant."""
        begun = None if self.before is None else last_day(None, self.before - MOMENT, scope.zone)
        known = {day: since for day, since in self.ingested.items() if begun and day <= begun}
        for since, days in itertools.groupby(days_of(part.window), known.get):
            alike = list(days)
            yield replace(part, window=Window(alike[0], alike[-1]), processed=Processed(since, before))

    def with_part(self, part: Part, until: datetime, scope: Scope) -> Delivered:
        """What is delivered once a window is.

        Args:
            part: A window of those to be read; all before it are delivered.
            until: The instant before which everything is delivered with it.
            scope: Which days count.
        """
        ingested = dict(self.ingested)
        if part.processed is not None:
            for day in days_of(part.window):
                ingested[day] = max(part.processed.before, ingested.get(day, part.processed.before))
        # The windows of the look-back end before it: it must not move back.
        before = until if self.before is None else max(until, self.before)
        first = scope.first_day(before)
        return Delivered(before, {day: instant for day, instant in ingested.items() if day >= first})


def settled(now: datetime) -> datetime:
    """The instant such that rows processed before it are sure to show, a whole second, UTC."""
    return (now.astimezone(UTC) - SETTLING).replace(microsecond=0)


def days_of(window: Window) -> Iterator[date]:
    """A window's days, in order."""
    return (window.first + timedelta(days=number) for number in range(window.days))
