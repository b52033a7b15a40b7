"""Columns for properties that the user chose (`event_columns`, `profile_columns`). Only normalized records have them.

A column contains the property's value as Mixpanel sent it, except that a `date-time` is converted to UTC. A value that
does not fit the column's type becomes null and is counted. The property also stays in `properties`, so no data is lost.

This code runs for every event. The decoder validates all values of a column in a block at once. If one value does not
fit, the column is checked value by value.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import msgspec

from .json_objects import NULL, Members, read_string

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PropertyType = Literal["string", "number", "integer", "boolean", "date-time", "json"]

PROPERTY_TYPES: tuple[PropertyType, ...] = get_args(PropertyType)

PROPERTY_SCHEMAS: dict[PropertyType, dict[str, Any]] = {
    "string": {"type": ["string", "null"]},
    "number": {"type": ["number", "null"]},
    "integer": {"type": ["integer", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "date-time": {"type": ["string", "null"], "format": "date-time"},
    "json": {"type": ["object", "array", "null"], "additionalProperties": True},
}
"""The JSON schema of a column by its type."""

_MAX_64_BIT_DIGITS = 19

_MAX_INSTANT_BYTES = 200
"""Maximum length in bytes of a date or time as JSON, even if every character is escaped."""

_CACHE_SIZE = 20_000
"""Number of dates and times whose text in UTC is cached."""


class PropertyColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A property that the user chose as a column.

    Attributes:
        name: The name of the column.
        property: The name of the property.
        type: The type of the column.
    """

    name: str
    property: str
    type: PropertyType


class PropertyColumns:
    """Reads the values of columns from the properties of records.

    Args:
        columns: The columns to read.

    Attributes:
        names: The names of the columns.
        misfits: By column, the number of values that did not fit its type in the last call to `read`.
    """

    def __init__(self, columns: Sequence[PropertyColumn]) -> None:
        self.misfits: Counter[str] = Counter()
        self.names = tuple(column.name for column in columns)
        self._columns = columns

    def __bool__(self) -> bool:
        """Return whether there are columns to read."""
        return bool(self._columns)

    def read(self, records: Sequence[Members]) -> list[list[msgspec.Raw]]:
        """Return the values of each column: one list for each column, with one value for each record.

        Args:
            records: The properties of each record.
        """
        self.misfits = Counter()
        return [self._values(column, records) for column in self._columns]

    def _values(self, column: PropertyColumn, records: Sequence[Members]) -> list[msgspec.Raw]:
        values = [record.get(column.property, NULL) for record in records]
        if check_all := _CHECK_ALL.get(column.type):
            try:
                check_all(b"[%b]" % b",".join(values))
            except msgspec.ValidationError:
                pass
            else:
                return values
        convert = _CONVERT[column.type]
        return [value if value is NULL else convert(value) or self._misfit(column, value) for value in values]

    def _misfit(self, column: PropertyColumn, value: msgspec.Raw) -> msgspec.Raw:
        if bytes(value) != b"null":
            self.misfits[column.name] += 1
        return NULL


_CHECK_ALL: dict[PropertyType, Callable[[bytes], object]] = {
    "string": msgspec.json.Decoder(list[str | None]).decode,
    "number": msgspec.json.Decoder(list[float | None]).decode,
    "integer": msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None]).decode,
    "boolean": msgspec.json.Decoder(list[bool | None]).decode,
}
"""By type, a decoder that accepts an array only if each value fits or is null."""


def _keep_if(fits: Callable[[bytes], bool]) -> Callable[[msgspec.Raw], msgspec.Raw | None]:
    """Return a function that returns a value unchanged if it fits, and otherwise None."""
    return lambda value: value if fits(bytes(value)) else None


def is_64_bit_integer(text: bytes) -> bool:
    """Return whether a JSON text is an integer that fits into 64 bits."""
    digits = text.removeprefix(b"-")
    return digits.isdigit() and len(digits) <= _MAX_64_BIT_DIGITS and -(2**63) <= int(text) < 2**63


def is_finite_number(text: bytes) -> bool:
    """Return whether a JSON text is a number within the range of a double."""
    return text[:1] in b"-0123456789" and isfinite(float(text))


@lru_cache(_CACHE_SIZE)
def _in_utc(text: bytes) -> msgspec.Raw | None:
    """Return an ISO 8601 date or time in UTC; None for other values. A time without an offset is taken as UTC."""
    if not text.startswith(b'"'):
        return None
    try:
        instant = datetime.fromisoformat(read_string(text))
        utc = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return msgspec.Raw(b'"%b"' % utc.isoformat().encode())


_CONVERT: dict[PropertyType, Callable[[msgspec.Raw], msgspec.Raw | None]] = {
    "string": _keep_if(lambda text: text.startswith(b'"')),
    "number": _keep_if(is_finite_number),
    "integer": _keep_if(is_64_bit_integer),
    "boolean": _keep_if(lambda text: text in {b"true", b"false"}),
    # Longer texts cannot be dates and would fill the cache.
    "date-time": lambda value: _in_utc(bytes(value)) if len(bytes(value)) <= _MAX_INSTANT_BYTES else None,
    "json": _keep_if(lambda text: text.startswith((b"{", b"["))),
}
"""By type, a function that returns the column's value, or None if the property's value does not fit."""
