"""Flat records: documented fields as columns, and one open object for all others.

Cohorts, annotations and funnels come in small answers, so this converts record by record. What a column's type does not
fit goes to the open object as well, and the column is null: nothing is lost, and no target refuses the record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from .errors import BadRow
from .json_objects import NULL, Members, NotARecord, as_string, encode, read_members, whole_or_masked
from .nul import without_nul
from .schemas import OPEN_OBJECT, STRING, record_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .envelope import Envelope

OTHER = "other"
"""The column of all fields that have none."""

_is_integer = re.compile(rb"-?\d+").fullmatch


def _is_string(value: bytes) -> bool:
    return value.startswith(b'"')


@dataclass(frozen=True, slots=True)
class Column:
    """What a column may hold, besides null.

    Attributes:
        schema: Its JSON schema.
        takes: Whether a JSON text fits it.
        as_text: Whether it is written as a string, whatever it came as.
    """

    schema: dict[str, Any]
    takes: Callable[[bytes], object]
    as_text: bool = False

    def nullable(self) -> dict[str, Any]:
        """The schema where null is allowed."""
        return {**self.schema, "type": [self.schema["type"], "null"]}


INTEGER = Column({"type": "integer"}, _is_integer)
TEXT = Column(STRING, _is_string)
ID_TEXT = Column(STRING, lambda value: _is_string(value) or _is_integer(value), as_text=True)
"""An id that is a string or a number of up to 64 bits."""
DAY = Column({"type": "string", "format": "date"}, _is_string)
OBJECTS = Column(
    {"type": "array", "items": {"type": ["object", "null"], "additionalProperties": True}},
    lambda value: value.startswith(b"["),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What a record is made of.

    Attributes:
        text: The JSON text of an object, as it came.
        known: The JSON texts of fields that did not come in it; they win over fields of the same name that did.
    """

    text: bytes = b"{}"
    known: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportSchema:
    """What a stream's records are, and who makes them.

    Attributes:
        fields: The documented fields, in order.
        key_properties: Those that tell records apart.
        lifted: Fields that are objects, whose own fields become columns: `user_id` of `user`.
        is_open: Whether further fields can come, so that there is a column for them.
    """

    fields: Mapping[str, Column]
    key_properties: tuple[str, ...]
    lifted: tuple[str, ...] = ()
    is_open: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The schema's columns, in order."""
        return (*self.fields, OTHER) if self.is_open else tuple(self.fields)

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a record."""
        columns = {
            name: column.schema if name in self.key_properties else column.nullable()
            for name, column in self.fields.items()
        }
        return record_schema(self.key_properties, columns | ({OTHER: OPEN_OBJECT} if self.is_open else {}))

    def converter(
        self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False
    ) -> FlatRecords:
        r"""Make the converter of a stream's rows.

        Args:
            envelope: What stands around each record.
            selected: The columns wanted; None for all.
            strip_nul: Take `\u0000` out of the strings of records.
        """
        wanted = frozenset(self.columns) if selected is None else selected
        return FlatRecords(self, envelope, wanted, strip_nul=strip_nul)


class FlatRecords:
    r"""Converts rows. See `ReportSchema.converter`.

    Attributes:
        records: Records made.
        nuls: `\u0000` taken out.
    """

    def __init__(self, shape: ReportSchema, envelope: Envelope, selected: frozenset[str], *, strip_nul: bool) -> None:
        self.records = 0
        self.nuls = 0
        self._shape = shape
        self._envelope = envelope
        self._selected = selected
        self._strip_nul = strip_nul

    def convert(self, rows: Sequence[Row]) -> bytes:
        """Turn rows into as many lines, each a record in its envelope.

        Raises:
            BadRow: One of them is none. All of them are refused.
        """
        lines = self._envelope.around(b"".join(self._line(index, row) for index, row in enumerate(rows)))
        self.records += len(rows)
        if self._strip_nul:
            lines, nuls = without_nul(lines)
            self.nuls += nuls
        return lines

    def _line(self, index: int, row: Row) -> bytes:
        try:
            record = whole_or_masked(lambda text: self._record(text, row.known), row.text)
        except NotARecord as error:
            raise BadRow(index, str(error), row.text) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRow(index, f"no JSON object: {error}", row.text) from None
        # JSON lets a raw end of line stand between tokens only, where a space is the same.
        return record.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"

    def _record(self, text: bytes, known: Mapping[str, bytes]) -> bytes:
        members = self._flat(text) | {name: msgspec.Raw(value) for name, value in known.items()}
        record: Members = {}
        other: Members = {}
        for name, column in self._shape.fields.items():
            value = members.pop(name, NULL)
            if not column.takes(bytes(value)):
                if name in self._shape.key_properties:
                    raise NotARecord(f"`{name}` is missing, or of another type")
                if bytes(value) != b"null":
                    other[name] = value
                record[name] = NULL
            else:
                record[name] = as_string(value) if column.as_text else value
        record[OTHER] = msgspec.Raw(encode(other | members))
        return encode({name: value for name, value in record.items() if name in self._selected})

    def _flat(self, text: bytes) -> Members:
        """The members of an object, those of the lifted ones among them."""
        members = read_members(text)
        for name in self._shape.lifted:
            lifted = members.pop(name, NULL)
            if bytes(lifted).startswith(b"{"):
                members |= {f"{name}_{key}": value for key, value in read_members(lifted).items()}
            elif bytes(lifted) != b"null":
                members[name] = lifted
        return members
