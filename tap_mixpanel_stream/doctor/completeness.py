"""Whether the days that the doctor exports have as many events as Mixpanel counts on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..delivery.spool import Spool
from ..mixpanel.event_counts import count_events, list_event_names, name_batches
from ..surrogates import decode_masked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from ..mixpanel.client import Client
    from ..mixpanel.retry import Retrying

TOLERANCE = 0.01
"""The share of Mixpanel's count by which an export may differ from it: events arrive between two requests."""

_NULL = msgspec.Raw(b"null")
_EMPTY = msgspec.Raw(b'""')


class _RawProperties(msgspec.Struct, rename={"insert_id": "$insert_id"}, gc=False):
    distinct_id: msgspec.Raw = _NULL
    time: msgspec.Raw = _NULL
    insert_id: msgspec.Raw = _NULL


class _Event(msgspec.Struct, gc=False):
    """An event in either shape."""

    event_name: msgspec.Raw = _NULL
    event_time: msgspec.Raw = _NULL
    distinct_id: msgspec.Raw = _NULL
    insert_id: msgspec.Raw = _NULL
    event: msgspec.Raw = _NULL
    properties: msgspec.Raw = _NULL


class _Message(msgspec.Struct, gc=False):
    record: _Event


_read_messages = msgspec.json.Decoder(_Message).decode_lines
_read_properties = msgspec.json.Decoder(_RawProperties).decode


class DistinctEvents(Spool):
    """A spool that keeps nothing but the size, the names and a hash of what identifies an event.

    Mixpanel counts events that are equal in name, `distinct_id`, time and `$insert_id` once. Events without
    `$insert_id` are identified by all their properties.

    Args:
        raw: Whether the records are raw.
    """

    def __init__(self, *, raw: bool) -> None:
        super().__init__()
        self._raw = raw
        self._names: set[bytes] = set()
        self._hashes: set[int] = set()

    @property
    def count(self) -> int:
        """The number of different events."""
        return len(self._hashes)

    @property
    def names(self) -> set[str]:
        """The names of the events."""
        return {json.loads(name) for name in self._names}

    def write(self, lines: bytes) -> None:
        """Look at whole lines, each a RECORD message."""
        self.size += len(lines)
        messages, restore = decode_masked(_read_messages, lines)
        for message in messages:
            event = message.record
            name, key = bytes(event.event_name), [event.distinct_id, event.event_time, event.insert_id]
            if self._raw:
                own = _RawProperties() if bytes(event.properties) == b"null" else _read_properties(event.properties)
                name, key = bytes(event.event), [own.distinct_id, own.time, own.insert_id]
                if bytes(own.insert_id) in {bytes(_NULL), bytes(_EMPTY)}:
                    key.append(event.properties)
            # No text can hold a name with half a surrogate pair.
            if restore is None or restore(name) == name:
                self._names.add(name)
            self._hashes.add(hash((name, *map(bytes, key))))


@dataclass(frozen=True, slots=True)
class DayCount:
    """What the export and Mixpanel's own count say of a day.

    Attributes:
        day: The day.
        exported: How many different events the export has.
        counted: How many Mixpanel counts.
    """

    day: date
    exported: int
    counted: int

    @property
    def agrees(self) -> bool:
        """Whether the two numbers are equal, give or take a few."""
        return abs(self.exported - self.counted) <= TOLERANCE * self.counted

    def __str__(self) -> str:
        return f"{self.day} ({self.exported:,} of {self.counted:,})"


def count_days(
    client: Client, exported: Mapping[date, DistinctEvents], event_names: Sequence[str], retrying: Retrying
) -> list[DayCount]:
    """Ask Mixpanel how many events it counts on days that were exported.

    Args:
        client: The client.
        exported: What the export of each day has.
        event_names: The names that narrow the export; empty for all.
        retrying: The retry loop.

    Raises:
        MixpanelError: As `Client.open`.
    """
    names = set(event_names)
    if not names:
        names = set(list_event_names(client, retrying).content).union(*(each.names for each in exported.values()))
    batches = list(name_batches(sorted(names)))
    source_settings = ("event_names",) if event_names else ()

    def count(day: date) -> int:
        responses = (
            count_events(client, batch, day, day, retrying, source_settings=source_settings) for batch in batches
        )
        return sum(each.count for response in responses for each in response.content)

    return [DayCount(day, events.count, count(day)) for day, events in exported.items()]
