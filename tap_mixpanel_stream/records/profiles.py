"""Convert the results of a page of profiles to records.

    {"$distinct_id":"u1","$properties":{"$last_seen":"2024-01-15T14:20:00","$city":"Zürich"}}

becomes

    {"distinct_id":"u1","last_seen":"2024-01-15T14:20:00","properties":{"$city":"Zürich"}}

Raw profiles are validated and copied unchanged.
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
from .json_objects import (
    NULL,
    AnyObject,
    Members,
    NotARecord,
    as_string,
    encode,
    is_string,
    object_in,
    read_members,
    without,
)
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
        envelope: The RECORD message around each record.
        selected: The selected columns; None for all.
        strip_nul: Whether to remove `\u0000` from the strings of records.

    Attributes:
        results: The number of results read, malformed ones included.
    """

    results = 0

    def convert(self, results: Sequence[msgspec.Raw | bytes], on_bad_profile: Callable[[BadProfile], None]) -> bytes:
        """Convert results of a page.

        Args:
            results: The JSON texts of the results.
            on_bad_profile: Called with each malformed profile. May raise it to stop the conversion.

        Returns:
            The lines to write, one for each profile.

        Raises:
            BadProfile: A result is not a profile, and `on_bad_profile` raised the error.
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
        # A result can span lines, if Mixpanel indents the page. Between tokens a space is equivalent to a newline.
        return self._to_lines(b"".join(record.replace(b"\n", b" ") + b"\n" for record in records))

    @abstractmethod
    def _record(self, result: bytes) -> bytes:
        """Return the record of one result, without its envelope. The result is valid UTF-8.

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
    """Converts profiles to normalized records: moves `$last_seen` from the properties to a column."""

    def _record(self, result: bytes) -> bytes:
        try:
            profile = _read_profile(result)
            key, properties = profile.distinct_id, profile.properties
        except msgspec.DecodeError:
            # The result can still be a profile, without properties or with a repeated key.
            members = read_members(result)
            key, properties = members.get("$distinct_id", NULL), object_in(members, "$properties")
        if bytes(key) == b"null":
            raise NotARecord("`$distinct_id` is missing")
        column_values = self._property_columns.read([properties]) if self._property_columns else ()
        last_seen = properties.pop("$last_seen", NULL)
        if bytes(last_seen) != b"null":
            last_seen = as_string(last_seen)
        record = self._record_type(as_string(key), last_seen, properties, *(value for [value] in column_values))
        for column in self._deselected:
            setattr(record, column, msgspec.UNSET)
        return encode(record)


class _RawProfile(msgspec.Struct, gc=False, rename=_RENAMED):
    """The members that make a result a profile."""

    distinct_id: str | int
    properties: AnyObject | None = None


_check_profile = msgspec.json.Decoder(_RawProfile).decode


class RawProfiles(ProfileConverter):
    """Validates profiles and copies them unchanged."""

    def _record(self, result: bytes) -> bytes:
        try:
            _check_profile(result)
        except msgspec.DecodeError:
            # The result can still be a profile with a repeated key, whose last value wins.
            members = read_members(result)
            key = members.get("$distinct_id", NULL)
            if not is_string(key) and not bytes(key).removeprefix(b"-").isdigit():
                raise NotARecord("`$distinct_id` is neither a string nor an integer") from None
            object_in(members, "$properties")
        return without(self._deselected, read_members(result)) if self._deselected else result.strip()


@dataclass(frozen=True)
class ProfileSchema(RecordSchema):
    """The schema of user or group profiles.

    Attributes:
        raw: Whether profiles are delivered as Mixpanel sends them, instead of normalized.
        property_columns: The properties that the user chose as columns of normalized profiles.
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
        """The properties that become columns. A request that names properties must include them."""
        return () if self.raw else ("$last_seen", *(column.property for column in self.property_columns))

    @property
    def converter(self) -> partial[ProfileConverter]:
        """A factory for the stream's converter. Takes the arguments of `ProfileConverter` except `schema`."""
        kind: type[ProfileConverter] = RawProfiles if self.raw else NormalizedProfiles
        return partial(kind, self)
