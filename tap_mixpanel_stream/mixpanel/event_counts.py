"""Mixpanel's own numbers of events, by name and day.

Mixpanel's docs: `events` counts the events that it is given by name, day by day; `events/names` lists the most common
names of the last 31 days, 255 at most. Both need a paid plan. A day is one of the project's. What is equal in name,
`distinct_id`, `time` and `$insert_id` counts once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import msgspec

from .json_response import WrongShapeError, decode, fetch
from .request import Request, days_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .client import Client
    from .json_response import JsonResponse
    from .retry import Retrying

MOST_NAMES = 255
"""Names that `events/names` lists at most."""

LONGEST_NAMES = 6000
"""Bytes that the names may take in a URL. Servers commonly take URLs of up to 8 KiB."""


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events of one name a day has.

    Attributes:
        day: The day, in the project's time zone.
        name: The JSON text of the events' name.
        count: How many there are.
    """

    day: date
    name: bytes
    count: int


class _Data(msgspec.Struct):
    series: list[str]
    values: dict[str, dict[str, int]]


class _Counts(msgspec.Struct):
    data: _Data
    legend_size: int | None = None


def list_event_names(client: Client, retrying: Retrying) -> JsonResponse[list[str]]:
    """Fetch the most common names of the last 31 days, without those that no text can hold.

    Args:
        client: The client.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response did not arrive whole, or is no list of names.
        MixpanelError: As `Client.open`.
    """
    request = Request(
        what="event_counts, the names of events",
        api="query",
        path="events/names",
        params={"type": "general", "limit": str(MOST_NAMES)},
    )
    return fetch(client, request, retrying, _names)


def _names(body: bytearray) -> list[str]:
    names, text = decode(body, list[msgspec.Raw])
    # The text differs where half a surrogate pair was masked.
    return [msgspec.json.decode(name, type=str) for name in names if text(name) == bytes(name)]


def name_batches(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the names in as few batches as fit into URLs."""
    batch: list[str] = []
    size = 0
    for name in names:
        own = len(quote_plus(json.dumps(name) + ", "))
        if batch and size + own > LONGEST_NAMES:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += own
    if batch:
        yield batch


def count_events(
    client: Client, names: Sequence[str], first: date, last: date, retrying: Retrying
) -> JsonResponse[list[EventCount]]:
    """Fetch the numbers of events with these names on each day. A day without any has none.

    Args:
        client: The client.
        names: One of `name_batches`.
        first: The first day.
        last: The last day.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response did not arrive whole, lacks days or names, or has days that were not requested.
        MixpanelError: As `Client.open`.
    """
    request = Request(
        what=f"event_counts {days_text(first, last)}",
        api="query",
        path="events",
        params={
            "event": json.dumps(names),
            "type": "general",
            "unit": "day",
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
        },
        narrowed_by=("event_names", "start_date", "end_date"),
    )
    return fetch(client, request, retrying, lambda body: _counts(body, first, last))


def _counts(body: bytearray, first: date, last: date) -> list[EventCount]:
    response, text = decode(body, _Counts)
    days = {str(day): day for day in (first + timedelta(number) for number in range((last - first).days + 1))}
    # A response seen in public lists its day in `series` although no event has any: days without events are listed.
    if missing := days.keys() - set(response.data.series):
        raise WrongShapeError(f"{len(missing)} of {len(days)} days are missing, the first is {min(missing)}")
    if response.legend_size not in {None, len(response.data.values)}:
        raise WrongShapeError(f"it has {len(response.data.values)} of {response.legend_size} names")
    counts = []
    for name, count_by_day in response.data.values.items():
        # A name with half a surrogate pair was masked.
        known = text(msgspec.Raw(json.dumps(name, ensure_ascii=False).encode()))
        for day, count in count_by_day.items():
            if day not in days:
                raise WrongShapeError(f"it has a number for {day!r}, which is not among the days requested")
            counts.append(EventCount(days[day], known, count))
    return counts
