"""Asking for a window of events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .query import Query

if TYPE_CHECKING:
    from .windows import Window


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What narrows an export; Mixpanel does the narrowing.

    Attributes:
        event_names: Only these events; all of them if empty.
        events_where: A Mixpanel expression.
        time_in_ms: Ask for `time` in milliseconds instead of seconds.
        limit: Events at the most, 1 to 100000. There is no way to ask for the rest.
    """

    event_names: tuple[str, ...] = ()
    events_where: str | None = None
    time_in_ms: bool = False
    limit: int | None = None


def export_query(window: Window, options: ExportOptions | None = None) -> Query:
    """The request for a window's events: one JSON object a line, in no order that is documented."""
    options = options or ExportOptions()
    params = {"from_date": window.first.isoformat(), "to_date": window.last.isoformat()}
    if options.event_names:
        params["event"] = json.dumps(options.event_names)
    if options.events_where:
        params["where"] = options.events_where
    if options.time_in_ms:
        params["time_in_ms"] = "true"
    if options.limit is not None:
        params["limit"] = str(options.limit)
    return Query(what=f"events {window}", api="data", path="export", params=params)
