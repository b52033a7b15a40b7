"""Properties that the user chose as columns of normalized records (`event_columns`, `profile_columns`).

A column holds the property's value as Mixpanel sent it; a `date-time` is written in UTC. A value that does not fit the
column's type becomes null and is counted. The property stays in `properties`, so nothing is lost.

This runs for every event: one list comprehension a column, and no call for the usual value but for a `date-time`.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from .json_objects import NULL, Members, read_string

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .schemas import JsonSchema

PropertyType = Literal["string", "number", "integer", "boolean", "date-time", "json"]

PROPERTY_TYPES: tuple[PropertyType, ...] = get_args(PropertyType)

_QUOTE = ord('"')
_BOOLEANS = {b"true", b"false"}
_CONTAINERS = frozenset(b"{[")
_SAFE_DIGITS = 18
"""An integer of so many digits fits into 64 bits."""

PROPERTY_SCHEMAS: dict[PropertyType, JsonSchema] = {
    "string": {"type": ["string", "null"]},
    "number": {"type": ["number", "null"]},
    "integer": {"type": ["integer", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "date-time": {"type": ["string", "null"], "format": "date-time"},
    "json": {"type": ["object", "array", "null"], "additionalProperties": True},
}


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
        misfits: By column, the values of the records read last that did not fit.
    """

    def __init__(self, columns: Sequence[PropertyColumn]) -> None:
        self.misfits: Counter[str] = Counter()
        self._columns = columns

    def __bool__(self) -> bool:
        return bool(self._columns)

    def read(self, records: Sequence[Members]) -> dict[str, list[msgspec.Raw]]:
        """Return by column its value for each record.

        Args:
            records: The properties of each record.
        """
        self.misfits = Counter()
        return {column.name: self._values(column, records) for column in self._columns}

    def _values(self, column: PropertyColumn, records: Sequence[Members]) -> list[msgspec.Raw]:
        key = column.property
        values = [record.get(key, NULL) for record in records]

        def misfit(value: msgspec.Raw) -> msgspec.Raw:
            if bytes(value) != b"null":
                self.misfits[column.name] += 1
            return NULL

        return _FITTING[column.type](values, misfit)


def _strings(values: list[msgspec.Raw], misfit: Callable[[msgspec.Raw], msgspec.Raw]) -> list[msgspec.Raw]:
    return [value if value is NULL or bytes(value)[0] == _QUOTE else misfit(value) for value in values]


def _booleans(values: list[msgspec.Raw], misfit: Callable[[msgspec.Raw], msgspec.Raw]) -> list[msgspec.Raw]:
    return [value if value is NULL or bytes(value) in _BOOLEANS else misfit(value) for value in values]


def _json(values: list[msgspec.Raw], misfit: Callable[[msgspec.Raw], msgspec.Raw]) -> list[msgspec.Raw]:
    return [value if value is NULL or bytes(value)[0] in _CONTAINERS else misfit(value) for value in values]


def _integers(values: list[msgspec.Raw], misfit: Callable[[msgspec.Raw], msgspec.Raw]) -> list[msgspec.Raw]:
    return [
        value
        if value is NULL or ((text := bytes(value)).isdigit() and len(text) <= _SAFE_DIGITS) or _is_64_bit_integer(text)
        else misfit(value)
        for value in values
    ]


def _numbers(values: list[msgspec.Raw], misfit: Callable[[msgspec.Raw], msgspec.Raw]) -> list[msgspec.Raw]:
    return [
        value
        if value is NULL or ((text := bytes(value)).isdigit() and len(text) <= _SAFE_DIGITS) or _is_finite_number(text)
        else misfit(value)
        for value in values
    ]


def _instants(values: list[msgspec.Raw], misfit: Callable[[msgspec.Raw], msgspec.Raw]) -> list[msgspec.Raw]:
    return [value if value is NULL else _instant(bytes(value)) or misfit(value) for value in values]


_FITTING = {
    "string": _strings,
    "number": _numbers,
    "integer": _integers,
    "boolean": _booleans,
    "date-time": _instants,
    "json": _json,
}


def _is_64_bit_integer(text: bytes) -> bool:
    digits = text.removeprefix(b"-")
    return digits.isdigit() and len(digits) <= _SAFE_DIGITS + 1 and -(2**63) <= int(text) < 2**63


def _is_finite_number(text: bytes) -> bool:
    """Return whether a JSON text is a number that a double can hold, perhaps rounded."""
    return text[0] != _QUOTE and text[-1:].isdigit() and isfinite(float(text))


@lru_cache(20_000)
def _instant(text: bytes) -> msgspec.Raw | None:
    """Return an ISO 8601 date or time in UTC; None where the text is neither. Without an offset it is UTC already."""
    if text[0] != _QUOTE:
        return None
    try:
        instant = datetime.fromisoformat(read_string(text))
        utc = instant.astimezone(UTC) if instant.tzinfo else instant
    except (ValueError, OverflowError):
        return None
    return msgspec.Raw(f'"{utc.replace(tzinfo=UTC).isoformat()}"'.encode())
