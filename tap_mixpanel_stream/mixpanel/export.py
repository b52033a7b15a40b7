"""Asking for a window of events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .request import Request, days_text

if TYPE_CHECKING:
    from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class ProcessingTimeFilter:
    """Rows by the instant at which Mixpanel processed them, and all rows that do not tell it.

    Mixpanel's docs: `mp_processing_time_ms`, UTC in milliseconds, is what finds late events, whatever their own time.

    Attributes:
        since: Rows processed at this instant or later; None for no such bound.
        before: Rows processed earlier than this.
    """

    since: datetime | None
    before: datetime

    @property
    def where(self) -> str:
        """The same as a Mixpanel expression. A row without the property compares as undefined, thus false (docs)."""
        name = 'properties["mp_processing_time_ms"]'
        bounds = f"{name} < {_in_ms(self.before)}"
        if self.since is not None:
            bounds = f"{name} >= {_in_ms(self.since)} and {bounds}"
        return f"({bounds}) or not defined({name})"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What narrows an export; Mixpanel does the narrowing.

    Attributes:
        event_names: Only these events; all of them if empty.
        events_where: A Mixpanel expression.
        time_in_ms: Ask for `time` in milliseconds instead of seconds.
        limit: Events at the most, 1 to 100000. There is no way to ask for the rest.
        processed: Only rows that Mixpanel processed then.
    """

    event_names: tuple[str, ...] = ()
    events_where: str | None = None
    time_in_ms: bool = False
    limit: int | None = None
    processed: ProcessingTimeFilter | None = None

    @property
    def where(self) -> str | None:
        """All that is asked of a row, as one expression."""
        if self.processed is None:
            return self.events_where
        if not self.events_where:
            return self.processed.where
        return f"({self.events_where}) and ({self.processed.where})"


def export_request(
    first: date, last: date, options: ExportOptions | None = None, *, reserve_seconds: float = 0.0
) -> Request:
    """Build the request for the events of some days: one JSON object a line, in no documented order.

    Args:
        first: The first day.
        last: The last day.
        options: Filters and format.
        reserve_seconds: Seconds of waiting for quota that it leaves to the requests after it.
    """
    options = options or ExportOptions()
    params = {"from_date": first.isoformat(), "to_date": last.isoformat()}
    if options.event_names:
        params["event"] = json.dumps(options.event_names)
    if where := options.where:
        params["where"] = where
    if options.time_in_ms:
        params["time_in_ms"] = "true"
    if options.limit is not None:
        params["limit"] = str(options.limit)
    return Request(
        what=f"events {days_text(first, last)}",
        api="data",
        path="export",
        params=params,
        narrowed_by=tuple(name for name in ("event_names", "events_where") if getattr(options, name)),
        reserve_seconds=reserve_seconds,
    )


def _in_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
