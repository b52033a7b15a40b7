"""The bookmark of the events stream: what earlier runs delivered, which days to read next, and the state format.

    {"replication_key": "event_time", "replication_key_value": "2024-01-20T08:00:00+00:00",
     "ahead": {"from_date": "2024-05-11", "before": "2024-06-10T08:00:00+00:00"},
     "ingested": [{"from_date": "2024-01-15", "to_date": "2024-01-20", "before": "2024-01-20T08:00:00+00:00"}]}

* `replication_key_value`: Everything before this instant has been delivered. If it is missing, nothing has.
* `ahead`: Only during a newest-first back-fill. After a gap, everything from the day `from_date` to the instant
  `before` has been delivered too.
* `ingested`: Only after a run with `incremental_by: ingestion_time`. For the days from `from_date` to `to_date`, all
  rows that Mixpanel processed before `before` have been delivered.

Each entry states what has been delivered, so it stays true whatever later runs do. Settings can therefore change
between runs, and if an entry is lost, rows are read again but never missed. A version of the tap that ignores `ahead`
and `ingested` reads some days twice and misses none.
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
"""How long after its processing a row is certain to be exported. Rows have been missing for about 45 minutes."""

MAX_CLOCK_LEAD = timedelta(minutes=10)
"""How far this machine's clock may be ahead of Mixpanel's. Less than the margin in `SETTLING`."""

NEWEST_FIRST_DAYS = 30
"""The number of latest days that a newest-first back-fill reads before older days."""

FIRST_YEAR, LAST_YEAR = 1900, 9000
"""The range of valid bookmarks."""

MAX_QUOTED = 100
"""Maximum number of characters of an invalid entry that an error quotes."""

_TYPE_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "text", int: "an integer"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """The settings that determine which days a run reads.

    Attributes:
        start_date: The earliest day.
        lookback_days: The number of days before the bookmark's day to read again.
        zone: The project's time zone.
    """

    start_date: date
    lookback_days: int
    zone: tzinfo

    def first_day(self, before: datetime | None) -> date:
        """Return the first day to request.

        Args:
            before: The instant before which everything has been delivered; None if nothing has.
        """
        return first_day(before, self.start_date, self.lookback_days, self.zone)

    def last_started_day(self, instant: datetime) -> date:
        """Return the last day that started before an instant."""
        return (instant - MOMENT).astimezone(self.zone).date()


@dataclass(frozen=True, slots=True)
class NewestFirstBlock:
    """The days after the gap that a newest-first back-fill has delivered.

    Attributes:
        first: The first of these days. The day before it has not been delivered yet.
        before: The end of the delivered period, exclusive.
    """

    first: date
    before: datetime


@dataclass(frozen=True, slots=True)
class DeliveredDays:
    """What the runs so far have delivered.

    Attributes:
        before: All events before this instant have been delivered, except those that reached Mixpanel after their day
            was read; None if nothing has been delivered.
        ahead: The days after a gap that have been delivered; None if there is no gap.
        ingested: By day, the processing time before which all rows have been delivered. Contains only days that a run
            would request again. Applies only to days that `before` or `ahead` includes, so that a user can set these
            back to read days again.
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
            settings: The settings that determine the days.
            last: The last day of the run.
            newest_first: Whether a long back-fill begins with the latest days.
            processed_before: For replication by ingestion time: the processing time before which to request rows. For
                days in `ingested`, only rows processed since their delivery are requested. None to request all rows.
        """
        date_ranges = self.close_empty_gap(settings).ranges_by_day(settings, last, newest_first=newest_first)
        if processed_before is None:
            return date_ranges
        return [
            piece
            for date_range in date_ranges
            for piece in self._split_by_ingestion(date_range, processed_before, settings)
        ]

    def ranges_by_day(self, settings: ReplicationSettings, last: date, *, newest_first: bool) -> list[DateRange]:
        """Return the date ranges that a run requests, without regard to ingestion time."""
        first = settings.first_day(self.before)
        if self.ahead is None:
            if first > last:
                return []
            return _newest_first_ranges(first, last) if newest_first else [DateRange(Window(first, last))]
        gap_end = min(self.ahead.first - DAY, last)
        # A range can be read backwards only if it ends where the delivered days start.
        is_backwards = newest_first and gap_end == self.ahead.first - DAY
        gap = (
            [DateRange(Window(first, gap_end), is_backwards=is_backwards, is_deferrable=newest_first)]
            if first <= gap_end
            else []
        )
        begin = max(self.ahead.first, settings.first_day(self.ahead.before))
        latest = [DateRange(Window(begin, last))] if begin <= last else []
        return latest + gap if newest_first else gap + latest

    def _split_by_ingestion(
        self, date_range: DateRange, before: datetime, settings: ReplicationSettings
    ) -> Iterator[DateRange]:
        """Split a date range into groups of days whose rows were delivered up to the same processing time."""
        known = {day: since for day, since in self.ingested.items() if self._covers(day, settings)}
        groups = [list(days) for _, days in itertools.groupby(date_range.window.dates(), known.get)]
        for days in reversed(groups) if date_range.is_backwards else groups:
            yield replace(
                date_range, window=Window(days[0], days[-1]), processed=ProcessingTimeFilter(known.get(days[0]), before)
            )

    def _covers(self, day: date, settings: ReplicationSettings) -> bool:
        """Return whether a day has been delivered, at least in part."""
        if self.before is not None and day <= settings.last_started_day(self.before):
            return True
        return self.ahead is not None and self.ahead.first <= day <= settings.last_started_day(self.ahead.before)

    def with_range(self, date_range: DateRange, until: datetime, settings: ReplicationSettings) -> DeliveredDays:
        """Return the delivered days after one more window has been delivered.

        Args:
            date_range: The next window in the order of delivery.
            until: The end of the period that the window delivers, exclusive.
            settings: The settings that determine the days.
        """
        ingested = dict(self.ingested)
        if date_range.processed is not None:
            for day in date_range.window.dates():
                ingested[day] = max(date_range.processed.before, ingested.get(day, date_range.processed.before))
        after = self.close_empty_gap(settings).with_days(date_range, until).close_empty_gap(settings)
        return replace(
            after, ingested={day: instant for day, instant in ingested.items() if after.is_read_again(day, settings)}
        )

    def with_days(self, date_range: DateRange, until: datetime) -> DeliveredDays:
        """Add the days of a window to `before` or `ahead`, without updating `ingested`."""
        window, ahead = date_range.window, self.ahead
        if ahead is not None and (date_range.is_backwards or window.first >= ahead.first):
            return replace(self, ahead=NewestFirstBlock(min(window.first, ahead.first), max(until, ahead.before)))
        if date_range.is_backwards:
            return replace(self, ahead=NewestFirstBlock(window.first, until))
        # `before` must not move back: the windows of the look-back end before it.
        after = replace(self, before=until if self.before is None else max(until, self.before))
        return after.close_gap() if ahead is not None and window.last >= ahead.first - DAY else after

    def close_empty_gap(self, settings: ReplicationSettings) -> DeliveredDays:
        """Merge `ahead` into `before` if the gap between them has no days left to read."""
        return self.close_gap() if self.ahead and self.ahead.first <= settings.first_day(self.before) else self

    def close_gap(self) -> DeliveredDays:
        """Merge `ahead` into `before`."""
        if self.ahead is None:
            return self
        before = self.ahead.before if self.before is None else max(self.before, self.ahead.before)
        return replace(self, before=before, ahead=None)

    def is_read_again(self, day: date, settings: ReplicationSettings) -> bool:
        """Return whether the next run requests a day, provided that the day has started by then."""
        is_ahead = self.ahead is not None and day >= self.ahead.first
        return day >= settings.first_day(self.ahead.before if self.ahead and is_ahead else self.before)


def _newest_first_ranges(first: date, last: date) -> list[DateRange]:
    """Split days into the latest `NEWEST_FIRST_DAYS` and all earlier ones, if any; both are delivered backwards."""
    begin = last - (NEWEST_FIRST_DAYS - 1) * DAY
    if begin <= first:
        return [DateRange(Window(first, last))]
    return [
        DateRange(Window(begin, last), is_backwards=True),
        DateRange(Window(first, begin - DAY), is_backwards=True, is_deferrable=True),
    ]


def settled_until(now: datetime) -> datetime:
    """Return the processing time, in UTC and whole seconds, before which all rows are certain to be exported."""
    return (now.astimezone(UTC) - SETTLING).replace(microsecond=0)


# --- The state --------------------------------------------------------------------------------------------------------


def read_bookmark(state: Mapping[str, Any]) -> DeliveredDays:
    """Read the bookmark of the events stream. An empty one means that nothing has been delivered.

    Args:
        state: The stream's entry in the state.

    Raises:
        ValueError: The bookmark is malformed.
    """
    before, ahead = state.get("replication_key_value"), state.get("ahead")
    ingested: dict[date, datetime] = {}
    for entry in require_type(state.get("ingested") or [], "ingested", list):
        fields = require_type(entry, "an entry of ingested", dict)
        first = parse_day(fields.get("from_date"), "ingested.from_date")
        last = parse_day(fields.get("to_date"), "ingested.to_date")
        ingested |= dict.fromkeys(Window(first, last).dates(), parse_bookmark(fields.get("before"), "ingested.before"))
    block = None
    if ahead is not None:
        fields = require_type(ahead, "ahead", dict)
        first = parse_day(fields.get("from_date"), "ahead.from_date")
        block = NewestFirstBlock(first, parse_bookmark(fields.get("before"), "ahead.before"))
    return DeliveredDays(None if before is None else parse_bookmark(before), block, ingested)


def write_bookmark(state: dict[str, Any], old: DeliveredDays, new: DeliveredDays) -> None:
    """Update the bookmark of the events stream.

    Args:
        state: The stream's entry in the state.
        old: What the bookmark states now.
        new: What the bookmark is to state.
    """
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
    """Return an entry for each group of consecutive days with the same instant."""
    days = sorted(ingested)
    groups = itertools.groupby(enumerate(days), lambda pair: (pair[1].toordinal() - pair[0], ingested[pair[1]]))
    entries = []
    for (_, instant), pairs in groups:
        group = [day for _, day in pairs]
        entries.append(
            {"from_date": group[0].isoformat(), "to_date": group[-1].isoformat(), "before": bookmark_text(instant)}
        )
    return entries


def bookmark_text(instant: datetime) -> str:
    """Format an instant for the state, in whole seconds: `2024-01-16T00:00:00+00:00`.

    Raises:
        ValueError: The instant has no time zone.
    """
    if instant.tzinfo is None:
        raise ValueError("a bookmark needs a time zone")
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def parse_bookmark(value: object, name: str = "replication_key_value") -> datetime:
    """Parse an instant in the state. A time without a zone is taken as UTC.

    Args:
        value: The value in the state.
        name: The name of the entry in the state.

    Returns:
        The instant in UTC.

    Raises:
        ValueError: The value is not an ISO 8601 date-time, or its year is so early or late that a time zone or a
            look-back could move it out of the range of `datetime`.
    """
    try:
        instant = datetime.fromisoformat(require_type(value, name, str))
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
    """Parse a day in the state.

    Args:
        value: The value in the state.
        name: The name of the entry in the state.

    Raises:
        ValueError: The value is not an ISO 8601 date.
    """
    try:
        return date.fromisoformat(require_type(value, name, str))
    except ValueError:
        raise ValueError(f"{name} is {shown(value)}, not a date such as 2024-01-16") from None


def require_type(value: object, name: str, kind: type[T]) -> T:
    """Return a value in the state after checking its type.

    Args:
        value: The value in the state.
        name: The name of the entry in the state.
        kind: The type that the value must have.

    Raises:
        ValueError: The value is of another type.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {shown(value)}, not {_TYPE_NAMES[kind]}")  # noqa: TRY004 - the state is user input
    return value


def shown(value: object) -> str:
    """Return a value in the state as JSON for a message, truncated if it is long."""
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…"
