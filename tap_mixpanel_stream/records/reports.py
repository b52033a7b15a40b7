"""Convert the rows of reports and lists: documented fields become columns, all other fields go to the column `other`.

A value that does not fit the type of its column goes to `other` too, and the column is null. No data is lost, and every
target accepts the record. Cohorts, funnels, event counts and the like have small responses, so they are converted
record by record.
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
"""The column for all fields without their own column."""


_read_objects = msgspec.json.Decoder(list[Members | None]).decode


def _is_string(value: bytes) -> bool:
    return value.startswith(b'"')


def _is_list_of_objects(value: bytes) -> bool:
    try:
        _read_objects(value)
    except msgspec.ValidationError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Column:
    """The type of a column. `schema` does not allow null; `nullable` returns the schema that does.

    Attributes:
        schema: The JSON schema of the values.
        accepts: Returns whether a JSON text fits the column.
        as_text: Whether to write every value as a string.
    """

    schema: JsonSchema
    accepts: Callable[[bytes], bool]
    as_text: bool = False

    def nullable(self) -> JsonSchema:
        """Return the JSON schema with null allowed."""
        return {**self.schema, "type": [self.schema["type"], "null"]}


INTEGER = Column({"type": "integer"}, is_64_bit_integer)
NUMBER = Column({"type": "number"}, is_finite_number)
TEXT = Column(STRING, _is_string)
ID_TEXT = Column(STRING, lambda value: _is_string(value) or is_64_bit_integer(value), as_text=True)
"""An id: a string or a 64-bit integer, written as a string."""
DAY = Column({"type": "string", "format": "date"}, _is_string)
OBJECTS = Column(
    {"type": "array", "items": {"type": ["object", "null"], "additionalProperties": True}}, _is_list_of_objects
)
OBJECT = Column({"type": "object", "additionalProperties": True}, lambda value: value.startswith(b"{"))


@dataclass(frozen=True, slots=True)
class Row:
    """The source of one record.

    Attributes:
        text: The JSON text of an object in the response.
        extra_fields: The JSON texts of additional fields, by name. They override fields of the same name in `text`.
    """

    text: bytes = b"{}"
    extra_fields: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportSchema(RecordSchema):
    """The schema of the records of a report or list.

    Attributes:
        fields: The columns for documented fields, by name, in order.
        key_properties: The columns that identify a record.
        flattened: Object fields whose members become columns, such as `user` with `id` to `user_id`.
        has_other: Whether the stream has the column `other`. If not, fields without a column are dropped.
        renamed: By field, the name of its column if that differs.
    """

    fields: Mapping[str, Column]
    key_properties: tuple[str, ...]
    flattened: tuple[str, ...] = ()
    has_other: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def column_schemas(self) -> dict[str, JsonSchema]:
        """The JSON schema of each column, in order."""
        columns = {
            name: column.schema if name in self.key_properties else column.nullable()
            for name, column in self.fields.items()
        }
        return columns | ({OTHER: OPEN_OBJECT} if self.has_other else {})

    @property
    def converter(self) -> partial[ReportConverter]:
        """A factory for the stream's converter. Takes the arguments of `Converter` except `schema`."""
        return partial(ReportConverter, self)


class ReportConverter(Converter):
    """Converts the rows of a report or list."""

    _schema: ReportSchema

    def convert(self, rows: Sequence[Row]) -> bytes:
        """Return the lines to write, one for each row.

        Raises:
            BadRow: A row is malformed. No row is converted.
        """
        lines = self._to_lines(b"".join(self._line(index, row) for index, row in enumerate(rows)))
        self.records += len(rows)
        return lines

    def _line(self, index: int, row: Row) -> bytes:
        try:
            record = convert_masked(lambda text: self._record(text, row.extra_fields), row.text)
        except NotARecord as error:
            raise BadRow(index, str(error), row.text) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRow(index, f"not a JSON object: {error}", row.text) from None
        # A row can span lines, if Mixpanel indents the response. Between tokens a space is equivalent to a newline.
        return record.replace(b"\n", b" ") + b"\n"

    def _record(self, text: bytes, extra_fields: Mapping[str, bytes]) -> bytes:
        members = self._flatten(text) | {name: msgspec.Raw(value) for name, value in extra_fields.items()}
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
        if self._schema.has_other:
            record[OTHER] = msgspec.Raw(encode(other | members))
        return without(self._deselected, record)

    def _flatten(self, text: bytes) -> Members:
        """Return the members of an object, with the `flattened` fields replaced by their members."""
        members = read_members(text)
        for name in self._schema.flattened:
            field_value = members.pop(name, NULL)
            if bytes(field_value).startswith(b"{"):
                members |= {f"{name}_{key}": value for key, value in read_members(field_value).items()}
            elif bytes(field_value) != b"null":
                members[name] = field_value
        renamed = self._schema.renamed
        return {renamed.get(name, name): value for name, value in members.items()} if renamed else members
