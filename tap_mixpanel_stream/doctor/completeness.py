"""Compare the number of exported events with Mixpanel's own counts."""

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
"""The fraction of Mixpanel's count by which an export may differ, since events arrive between the two requests."""

_NULL = msgspec.Raw(b"null")
_EMPTY = msgspec.Raw(b'""')


class _RawProperties(msgspec.Struct, rename={"insert_id": "$insert_id"}, gc=False):
    distinct_id: msgspec.Raw = _NULL
    time: msgspec.Raw = _NULL
    insert_id: msgspec.Raw = _NULL


class _Event(msgspec.Struct, gc=False):
    """A record of the events stream, normalized or raw."""

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
    """A spool that discards the lines and keeps their size, the event names, and a hash of each distinct event.

    Mixpanel counts events with the same name, `distinct_id`, time and `$insert_id` once. Events without `$insert_id`
    are identified by all of their properties.

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
        """The number of distinct events."""
        return len(self._hashes)

    @property
    def names(self) -> set[str]:
        """The names of the events."""
        return {json.loads(name) for name in self._names}

    def write(self, lines: bytes) -> None:
        """Add whole lines, each a RECORD message."""
        self.size += len(lines)
        messages, restore = decode_masked(_read_messages, lines)
        for message in messages:
            event = message.record
            name, key = bytes(event.event_name), [event.distinct_id, event.event_time, event.insert_id]
            if self._raw:
                properties = (
                    _RawProperties() if bytes(event.properties) == b"null" else _read_properties(event.properties)
                )
                name, key = bytes(event.event), [properties.distinct_id, properties.time, properties.insert_id]
                if bytes(properties.insert_id) in {bytes(_NULL), bytes(_EMPTY)}:
                    key.append(event.properties)
            # A name with an unpaired surrogate is not valid text.
            if restore is None or restore(name) == name:
                self._names.add(name)
            self._hashes.add(hash((name, *map(bytes, key))))


@dataclass(frozen=True, slots=True)
class DayCount:
    """The number of events on a day, in the export and in Mixpanel's own count.

    Attributes:
        day: The day.
        exported: The number of distinct events in the export.
        counted: Mixpanel's count.
    """

    day: date
    exported: int
    counted: int

    @property
    def agrees(self) -> bool:
        """Whether the two numbers are equal within `TOLERANCE`."""
        return abs(self.exported - self.counted) <= TOLERANCE * self.counted

    def __str__(self) -> str:
        return f"{self.day} ({self.exported:,} of {self.counted:,})"


def count_days(
    client: Client, exported: Mapping[date, DistinctEvents], event_names: Sequence[str], retrying: Retrying
) -> list[DayCount]:
    """Fetch Mixpanel's counts of the events on exported days.

    Args:
        client: The API client.
        exported: The exported events of each day.
        event_names: The names in the setting `event_names`; empty for all.
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
