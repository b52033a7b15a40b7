"""Mixpanel's own counts of events, by name and day.

Mixpanel's docs: `events` returns the number of events on each day for the given names. `events/names` lists up to 255
of the most common names of the last 31 days. Both require a paid plan. Days are in the project's time zone. Events with
the same name, `distinct_id`, `time` and `$insert_id` count once.
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

MAX_NAMES = 255
"""Maximum number of names that `events/names` lists."""

MAX_NAMES_BYTES = 6000
"""Maximum length of the names in a URL, in bytes. Servers commonly accept URLs of up to 8 KiB."""


@dataclass(frozen=True, slots=True)
class EventCount:
    """The number of events with one name on one day.

    Attributes:
        day: The day, in the project's time zone.
        name: The JSON text of the event name.
        count: The number of events.
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
    """Fetch the most common event names of the last 31 days, without names that have an unpaired surrogate.

    Args:
        client: The API client.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response is incomplete, or is not a list of names.
        MixpanelError: As `Client.open`.
    """
    request = Request(
        what="event_counts, event names",
        api="query",
        path="events/names",
        params={"type": "general", "limit": str(MAX_NAMES)},
    )
    return fetch(client, request, retrying, _names)


def _names(body: bytearray) -> list[str]:
    names, text_of = decode(body, list[msgspec.Raw])
    # The texts differ if an unpaired surrogate was masked.
    return [msgspec.json.decode(name, type=str) for name in names if text_of(name) == bytes(name)]


def name_batches(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield the names in as few batches as fit into URLs."""
    batch: list[str] = []
    size = 0
    for name in names:
        name_size = len(quote_plus(json.dumps(name) + ", "))
        if batch and size + name_size > MAX_NAMES_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += name_size
    if batch:
        yield batch


def count_events(
    client: Client,
    names: Sequence[str],
    first: date,
    last: date,
    retrying: Retrying,
    *,
    source_settings: tuple[str, ...] = (),
) -> JsonResponse[list[EventCount]]:
    """Fetch the number of events for each name and day, omitting zeros.

    Args:
        client: The API client.
        names: A batch from `name_batches`.
        first: The first day.
        last: The last day.
        retrying: The retry loop.
        source_settings: As in `Request`.

    Raises:
        BrokenBody: The response is incomplete, lacks days or names, or has some that were not requested.
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
        source_settings=source_settings,
    )
    return fetch(client, request, retrying, lambda body: _counts(body, names, first, last))


def _counts(body: bytearray, names: Sequence[str], first: date, last: date) -> list[EventCount]:
    response, text_of = decode(body, _Counts)
    days = {str(day): day for day in (first + timedelta(number) for number in range((last - first).days + 1))}
    # `series` includes days without events: a published response lists such a day.
    if missing := days.keys() - set(response.data.series):
        raise WrongShapeError(f"{len(missing)} of {len(days)} days are missing, the first is {min(missing)}")
    if response.legend_size not in {None, len(response.data.values)}:
        raise WrongShapeError(f"it has {len(response.data.values)} of {response.legend_size} names")
    counts = []
    for name, count_by_day in response.data.values.items():
        # `text_of` restores an unpaired surrogate that was masked.
        json_name = text_of(msgspec.Raw(json.dumps(name, ensure_ascii=False).encode()))
        if json.loads(json_name) not in names:
            raise WrongShapeError("it has counts of an event that was not requested")
        for day, count in count_by_day.items():
            if day not in days:
                raise WrongShapeError(f"it has a number for {day!r}, which is not among the days requested")
            if count:
                counts.append(EventCount(days[day], json_name, count))
    return counts
