"""Records of reports and lists: documented fields as columns, and one open object for all others.

Cohorts, funnels, event counts and the like come in small responses, so this converts record by record. A value that
does not fit the type of its column goes to the open object, and the column is null: nothing is lost, and every target
accepts the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import convert_masked
from .converter import Converter
from .errors import BadRow
from .json_objects import NULL, Members, NotARecord, as_string, encode, read_members, without
from .property_columns import is_64_bit_integer, is_finite_number
from .schemas import OPEN_OBJECT, STRING, JsonSchema, RecordSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OTHER = "other"
"""The column of all fields without a column of their own."""


def _is_string(value: bytes) -> bool:
    return value.startswith(b'"')


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a column, besides null.

    Attributes:
        schema: The JSON schema.
        accepts: Returns whether a JSON text fits the column.
        as_text: Whether every value is written as a string.
    """

    schema: JsonSchema
    accepts: Callable[[bytes], bool]
    as_text: bool = False

    def nullable(self) -> JsonSchema:
        """Return the schema with null allowed."""
        return {**self.schema, "type": [self.schema["type"], "null"]}


INTEGER = Column({"type": "integer"}, is_64_bit_integer)
NUMBER = Column({"type": "number"}, is_finite_number)
TEXT = Column(STRING, _is_string)
ID_TEXT = Column(STRING, lambda value: _is_string(value) or is_64_bit_integer(value), as_text=True)
"""An id that is a string or a number of up to 64 bits."""
DAY = Column({"type": "string", "format": "date"}, _is_string)
OBJECTS = Column(
    {"type": "array", "items": {"type": ["object", "null"], "additionalProperties": True}},
    lambda value: value.startswith(b"["),
)
OBJECT = Column({"type": "object", "additionalProperties": True}, lambda value: value.startswith(b"{"))


@dataclass(frozen=True, slots=True)
class Row:
    """The source of a record.

    Attributes:
        text: The JSON text of an object in the response.
        known: The JSON texts of further fields, by name. They win over fields of the same name in `text`.
    """

    text: bytes = b"{}"
    known: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportSchema(RecordSchema):
    """The schema of a report's or list's records.

    Attributes:
        fields: The documented fields, in order.
        key_properties: The columns that identify a record.
        lifted: Fields that are objects and whose fields become columns: `user_id` of `user`.
        is_open: Whether further fields can come, which need a column.
        renamed: The columns whose names differ from those of their fields, by field.
    """

    fields: Mapping[str, Column]
    key_properties: tuple[str, ...]
    lifted: tuple[str, ...] = ()
    is_open: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def column_schemas(self) -> dict[str, JsonSchema]:
        """The JSON schema of each column, in order."""
        columns = {
            name: column.schema if name in self.key_properties else column.nullable()
            for name, column in self.fields.items()
        }
        return columns | ({OTHER: OPEN_OBJECT} if self.is_open else {})

    @property
    def converter(self) -> partial[ReportConverter]:
        """Makes the converter of a report, from the arguments of `Converter`."""
        return partial(ReportConverter, self)


class ReportConverter(Converter):
    """Converts the rows of a report or list. See `ReportSchema.converter`."""

    _schema: ReportSchema

    def convert(self, rows: Sequence[Row]) -> bytes:
        """Convert rows into as many records, each in its envelope.

        Raises:
            BadRow: One of them is malformed; the others are not converted either.
        """
        lines = self._to_lines(b"".join(self._line(index, row) for index, row in enumerate(rows)))
        self.records += len(rows)
        return lines

    def _line(self, index: int, row: Row) -> bytes:
        try:
            record = convert_masked(lambda text: self._record(text, row.known), row.text)
        except NotARecord as error:
            raise BadRow(index, str(error), row.text) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRow(index, f"not a JSON object: {error}", row.text) from None
        # A row may be laid out over several lines. Between tokens a space means the same as a newline.
        return record.replace(b"\n", b" ") + b"\n"

    def _record(self, text: bytes, known: Mapping[str, bytes]) -> bytes:
        members = self._flat(text) | {name: msgspec.Raw(value) for name, value in known.items()}
        record: Members = {}
        other: Members = {}
        for name, column in self._schema.fields.items():
            value = members.pop(name, NULL)
            if not column.accepts(bytes(value)):
                if name in self._schema.key_properties:
                    raise NotARecord(f"`{name}` is missing, or of another type")
                if bytes(value) != b"null":
                    other[name] = value
                record[name] = NULL
            else:
                record[name] = as_string(value) if column.as_text else value
        if self._schema.is_open:
            record[OTHER] = msgspec.Raw(encode(other | members))
        return without(self._deselected, record)

    def _flat(self, text: bytes) -> Members:
        """Return the members of an object, with those of the lifted ones."""
        members = read_members(text)
        for name in self._schema.lifted:
            lifted = members.pop(name, NULL)
            if bytes(lifted).startswith(b"{"):
                members |= {f"{name}_{key}": value for key, value in read_members(lifted).items()}
            elif bytes(lifted) != b"null":
                members[name] = lifted
        renamed = self._schema.renamed
        return {renamed.get(name, name): value for name, value in members.items()} if renamed else members
