"""The events' bookmark: what is delivered, as the state holds it.

    {"replication_key": "event_time", "replication_key_value": "2024-01-20T08:00:00+00:00",
     "ahead": {"from_date": "2024-05-11", "before": "2024-06-10T08:00:00+00:00"},
     "ingested": [{"from_date": "2024-01-15", "to_date": "2024-01-20", "before": "2024-01-20T08:00:00+00:00"}]}

Everything before `replication_key_value` is delivered; without it, nothing. `ahead` is there while a back-fill goes
newest first: beyond a gap, everything from the day `from_date` on and before `before` is delivered too. `ingested` is
there once a run went by ingestion time: of the days from `from_date` to `to_date`, all rows that Mixpanel processed
before `before` are delivered.

Who knows the first of them only, as version 0.1.0 does, reads some days twice and misses none.
"""

from __future__ import annotations

import itertools
from datetime import date
from typing import TYPE_CHECKING, Any

from .state import DeliveredDays, NewestFirstBlock, days_of
from .windows import Window, bookmark_text, parse_bookmark

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def read_bookmark(state: Mapping[str, Any]) -> DeliveredDays:
    """Read a stream's part of the state; what is not there is not delivered.

    Raises:
        ValueError: It holds something else.
        TypeError: Likewise.
        KeyError: Likewise.
    """
    before, ahead = state.get("replication_key_value"), state.get("ahead")
    ingested: dict[date, datetime] = {}
    for entry in state.get("ingested") or ():
        days = Window(date.fromisoformat(entry["from_date"]), date.fromisoformat(entry["to_date"]))
        ingested |= dict.fromkeys(days_of(days), parse_bookmark(entry["before"]))
    return DeliveredDays(
        None if before is None else parse_bookmark(before),
        None
        if ahead is None
        else NewestFirstBlock(date.fromisoformat(ahead["from_date"]), parse_bookmark(ahead["before"])),
        ingested,
    )


def write_bookmark(state: dict[str, Any], old: DeliveredDays, new: DeliveredDays) -> None:
    """Write what has changed into a stream's part of the state."""
    state["replication_key"] = "event_time"
    if new.before is not None and new.before != old.before:
        state["replication_key_value"] = bookmark_text(new.before)
    for name in ("ahead", "ingested"):
        state.pop(name, None)
    if new.ahead is not None:
        state["ahead"] = {"from_date": new.ahead.first.isoformat(), "before": bookmark_text(new.ahead.before)}
    if new.ingested:
        state["ingested"] = _as_ranges(new.ingested)


def _as_ranges(ingested: Mapping[date, datetime]) -> list[dict[str, str]]:
    """Days in a row that share an instant as one entry."""
    days = sorted(ingested)
    in_a_row = itertools.groupby(enumerate(days), lambda pair: (pair[1].toordinal() - pair[0], ingested[pair[1]]))
    ranges = []
    for (_, instant), pairs in in_a_row:
        run = [day for _, day in pairs]
        ranges.append(
            {"from_date": run[0].isoformat(), "to_date": run[-1].isoformat(), "before": bookmark_text(instant)}
        )
    return ranges
