"""The raw shapes: an event, or a profile, as it came."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from .events import BLANK, Converted, EventConverter
from .json_objects import NULL, Members, NotARecord, encode, event_name, is_string, object_in, read_members
from .profiles import ProfileConverter
from .schemas import OPEN_OBJECT, STRING, STRING_OR_INTEGER, record_schema


class _AnyObject(msgspec.Struct, gc=False):
    """An object whose members are stepped over."""


class _Event(msgspec.Struct, gc=False):
    """The least that makes a line an event."""

    event: str
    properties: _AnyObject | None = None


class _Timed(msgspec.Struct, gc=False):
    """An object of which one member is looked at."""

    time: msgspec.Raw = NULL


class _TimedEvent(msgspec.Struct, gc=False):
    """An event of which the time is looked at."""

    event: str
    properties: _Timed | None = None


class _Profile(msgspec.Struct, gc=False, rename={"distinct_id": "$distinct_id", "properties": "$properties"}):
    """The least that makes a result a profile."""

    distinct_id: str | int
    properties: _AnyObject | None = None


_read_events = msgspec.json.Decoder(_Event).decode_lines
_read_timed_events = msgspec.json.Decoder(_TimedEvent).decode_lines
_check_profile = msgspec.json.Decoder(_Profile).decode


class RawEvents(EventConverter):
    """Checks each line, and leaves it as it is. See `EventConverter`."""

    key_properties: ClassVar[tuple[str, ...]] = ()
    schema: ClassVar[dict[str, Any]] = record_schema((), {"event": STRING, "properties": OPEN_OBJECT})

    columns: ClassVar[tuple[str, ...]] = tuple(schema["properties"])

    def _convert_block(self, block: bytes) -> Converted:
        times: list[msgspec.Raw] = []
        if self._counts:
            events = _read_timed_events(block)
            times = [event.properties.time if event.properties else NULL for event in events]
            count = len(events)
        else:
            count = len(_read_events(block))
        if self._left_out:
            lines = block[:-1].split(b"\n")
            block = b"".join(_without(self._left_out, read_members(line)) + b"\n" for line in lines)
        return Converted(count, block, times)

    def _convert_event(self, line: bytes) -> bytes:
        members = read_members(line)
        event_name(members)
        object_in(members, "properties")
        return _without(self._left_out, members) if self._left_out else line.strip(BLANK)


class RawProfiles(ProfileConverter):
    """Checks each result, and leaves it as it is. See `ProfileConverter`."""

    key_properties: ClassVar[tuple[str, ...]] = ("$distinct_id",)
    schema: ClassVar[dict[str, Any]] = record_schema(
        key_properties, {"$distinct_id": STRING_OR_INTEGER, "$properties": OPEN_OBJECT}
    )
    columns: ClassVar[tuple[str, ...]] = tuple(schema["properties"])

    def _record(self, result: bytes) -> bytes:
        try:
            _check_profile(result)
        except msgspec.DecodeError:
            # It may be a profile all the same: where a key came twice, the last counts.
            members = read_members(result)
            key = members.get("$distinct_id", NULL)
            if not is_string(key) and not bytes(key).removeprefix(b"-").isdigit():
                raise NotARecord("`$distinct_id` is no string and no integer") from None
            object_in(members, "$properties")
        return _without(self._left_out, read_members(result)) if self._left_out else result.strip()


def _without(left_out: frozenset[str], members: Members) -> bytes:
    return encode({key: value for key, value in members.items() if key not in left_out})
