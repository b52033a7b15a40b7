"""Properties that the user chose as columns of normalized records (`event_columns`, `profile_columns`).

A column holds the property's value as Mixpanel sent it; a `date-time` is written in UTC. A value that does not fit the
column's type becomes null and is counted. The property stays in `properties`, so nothing is lost.

This runs for every event. The decoder checks all values of a column in a block at once. Only where one does not fit,
the column is checked value by value.
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

_DIGITS_OF_64_BITS = 19

_LONGEST_INSTANT = 200
"""Bytes of its JSON text, with every character escaped."""

_MEMORY = 20_000
"""Instants whose text in UTC is remembered."""


class PropertyColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A property that is a column.

    Attributes:
        name: The name of the column.
        property: The name of the property.
        type: The type of the column.
    """

    name: str
    property: str
    type: PropertyType


class PropertyColumns:
    """Reads columns from the properties of records.

    Args:
        columns: The columns to read.

    Attributes:
        names: The names of the columns.
        misfits: By column, the values of the records read last that did not fit.
    """

    def __init__(self, columns: Sequence[PropertyColumn]) -> None:
        self.misfits: Counter[str] = Counter()
        self.names = tuple(column.name for column in columns)
        self._columns = columns

    def __bool__(self) -> bool:
        """Return whether there are columns to read."""
        return bool(self._columns)

    def read(self, records: Sequence[Members]) -> list[list[msgspec.Raw]]:
        """Return for each column its values, one for each record.

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
        fitting = _FITTING[column.type]
        return [value if value is NULL else fitting(value) or self._misfit(column, value) for value in values]

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
"""By type, a decoder that accepts an array only if all its values fit or are null."""


def _if(is_fitting: Callable[[bytes], bool]) -> Callable[[msgspec.Raw], msgspec.Raw | None]:
    return lambda value: value if is_fitting(bytes(value)) else None


def is_64_bit_integer(text: bytes) -> bool:
    """Return whether a JSON text is an integer of up to 64 bits."""
    digits = text.removeprefix(b"-")
    return digits.isdigit() and len(digits) <= _DIGITS_OF_64_BITS and -(2**63) <= int(text) < 2**63


def is_finite_number(text: bytes) -> bool:
    """Return whether a JSON text is a number that a double can hold."""
    return text[:1] in b"-0123456789" and isfinite(float(text))


@lru_cache(_MEMORY)
def _in_utc(text: bytes) -> msgspec.Raw | None:
    """Return a date or time by ISO 8601 in UTC; None for other values. Without an offset it is UTC already."""
    if not text.startswith(b'"'):
        return None
    try:
        instant = datetime.fromisoformat(read_string(text))
        utc = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return msgspec.Raw(b'"%b"' % utc.isoformat().encode())


_FITTING: dict[PropertyType, Callable[[msgspec.Raw], msgspec.Raw | None]] = {
    "string": _if(lambda text: text.startswith(b'"')),
    "number": _if(is_finite_number),
    "integer": _if(is_64_bit_integer),
    "boolean": _if(lambda text: text in {b"true", b"false"}),
    # A longer text is no instant, and would fill the memory.
    "date-time": lambda value: _in_utc(bytes(value)) if len(bytes(value)) <= _LONGEST_INSTANT else None,
    "json": _if(lambda text: text.startswith((b"{", b"["))),
}
"""By type, the value that a column gets; None where the value does not fit."""
