"""The raw shapes: an event, or a profile, as it came."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from .body import BLANK, EventBody
from .event_time import MILLISECONDS_FROM, QUARTER, UnusableTime, quarter_of
from .members import (
    NULL,
    Members,
    NotARecord,
    event_text,
    joined,
    object_text,
    read_members,
    read_string,
    value_of,
)
from .profile_page import ProfilePage
from .schemas import OPEN_OBJECT, STRING, STRING_OR_INTEGER, record_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    from .envelope import Envelope
    from .errors import BadLine


class _AnyObject(msgspec.Struct, gc=False):
    """An object whose members are stepped over."""


class _Event(msgspec.Struct, gc=False):
    """The least that makes a line an event."""

    event: str
    properties: _AnyObject | None = None


class _Timed(msgspec.Struct, gc=False):
    """An object of which one member is looked at."""

    time: int | float = 0


class _TimedEvent(msgspec.Struct, gc=False):
    """An event of which the time is looked at."""

    event: str
    properties: _Timed | None = None


class _Profile(msgspec.Struct, gc=False, rename={"distinct_id": "$distinct_id", "properties": "$properties"}):
    """The least that makes a result a profile."""

    distinct_id: str | int
    properties: _AnyObject | None = None


_read_profile = msgspec.json.Decoder(_Profile).decode
_OPENING_BRACE, _CLOSING_BRACE = b"{}"
_read_events = msgspec.json.Decoder(_Event).decode_lines
_read_timed_events = msgspec.json.Decoder(_TimedEvent).decode_lines


class RawEvents(EventBody):
    """Puts each line of a body into an envelope. See `EventBody`.

    Args:
        dropped: top-level keys to leave out; where there are any, each line is rebuilt from its members.
    """

    def __init__(
        self, *, envelope: Envelope, dropped: frozenset[str], strip_nul: bool, on_bad_line: Callable[[BadLine], None]
    ) -> None:
        super().__init__(envelope=envelope, strip_nul=strip_nul, on_bad_line=on_bad_line)
        self._dropped = dropped

    def _convert_block(self, block: bytes) -> bytes:
        """Wrap all lines at once where each of them is exactly one event; else go line by line.

        The decoder takes the block for a run of JSON texts, which could span lines, or share one. They do neither if
        they are as many as the lines, and each line starts with `{` and ends with `}`: no JSON text has a newline
        between `}` and `{`, since inside of one a comma must come between. So each newline divides two events, each
        line has one at least, and with as many events as lines none has two.
        """
        events: Sequence[_Event | _TimedEvent] = ()
        if not self._dropped:
            with contextlib.suppress(msgspec.DecodeError, RecursionError):
                events = (_read_events if self.quarters is None else _read_timed_events)(block)
        if not events or not _divided_by_newlines(block, len(events)):
            return self._convert_lines(block)
        self.lines += len(events)
        self.records += len(events)
        if self.names is not None:
            self.names.update([event.event for event in events])
        if self.quarters is not None:
            times = [event.properties.time for event in events if isinstance(event.properties, _Timed)]
            self.quarters.update([_quarter_of(time) for time in times])
        head, tail = self._envelope.head, self._envelope.tail
        return b"".join((head, block[:-1].replace(b"\n", tail + head), tail))

    def _record(self, line: bytes) -> bytes:
        members = read_members(line)
        event = event_text(members)
        properties = object_text(members, "properties")
        if self.names is not None:
            self.names.add(read_string(event))
        if self.quarters is not None:
            with contextlib.suppress(UnusableTime):
                self.quarters[quarter_of(bytes(read_members(properties).get("time", NULL)))] += 1
        return _without(members, self._dropped) if self._dropped else line.strip(BLANK)


class RawProfiles(ProfilePage):
    """Puts each result of a page into an envelope. See `ProfilePage`.

    Args:
        dropped: top-level keys to leave out.
    """

    def __init__(self, *, envelope: Envelope, dropped: frozenset[str], strip_nul: bool) -> None:
        super().__init__(envelope=envelope, strip_nul=strip_nul)
        self._dropped = dropped

    def _record(self, result: bytes) -> bytes:
        if not self._dropped and _is_profile(result):
            return result.strip()
        members = read_members(result)
        key = value_of(members, "$distinct_id")
        if not key.startswith(b'"') and not key.removeprefix(b"-").isdigit():
            raise NotARecord("`$distinct_id` is no string and no integer")
        object_text(members, "$properties")
        return _without(members, self._dropped) if self._dropped else result.strip()


def _quarter_of(time: float) -> int:
    return int(time // (QUARTER if abs(time) < MILLISECONDS_FROM else 1000 * QUARTER))


def _is_profile(result: bytes) -> bool:
    """Whether the quick reader takes it; what it refuses may be a profile still, where a key came twice."""
    try:
        _read_profile(result)
    except msgspec.DecodeError:
        return False
    return True


def _divided_by_newlines(block: bytes, lines: int) -> bool:
    """Whether `block` is so many lines, each of them starting with `{` and ending with `}`."""
    find = block.find
    last = len(block) - 1
    if block[0] != _OPENING_BRACE or block[last - 1] != _CLOSING_BRACE:
        return False
    newline = find(b"\n")
    while newline < last:
        if block[newline - 1] != _CLOSING_BRACE or block[newline + 1] != _OPENING_BRACE:
            return False
        lines -= 1
        newline = find(b"\n", newline + 1)
    return lines == 1


def _without(members: Members, dropped: frozenset[str]) -> bytes:
    return joined({key: value for key, value in members.items() if key not in dropped})


@dataclass(frozen=True, slots=True)
class RawEventShape:
    """An event as it came. See `shapes.EventShape`."""

    schema: dict[str, Any]
    key_properties: tuple[str, ...]
    columns: tuple[str, ...]

    def converter(
        self,
        *,
        envelope: Envelope,
        selected: frozenset[str] | None = None,
        zone: ZoneInfo | None = None,  # noqa: ARG002  # A raw record's time is not looked at.
        strip_nul: bool = False,
        on_bad_line: Callable[[BadLine], None],
    ) -> RawEvents:
        """Make the converter of one body."""
        dropped = frozenset() if selected is None else frozenset(self.columns) - selected
        return RawEvents(envelope=envelope, dropped=dropped, strip_nul=strip_nul, on_bad_line=on_bad_line)


@dataclass(frozen=True, slots=True)
class RawProfileShape:
    """A profile as it came. See `shapes.ProfileShape`."""

    schema: dict[str, Any]
    key_properties: tuple[str, ...]
    columns: tuple[str, ...]
    needs: tuple[str, ...]

    def converter(
        self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False
    ) -> RawProfiles:
        """Make the converter of a stream's profiles."""
        dropped = frozenset() if selected is None else frozenset(self.columns) - selected
        return RawProfiles(envelope=envelope, dropped=dropped, strip_nul=strip_nul)


_EVENT_COLUMNS = {"event": STRING, "properties": OPEN_OBJECT}
_PROFILE_COLUMNS = {"$distinct_id": STRING_OR_INTEGER, "$properties": OPEN_OBJECT}

EVENTS = RawEventShape(record_schema((), _EVENT_COLUMNS), (), tuple(_EVENT_COLUMNS))
PROFILES = RawProfileShape(
    record_schema(("$distinct_id",), _PROFILE_COLUMNS), ("$distinct_id",), tuple(_PROFILE_COLUMNS), needs=()
)
