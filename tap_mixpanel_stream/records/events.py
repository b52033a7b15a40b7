"""Convert a block of event lines to a block of records: the hot path.

    {"event":"Sign Up","properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"i1","$city":"Zürich"}}

becomes

    {"event_name":"Sign Up","event_time":"2024-01-15T14:20:00+00:00","distinct_id":"u1","insert_id":"i1",
     "properties":{"$city":"Zürich"}}

The decoder reads a block of lines into `_Event`s. It validates the JSON of every value and keeps the value's bytes
(`msgspec.Raw`). `_records` removes the keys that become columns from the properties. The encoder writes the records: it
may escape keys differently, but copies values unchanged. No Python code runs for a property that is not a column.

Raw events are validated and copied unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING

import msgspec

from .event_time import instant_text
from .insert_id import stable_insert_id
from .json_lines import BLANK, ConvertedBlock, LineConverter
from .json_objects import (
    EMPTY,
    NULL,
    AnyObject,
    Members,
    NotARecord,
    as_string,
    encode,
    encode_lines,
    event_name,
    is_string,
    object_in,
    read_members,
    read_string,
    without,
)
from .schemas import INSTANT, OPEN_OBJECT, STRING, JsonSchema, RecordSchema, with_property_columns

if TYPE_CHECKING:
    from .property_columns import PropertyColumn

# --- Normalized events -----------------------------------------------------------------------------------------------

_NORMALIZED_COLUMNS: dict[str, JsonSchema] = {
    "event_name": STRING,
    "event_time": INSTANT,
    "distinct_id": STRING,
    "insert_id": STRING,
    "properties": OPEN_OBJECT,
}


class _Event(msgspec.Struct, gc=False):
    """An event as Mixpanel sends it. If a key is repeated, the last value wins. Other top-level keys are dropped."""

    event: msgspec.Raw
    properties: Members


_read_events = msgspec.json.Decoder(_Event).decode_lines


class NormalizedEvents(LineConverter):
    """Converts events to normalized records: moves `time`, `distinct_id` and `$insert_id` to columns."""

    def _convert_block(self, block: bytes) -> ConvertedBlock:
        events = _read_events(block)
        times = [event.properties.get("time", NULL) for event in events] if self._tally else []
        return ConvertedBlock(len(events), encode_lines(self._records(events)), times)

    def _convert_event(self, line: bytes) -> bytes:
        members = read_members(line)
        [record] = self._records([_Event(event_name(members), object_in(members, "properties"))])
        return encode(record)

    def _records(self, events: list[_Event]) -> list[msgspec.Struct]:
        """Return the records of events. Removes `time`, `distinct_id` and `$insert_id` from their properties.

        Raises:
            NotARecord: The name of an event is not a string, or its `time` is missing or unusable.
        """
        rows = []
        columns = self._property_columns
        column_values = columns.read([event.properties for event in events]) if columns else ()
        for event in events:
            name, properties = event.event, event.properties
            if not is_string(name):
                raise NotARecord("`event` is not a string")
            time = properties.pop("time", None)
            if time is None:
                raise NotARecord("`time` is missing")
            instant = self._clock.instant(bytes(time), properties)
            distinct_id = as_string(properties.pop("distinct_id", NULL))
            insert_id = as_string(properties.pop("$insert_id", NULL))
            if insert_id is EMPTY or (self._strip_nul and _has_only_nuls(insert_id)):
                insert_id = _generate_insert_id(name, instant, distinct_id, properties.copy())
            rows.append((name, instant_text(instant), distinct_id, insert_id, properties))
        if column_values:
            rows = [row + values for row, values in zip(rows, zip(*column_values, strict=True), strict=True)]
        records = list(starmap(self._record_type, rows))
        for column in self._deselected:
            for record in records:
                setattr(record, column, msgspec.UNSET)
        return records


def _has_only_nuls(string: msgspec.Raw) -> bool:
    """Return whether a string is empty or consists only of NULs."""
    return not bytes(string).replace(b"\\u0000", b"").strip(b'"')


def _generate_insert_id(name: msgspec.Raw, instant: int, distinct_id: msgspec.Raw, properties: Members) -> msgspec.Raw:
    identity = as_string(properties.pop("$distinct_id_before_identity", NULL))
    if identity is EMPTY:
        identity = distinct_id
    return msgspec.Raw(b'"%b"' % stable_insert_id(read_string(name), instant, read_string(identity), properties))


# --- Raw events ------------------------------------------------------------------------------------------------------

_RAW_COLUMNS: dict[str, JsonSchema] = {"event": STRING, "properties": OPEN_OBJECT}


class _RawEvent(msgspec.Struct, gc=False):
    """The members that make a line an event."""

    event: str
    properties: AnyObject | None = None


class _Time(msgspec.Struct, gc=False):
    """Properties of which only `time` is read."""

    time: msgspec.Raw = NULL


class _TimedRawEvent(msgspec.Struct, gc=False):
    """A raw event with its `time`, to count events by day."""

    event: str
    properties: _Time | None = None


_read_raw_events = msgspec.json.Decoder(_RawEvent).decode_lines
_read_timed_raw_events = msgspec.json.Decoder(_TimedRawEvent).decode_lines


class RawEvents(LineConverter):
    """Validates event lines and copies them unchanged."""

    def _convert_block(self, block: bytes) -> ConvertedBlock:
        times: list[msgspec.Raw] = []
        if self._tally:
            events = _read_timed_raw_events(block)
            times = [event.properties.time if event.properties else NULL for event in events]
            count = len(events)
        else:
            count = len(_read_raw_events(block))
        if self._deselected:
            lines = block[:-1].split(b"\n")
            block = b"".join(without(self._deselected, read_members(line)) + b"\n" for line in lines)
        return ConvertedBlock(count, block, times)

    def _convert_event(self, line: bytes) -> bytes:
        members = read_members(line)
        event_name(members)
        object_in(members, "properties")
        return without(self._deselected, members) if self._deselected else line.strip(BLANK)


@dataclass(frozen=True)
class EventSchema(RecordSchema):
    """The schema of events.

    Attributes:
        raw: Whether events are delivered as Mixpanel sends them, instead of normalized.
        property_columns: The properties that the user chose as columns of normalized events.
    """

    raw: bool = False
    property_columns: tuple[PropertyColumn, ...] = ()

    @property
    def key_properties(self) -> tuple[str, ...]:  # type: ignore[override]
        """The columns that identify an event. Raw events have no key."""
        return () if self.raw else ("event_name", "event_time", "insert_id")

    @property
    def column_schemas(self) -> dict[str, JsonSchema]:
        """The JSON schema of each column, in order."""
        return _RAW_COLUMNS if self.raw else with_property_columns(_NORMALIZED_COLUMNS, self.property_columns)

    @property
    def converter(self) -> partial[LineConverter]:
        """A factory for the converter of one response body. Takes the arguments of `LineConverter` except `schema`."""
        kind: type[LineConverter] = RawEvents if self.raw else NormalizedEvents
        return partial(kind, self)
