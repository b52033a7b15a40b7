"""The names of events, and how many of them each day has: what a run may ask of the events that become records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import decode_masked
from .event_time import UnusableTime, stored_day
from .json_objects import NULL, event_name, object_in, read_members, read_string

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Named(msgspec.Struct, gc=False):
    """An event of which the name is looked at."""

    event: msgspec.Raw


_read_names = msgspec.json.Decoder(_Named).decode_lines


@dataclass(frozen=True, slots=True)
class EventTally:
    """Tally events by name and day.

    Attributes:
        names: The names seen; None where nobody asks for them.
        days: Events by day of the stored clock, in days since 1970; None likewise.
    """

    names: set[str] | None = None
    days: dict[int, int] | None = None

    def add(self, block: bytes, times: Iterable[msgspec.Raw]) -> None:
        """Count a block of lines, each of which is an event.

        Args:
            block: the lines.
            times: the events' `time`, null where there is none.
        """
        if self.names is not None:
            self.names.update(read_string(event.event) for event in _read_names(block))
        if self.days is not None:
            for time in times:
                # A raw event may have no time. `contextlib.suppress` would cost more than all the rest.
                try:
                    day = stored_day(bytes(time))
                except UnusableTime:
                    continue
                self.days[day] = self.days.get(day, 0) + 1

    def add_line(self, line: bytes) -> None:
        """Count one event, without its name where no text can hold it: with half a surrogate pair."""
        members, restore = decode_masked(read_members, line)
        name = bytes(event_name(members))
        is_text = restore is None or restore(name) == name
        block = b'{"event":%b}' % name if is_text else b""
        self.add(block, [object_in(members, "properties").get("time", NULL)])
