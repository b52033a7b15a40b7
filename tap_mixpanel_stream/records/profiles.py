"""Profiles: the results of a page in, records out.

    {"$distinct_id":"u1","$properties":{"$last_seen":"2024-01-15T14:20:00","$city":"Zürich"}}

becomes

    {"distinct_id":"u1","last_seen":"2024-01-15T14:20:00","properties":{"$city":"Zürich"}}

With `raw`, results are checked and copied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import convert_masked
from .converter import Converter
from .errors import BadProfile
from .json_objects import NULL, Members, NotARecord, as_string, encode, is_string, object_in, read_members, without
from .schemas import (
    OPEN_OBJECT,
    STRING,
    STRING_OR_INTEGER,
    STRING_OR_NULL,
    JsonSchema,
    RecordSchema,
    with_property_columns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .property_columns import PropertyColumn

_NORMALIZED_COLUMNS: dict[str, JsonSchema] = {
    "distinct_id": STRING,
    "last_seen": STRING_OR_NULL,
    "properties": OPEN_OBJECT,
}
_RAW_COLUMNS: dict[str, JsonSchema] = {"$distinct_id": STRING_OR_INTEGER, "$properties": OPEN_OBJECT}
_RENAMED = {"distinct_id": "$distinct_id", "properties": "$properties"}


class ProfileConverter(Converter, ABC):
    r"""Converts the results of pages.

    Args:
        schema: The schema of the records.
        envelope: The bytes around each record.
        selected: The selected columns; None for all.
        strip_nul: Remove `\u0000` from the strings of records.

    Attributes:
        results: Results read, malformed ones included.
    """

    results = 0

    def convert(self, results: Sequence[msgspec.Raw | bytes], on_bad_profile: Callable[[BadProfile], None]) -> bytes:
        """Convert some results of a page.

        Args:
            results: The JSON text of each.
            on_bad_profile: Called with each malformed profile; raises to end the conversion.

        Returns:
            A record in its envelope for each profile.

        Raises:
            BadProfile: A result is not a profile, and `on_bad_profile` raises the error.
        """
        records = []
        for index, result in enumerate(map(bytes, results), start=self.results):
            try:
                if not result.isascii():
                    result.decode()
                records.append(convert_masked(self._record, result))
                self._count(1)
            except UnicodeDecodeError as error:
                on_bad_profile(BadProfile(index, f"not UTF-8 at byte {error.start + 1}", result))
            except NotARecord as error:
                on_bad_profile(BadProfile(index, str(error), result))
            except RecursionError:
                on_bad_profile(BadProfile(index, "nested too deeply", result))
            except msgspec.DecodeError as error:
                on_bad_profile(BadProfile(index, f"not a JSON object: {error}", result))
        self.results += len(results)
        # A page may be laid out over several lines. Between tokens a space means the same as a newline.
        return self._to_lines(b"".join(record.replace(b"\n", b" ") + b"\n" for record in records))

    @abstractmethod
    def _record(self, result: bytes) -> bytes:
        """Make the record of one result of valid UTF-8, without its envelope.

        Raises:
            NotARecord: The result is JSON, but not a profile.
            msgspec.DecodeError: The result is not a JSON object.
            RecursionError: The result is nested too deeply for Python.
        """


class _Profile(msgspec.Struct, gc=False, rename=_RENAMED):
    """A profile as Mixpanel sends it."""

    distinct_id: msgspec.Raw
    properties: Members


_read_profile = msgspec.json.Decoder(_Profile).decode


class NormalizedProfiles(ProfileConverter):
    """Moves `$last_seen` from the properties into a column. See `ProfileSchema.converter`."""

    def _record(self, result: bytes) -> bytes:
        try:
            profile = _read_profile(result)
            key, properties = profile.distinct_id, profile.properties
        except msgspec.DecodeError:
            # It may still be a profile: without properties, or with a duplicate key.
            members = read_members(result)
            key, properties = members.get("$distinct_id", NULL), object_in(members, "$properties")
        if bytes(key) == b"null":
            raise NotARecord("`$distinct_id` is missing")
        chosen = self._property_columns.read([properties]) if self._property_columns else ()
        last_seen = properties.pop("$last_seen", NULL)
        if bytes(last_seen) != b"null":
            last_seen = as_string(last_seen)
        record = self._record_type(as_string(key), last_seen, properties, *(value for [value] in chosen))
        for column in self._deselected:
            setattr(record, column, msgspec.UNSET)
        return encode(record)


class _AnyObject(msgspec.Struct, gc=False):
    """An object whose members are not read."""


class _RawProfile(msgspec.Struct, gc=False, rename=_RENAMED):
    """The least that makes a result a profile."""

    distinct_id: str | int
    properties: _AnyObject | None = None


_check_profile = msgspec.json.Decoder(_RawProfile).decode


class RawProfiles(ProfileConverter):
    """Checks each result and copies it. See `ProfileSchema.converter`."""

    def _record(self, result: bytes) -> bytes:
        try:
            _check_profile(result)
        except msgspec.DecodeError:
            # It may still be a profile: the last of a duplicate key wins.
            members = read_members(result)
            key = members.get("$distinct_id", NULL)
            if not is_string(key) and not bytes(key).removeprefix(b"-").isdigit():
                raise NotARecord("`$distinct_id` is neither a string nor an integer") from None
            object_in(members, "$properties")
        return without(self._deselected, read_members(result)) if self._deselected else result.strip()


@dataclass(frozen=True)
class ProfileSchema(RecordSchema):
    """The schema of profiles, of users and of groups.

    Attributes:
        raw: Profiles as Mixpanel sends them, instead of normalized ones.
        property_columns: Properties that are columns, of normalized profiles.
    """

    raw: bool = False
    property_columns: tuple[PropertyColumn, ...] = ()

    @property
    def key_properties(self) -> tuple[str, ...]:  # type: ignore[override]
        """The column that identifies a profile."""
        return ("$distinct_id",) if self.raw else ("distinct_id",)

    @property
    def column_schemas(self) -> dict[str, JsonSchema]:
        """The JSON schema of each column, in order."""
        return _RAW_COLUMNS if self.raw else with_property_columns(_NORMALIZED_COLUMNS, self.property_columns)

    @property
    def column_properties(self) -> tuple[str, ...]:
        """The properties that become columns: a request for some properties must include them."""
        return () if self.raw else ("$last_seen", *(column.property for column in self.property_columns))

    @property
    def converter(self) -> partial[ProfileConverter]:
        """Makes the converter of a page, from the arguments of `ProfileConverter`."""
        kind: type[ProfileConverter] = RawProfiles if self.raw else NormalizedProfiles
        return partial(kind, self)
