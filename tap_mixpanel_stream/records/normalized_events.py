"""The normalized shape of an event: Mixpanel's own keys as columns, every other property byte for byte as it came.

    {"event":"Sign Up","properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"i1","$city":"Zürich"}}

becomes

    {"event_name":"Sign Up","event_time":"2024-01-15T14:20:00+00:00","distinct_id":"u1","insert_id":"i1",
     "properties":{"$city":"Zürich"}}

The decoder turns a block of lines into `_Event`s. It checks the JSON of every value and leaves its bytes as they are
(`msgspec.Raw`). `_records` takes the keys that become columns out of the properties. The encoder writes the rest again:
keys may be spelled anew, values are copied. No Python code runs for a property that is no column.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from .event_time import instant_text
from .events import Converted, EventConverter
from .insert_id import stable_insert_id
from .json_objects import (
    EMPTY,
    NULL,
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
)
from .schemas import INSTANT, OPEN_OBJECT, STRING, record_schema


class _Event(msgspec.Struct, gc=False):
    """An event as Mixpanel sends it. Of a key given twice the last wins; further keys are left out."""

    event: msgspec.Raw
    properties: Members


class _Record(msgspec.Struct, gc=False):
    """A record. A column that is `UNSET` is left out."""

    event_name: msgspec.Raw | msgspec.UnsetType
    event_time: str | msgspec.UnsetType
    distinct_id: msgspec.Raw | msgspec.UnsetType
    insert_id: msgspec.Raw | msgspec.UnsetType
    properties: Members | msgspec.UnsetType


_read_events = msgspec.json.Decoder(_Event).decode_lines


class NormalizedEvents(EventConverter):
    """Takes the columns out of each event. See `EventConverter`."""

    key_properties: ClassVar[tuple[str, ...]] = ("event_name", "event_time", "insert_id")
    schema: ClassVar[dict[str, Any]] = record_schema(
        key_properties,
        {
            "event_name": STRING,
            "event_time": INSTANT,
            "distinct_id": STRING,
            "insert_id": STRING,
            "properties": OPEN_OBJECT,
        },
    )

    columns: ClassVar[tuple[str, ...]] = tuple(schema["properties"])

    def _convert_block(self, block: bytes) -> Converted:
        events = _read_events(block)
        times = [event.properties.get("time", NULL) for event in events] if self._counts else []
        return Converted(len(events), encode_lines(self._records(events)), times)

    def _convert_event(self, line: bytes) -> bytes:
        members = read_members(line)
        [record] = self._records([_Event(event_name(members), object_in(members, "properties"))])
        return encode(record)

    def _records(self, events: list[_Event]) -> list[_Record]:
        """Make the records of events. The properties that become columns leave the events.

        Raises:
            NotARecord: a name is no string, or there is no usable time.
        """
        records = []
        for event in events:
            name, properties = event.event, event.properties
            if not is_string(name):
                raise NotARecord("`event` is no string")
            time = properties.pop("time", None)
            if time is None:
                raise NotARecord("`time` is missing")
            instant = self._clock.instant(bytes(time), properties)
            distinct_id = as_string(properties.pop("distinct_id", NULL))
            insert_id = as_string(properties.pop("$insert_id", NULL))
            if insert_id is EMPTY or (self._strip_nul and _is_nuls(insert_id)):
                insert_id = _made_insert_id(name, instant, distinct_id, properties.copy())
            records.append(_Record(name, instant_text(instant), distinct_id, insert_id, properties))
        for column in self._left_out:
            for record in records:
                setattr(record, column, msgspec.UNSET)
        return records


def _is_nuls(string: msgspec.Raw) -> bool:
    """Whether nothing remains of a string once `NUL` is taken out."""
    return not bytes(string).replace(b"\\u0000", b"").strip(b'"')


def _made_insert_id(name: msgspec.Raw, instant: int, distinct_id: msgspec.Raw, properties: Members) -> msgspec.Raw:
    identity = as_string(properties.pop("$distinct_id_before_identity", NULL))
    if identity is EMPTY:
        identity = distinct_id
    return msgspec.Raw(b'"%b"' % stable_insert_id(read_string(name), instant, read_string(identity), properties))
