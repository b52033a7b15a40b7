"""Collect the names of the delivered events and count them by day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import decode_masked
from .event_time import UnusableTime, stored_day
from .json_objects import NULL, event_name, object_in, read_members, read_string

if TYPE_CHECKING:
    from collections.abc import Iterable


class _NamedEvent(msgspec.Struct, gc=False):
    """An event of which only the name is read."""

    event: msgspec.Raw


_read_names = msgspec.json.Decoder(_NamedEvent).decode_lines


@dataclass(frozen=True, slots=True)
class EventTally:
    """The names of events, and the number of events by day.

    Attributes:
        names: The event names; None to collect no names.
        days: The number of events by day of the stored `time`, in days since 1970; None to count no days.
    """

    names: set[str] | None = None
    days: dict[int, int] | None = None

    def add(self, block: bytes, times: Iterable[msgspec.Raw]) -> None:
        """Add a block of lines.

        Args:
            block: Lines, each of which is an event.
            times: The `time` of each event; null for an event without it.
        """
        if self.names is not None:
            self.names.update(read_string(event.event) for event in _read_names(block))
        if self.days is not None:
            for time in times:
                # A raw event may lack a time. `contextlib.suppress` would cost more than the rest of the loop.
                try:
                    day = stored_day(bytes(time))
                except UnusableTime:
                    continue
                self.days[day] = self.days.get(day, 0) + 1

    def add_line(self, line: bytes) -> None:
        """Add one event. A name with an unpaired surrogate is not collected, since it is not valid text."""
        members, restore = decode_masked(read_members, line)
        name = bytes(event_name(members))
        is_text = restore is None or restore(name) == name
        block = b'{"event":%b}' % name if is_text else b""
        self.add(block, [object_in(members, "properties").get("time", NULL)])
