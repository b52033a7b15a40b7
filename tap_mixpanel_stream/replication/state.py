"""What earlier runs delivered of the events, which days are therefore to be read, and how the state spells it.

    {"replication_key": "event_time", "replication_key_value": "2024-01-20T08:00:00+00:00",
     "ahead": {"from_date": "2024-05-11", "before": "2024-06-10T08:00:00+00:00"},
     "ingested": [{"from_date": "2024-01-15", "to_date": "2024-01-20", "before": "2024-01-20T08:00:00+00:00"}]}

Everything before `replication_key_value` is delivered; without it, nothing. `ahead` exists while a back-fill goes
newest first: after a gap, everything from the day `from_date` on and before `before` is delivered too. `ingested`
exists once a run went by ingestion time: of the days from `from_date` to `to_date`, all rows that Mixpanel processed
before `before` are delivered.

Each entry is a fact about the past, which stays true whatever later runs do. So settings can change from run to run,
and a forgotten fact costs a repetition and never a row. Version 0.1.0, which knows the first entry only, reads some
days twice and misses none.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ..mixpanel.export import ProcessingTimeFilter
from .windows import DAY, MOMENT, DateRange, Window, first_day

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

SETTLING = timedelta(hours=1)
"""How long after its processing a row is sure to be exported. Rows were seen to be missing for about 45 minutes."""

MAX_CLOCK_LEAD = timedelta(minutes=10)
"""How far this machine's clock may be ahead of Mixpanel's: less than the margin in `SETTLING`."""

NEWEST_FIRST_DAYS = 30
"""Days that a newest-first back-fill reads before all others."""

FIRST_YEAR, LAST_YEAR = 1900, 9000
"""The years in which a bookmark can lie."""

LONGEST_SHOWN = 100
"""Characters of a broken entry that an error repeats."""

_TYPES: dict[type, str] = {dict: "an object", list: "a list", str: "text", int: "an integer"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """The settings that say which days a run reads.

    Attributes:
        start_date: The earliest day.
        lookback_days: Days to read again before the bookmark's day.
        zone: The project's time zone.
    """

    start_date: date
    lookback_days: int
    zone: tzinfo

    def first_day(self, before: datetime | None) -> date:
        """Return the first day to request if everything before an instant is delivered, or nothing (None)."""
        return first_day(before, self.start_date, self.lookback_days, self.zone)

    def last_begun(self, instant: datetime) -> date:
        """Return the last day that has begun before an instant."""
        return (instant - MOMENT).astimezone(self.zone).date()


@dataclass(frozen=True, slots=True)
class NewestFirstBlock:
    """Days that a newest-first back-fill has delivered ahead of those before them.

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
        ahead: What is delivered after a gap; None for nothing.
        ingested: By day, the instant before which all rows that Mixpanel processed are delivered. Holds only days that
            a run would request again, and counts only for days that `before` or `ahead` cover: a user who sets those
            back wants to read again.
    """

    before: datetime | None = None
    ahead: NewestFirstBlock | None = None
    ingested: Mapping[date, datetime] = field(default_factory=dict)

    def ranges_to_read(
        self,
        settings: ReplicationSettings,
        last: date,
        *,
        newest_first: bool = False,
        processed_before: datetime | None = None,
    ) -> list[DateRange]:
        """Return the date ranges that a run requests, in the order of delivery.

        Args:
            settings: The settings that say which days count.
            last: The last day of the run.
            newest_first: Whether a long back-fill begins with its last days.
            processed_before: By ingestion time: request only rows processed before this instant, and of days of which
                such rows are delivered only the rows since. None for all rows.
        """
        date_ranges = self.without_empty_gap(settings).ranges_by_day(settings, last, newest_first=newest_first)
        if processed_before is None:
            return date_ranges
        return [
            piece
            for date_range in date_ranges
            for piece in self._split_by_ingestion(date_range, processed_before, settings)
        ]

    def ranges_by_day(self, settings: ReplicationSettings, last: date, *, newest_first: bool) -> list[DateRange]:
        """Return the date ranges that a run requests, with all of their rows."""
        first = settings.first_day(self.before)
        if self.ahead is None:
            if first > last:
                return []
            return _newest_first(first, last) if newest_first else [DateRange(Window(first, last))]
        gap_end = min(self.ahead.first - DAY, last)
        # A range can be read backwards only if it ends where the delivered days begin.
        backwards = newest_first and gap_end == self.ahead.first - DAY
        gap = (
            [DateRange(Window(first, gap_end), backwards=backwards, is_history=newest_first)]
            if first <= gap_end
            else []
        )
        begin = max(self.ahead.first, settings.first_day(self.ahead.before))
        front = [DateRange(Window(begin, last))] if begin <= last else []
        return front + gap if newest_first else gap + front

    def _split_by_ingestion(
        self, date_range: DateRange, before: datetime, settings: ReplicationSettings
    ) -> Iterator[DateRange]:
        """Split a date range where rows are delivered up to another instant."""
        known = {day: since for day, since in self.ingested.items() if self._covers(day, settings)}
        alike = [list(days) for _, days in itertools.groupby(date_range.window.dates(), known.get)]
        for days in reversed(alike) if date_range.backwards else alike:
            yield replace(
                date_range, window=Window(days[0], days[-1]), processed=ProcessingTimeFilter(known.get(days[0]), before)
            )

    def _covers(self, day: date, settings: ReplicationSettings) -> bool:
        """Return whether a day is delivered, to its end or as far as it had gone."""
        if self.before is not None and day <= settings.last_begun(self.before):
            return True
        return self.ahead is not None and self.ahead.first <= day <= settings.last_begun(self.ahead.before)

    def with_range(self, date_range: DateRange, until: datetime, settings: ReplicationSettings) -> DeliveredDays:
        """Return what is delivered once a window is.

        Args:
            date_range: A window of those to be read; all before it are delivered.
            until: The instant before which everything is delivered with it.
            settings: The settings that say which days count.
        """
        ingested = dict(self.ingested)
        if date_range.processed is not None:
            for day in date_range.window.dates():
                ingested[day] = max(date_range.processed.before, ingested.get(day, date_range.processed.before))
        after = self.without_empty_gap(settings).with_days(date_range, until).without_empty_gap(settings)
        return replace(
            after, ingested={day: instant for day, instant in ingested.items() if after.is_read_again(day, settings)}
        )

    def with_days(self, date_range: DateRange, until: datetime) -> DeliveredDays:
        """Add a window's days to `before` or `ahead`."""
        window, ahead = date_range.window, self.ahead
        if ahead is not None and (date_range.backwards or window.first >= ahead.first):
            return replace(self, ahead=NewestFirstBlock(min(window.first, ahead.first), max(until, ahead.before)))
        if date_range.backwards:
            return replace(self, ahead=NewestFirstBlock(window.first, until))
        # The windows of the look-back end before it: it must not move back.
        after = replace(self, before=until if self.before is None else max(until, self.before))
        return after.without_gap() if ahead is not None and window.last >= ahead.first - DAY else after

    def without_empty_gap(self, settings: ReplicationSettings) -> DeliveredDays:
        """Join `before` and `ahead` if the gap between them has no day left to read."""
        return self.without_gap() if self.ahead and self.ahead.first <= settings.first_day(self.before) else self

    def without_gap(self) -> DeliveredDays:
        """Join `before` and `ahead`."""
        if self.ahead is None:
            return self
        before = self.ahead.before if self.before is None else max(self.before, self.ahead.before)
        return replace(self, before=before, ahead=None)

    def is_read_again(self, day: date, settings: ReplicationSettings) -> bool:
        """Return whether the next run requests a day, if it has begun by then."""
        is_ahead = self.ahead is not None and day >= self.ahead.first
        return day >= settings.first_day(self.ahead.before if self.ahead and is_ahead else self.before)


def _newest_first(first: date, last: date) -> list[DateRange]:
    """Return the last days, and then all before them, both backwards; all in one range if there are no more days."""
    begin = last - (NEWEST_FIRST_DAYS - 1) * DAY
    if begin <= first:
        return [DateRange(Window(first, last))]
    return [
        DateRange(Window(begin, last), backwards=True),
        DateRange(Window(first, begin - DAY), backwards=True, is_history=True),
    ]


def settled(now: datetime) -> datetime:
    """Return the instant such that rows processed before it are sure to be exported, a whole second, UTC."""
    return (now.astimezone(UTC) - SETTLING).replace(microsecond=0)


# --- The state --------------------------------------------------------------------------------------------------------


def read_bookmark(state: Mapping[str, Any]) -> DeliveredDays:
    """Read the bookmark of the events; a missing entry means that nothing is delivered.

    Raises:
        ValueError: The state holds something else.
    """
    before, ahead = state.get("replication_key_value"), state.get("ahead")
    ingested: dict[date, datetime] = {}
    for entry in typed(state.get("ingested") or [], "ingested", list):
        given = typed(entry, "an entry of ingested", dict).get
        first = parse_day(given("from_date"), "ingested.from_date")
        last = parse_day(given("to_date"), "ingested.to_date")
        ingested |= dict.fromkeys(Window(first, last).dates(), parse_bookmark(given("before"), "ingested.before"))
    block = None
    if ahead is not None:
        given = typed(ahead, "ahead", dict).get
        first = parse_day(given("from_date"), "ahead.from_date")
        block = NewestFirstBlock(first, parse_bookmark(given("before"), "ahead.before"))
    return DeliveredDays(None if before is None else parse_bookmark(before), block, ingested)


def write_bookmark(state: dict[str, Any], old: DeliveredDays, new: DeliveredDays) -> None:
    """Write what has changed into the bookmark of the events."""
    state["replication_key"] = "event_time"
    if new.before is not None and new.before != old.before:
        state["replication_key_value"] = bookmark_text(new.before)
    for name in ("ahead", "ingested"):
        state.pop(name, None)
    if new.ahead is not None:
        state["ahead"] = {"from_date": new.ahead.first.isoformat(), "before": bookmark_text(new.ahead.before)}
    if new.ingested:
        state["ingested"] = _ingested_entries(new.ingested)


def _ingested_entries(ingested: Mapping[date, datetime]) -> list[dict[str, str]]:
    """Return an entry for each run of consecutive days that share an instant."""
    days = sorted(ingested)
    runs = itertools.groupby(enumerate(days), lambda pair: (pair[1].toordinal() - pair[0], ingested[pair[1]]))
    entries = []
    for (_, instant), pairs in runs:
        run = [day for _, day in pairs]
        entries.append(
            {"from_date": run[0].isoformat(), "to_date": run[-1].isoformat(), "before": bookmark_text(instant)}
        )
    return entries


def bookmark_text(instant: datetime) -> str:
    """Format an instant as the state holds it, in whole seconds: `2024-01-16T00:00:00+00:00`.

    Raises:
        ValueError: The instant has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError("a bookmark needs a time zone")
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def parse_bookmark(value: object, name: str = "replication_key_value") -> datetime:
    """Parse an instant of the state, as UTC; a time without a zone is taken as UTC.

    Args:
        value: What the state holds.
        name: What the state calls it.

    Raises:
        ValueError: It is not an ISO 8601 date-time, or so near the ends of the calendar that a time zone or a look-back
            would lead out of it.
    """
    try:
        instant = datetime.fromisoformat(typed(value, name, str))
        instant = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} is {shown(value)}, not a date-time such as 2024-01-16T00:00:00+00:00") from None
    if not FIRST_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(
            f"{name} is {shown(value)}, not between the years {FIRST_YEAR} and {LAST_YEAR}: "
            "leave it out to read everything"
        )
    return instant


def parse_day(value: object, name: str) -> date:
    """Parse a day of the state.

    Args:
        value: What the state holds.
        name: What the state calls it.

    Raises:
        ValueError: It is not an ISO 8601 date.
    """
    try:
        return date.fromisoformat(typed(value, name, str))
    except ValueError:
        raise ValueError(f"{name} is {shown(value)}, not a date such as 2024-01-16") from None


def typed(value: object, name: str, kind: type[T]) -> T:
    """Return a value of the state that must be of a JSON type.

    Args:
        value: What the state holds.
        name: What the state calls it.
        kind: The type.

    Raises:
        ValueError: It is of another one.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown(value)}, not {_TYPES[kind]}")  # noqa: TRY004 - the state is text
    return value


def shown(value: object) -> str:
    """Return a value of the state as the state spells it, or the beginning of a long one."""
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
