"""The names of events, and how many of them each day has: counted in lines, whatever their records look like."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import msgspec

from .event_time import UnusableTime, stored_day
from .members import NULL, event_name, object_in, read_members, read_string


class _Time(msgspec.Struct, gc=False):
    """The properties, but for the time stepped over."""

    time: msgspec.Raw = NULL


class _Event(msgspec.Struct, gc=False):
    """What is counted of an event."""

    event: str
    properties: _Time


_read_events = msgspec.json.Decoder(_Event).decode_lines


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Counts events.

    Attributes:
        names: The names seen; None where nobody asks for them.
        days: Events by day of the stored clock, in days since 1970; None likewise.
    """

    names: set[str] | None = None
    days: dict[int, int] | None = None

    def add(self, block: bytes) -> None:
        """Count a block of lines, each of which is an event."""
        try:
            events = _read_events(block)
        except msgspec.DecodeError:
            for line in block[:-1].split(b"\n"):
                self.add_line(line)
            return
        for event in events:
            self._count(event.event, event.properties.time)

    def add_line(self, line: bytes) -> None:
        """Count one event."""
        members = read_members(line)
        time = object_in(members, "properties").get("time", NULL)
        self._count(read_string(event_name(members)), time)

    def _count(self, name: str, time: msgspec.Raw) -> None:
        if self.names is not None:
            self.names.add(name)
        if self.days is not None:
            with contextlib.suppress(UnusableTime):  # a raw event may lack it
                day = stored_day(bytes(time))
                self.days[day] = self.days.get(day, 0) + 1
