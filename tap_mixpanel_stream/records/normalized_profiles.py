"""The normalized shape of a profile: its id and its time of last update as columns, every other property as it came."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from .json_objects import NULL, Members, NotARecord, as_string, encode, object_in, read_members
from .profiles import ProfileConverter
from .schemas import OPEN_OBJECT, STRING, STRING_OR_NULL, record_schema


class _Profile(msgspec.Struct, gc=False, rename={"distinct_id": "$distinct_id", "properties": "$properties"}):
    """A profile as Mixpanel sends it."""

    distinct_id: msgspec.Raw
    properties: Members


class _Record(msgspec.Struct, gc=False):
    """A record. A column that is `UNSET` is left out."""

    distinct_id: msgspec.Raw | msgspec.UnsetType
    last_seen: msgspec.Raw | msgspec.UnsetType
    properties: Members | msgspec.UnsetType


_read_profile = msgspec.json.Decoder(_Profile).decode


class NormalizedProfiles(ProfileConverter):
    """Takes the columns out of each result. See `ProfileConverter`."""

    key_properties: ClassVar[tuple[str, ...]] = ("distinct_id",)
    schema: ClassVar[dict[str, Any]] = record_schema(
        key_properties, {"distinct_id": STRING, "last_seen": STRING_OR_NULL, "properties": OPEN_OBJECT}
    )
    columns: ClassVar[tuple[str, ...]] = tuple(schema["properties"])
    needs: ClassVar[tuple[str, ...]] = ("$last_seen",)

    def _record(self, result: bytes) -> bytes:
        try:
            profile = _read_profile(result)
            key, properties = profile.distinct_id, profile.properties
        except msgspec.DecodeError:
            # It may be a profile all the same: without properties, or with a key that came twice.
            members = read_members(result)
            key, properties = members.get("$distinct_id", NULL), object_in(members, "$properties")
        if bytes(key) == b"null":
            raise NotARecord("`$distinct_id` is missing")
        last_seen = properties.pop("$last_seen", NULL)
        record = _Record(
            distinct_id=as_string(key),
            last_seen=NULL if bytes(last_seen) == b"null" else as_string(last_seen),
            properties=properties,
        )
        for column in self._left_out:
            setattr(record, column, msgspec.UNSET)
        return encode(record)
