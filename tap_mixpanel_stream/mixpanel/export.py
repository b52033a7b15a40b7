"""Requests to the raw export, for the events of a date range."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .request import Request, days_text

if TYPE_CHECKING:
    from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class ProcessingTimeFilter:
    """Selects rows by the time at which Mixpanel processed them. Also selects rows without that time.

    Mixpanel's docs: filter by `mp_processing_time_ms` (UTC in milliseconds) to find late events, whatever their `time`.

    Attributes:
        since: The start of the period, inclusive; None for no start.
        before: The end of the period, exclusive.
    """

    since: datetime | None
    before: datetime

    @property
    def where(self) -> str:
        """The filter as a Mixpanel expression. A comparison with a missing property is false (Mixpanel's docs)."""
        name = 'properties["mp_processing_time_ms"]'
        bounds = f"{name} < {_in_ms(self.before)}"
        if self.since is not None:
            bounds = f"{name} >= {_in_ms(self.since)} and {bounds}"
        return f"({bounds}) or not defined({name})"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The filters and the format of an export, which Mixpanel applies.

    Attributes:
        event_names: The events to export; empty for all.
        events_where: A Mixpanel expression.
        time_in_ms: Whether to request `time` in milliseconds instead of seconds.
        limit: The maximum number of events, 1 to 100000. The rest cannot be requested.
        processed: The processing times to export; None for all.
    """

    event_names: tuple[str, ...] = ()
    events_where: str | None = None
    time_in_ms: bool = False
    limit: int | None = None
    processed: ProcessingTimeFilter | None = None

    @property
    def where(self) -> str | None:
        """All filters as one Mixpanel expression; None if there are no filters."""
        if self.processed is None:
            return self.events_where
        if not self.events_where:
            return self.processed.where
        return f"({self.events_where}) and ({self.processed.where})"


def export_request(
    first: date, last: date, options: ExportOptions | None = None, *, reserve_seconds: float = 0.0
) -> Request:
    """Return the request for the events of a date range.

    The response has one JSON object per line, in no documented order.

    Args:
        first: The first day.
        last: The last day.
        options: The filters and the format.
        reserve_seconds: As in `Request`.
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
        source_settings=tuple(name for name in ("event_names", "events_where") if getattr(options, name)),
        reserve_seconds=reserve_seconds,
    )


def _in_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
