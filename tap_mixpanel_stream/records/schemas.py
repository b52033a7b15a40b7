"""JSON schemas of records.

The schema of an object with arbitrary keys has no `properties`. Targets load such an object into one jsonb, JSON or
VARIANT column. If the schema had an empty `properties`, some targets would store nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .property_columns import PROPERTY_SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .property_columns import PropertyColumn

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
STRING_OR_NULL: JsonSchema = {"type": ["string", "null"]}
STRING_OR_INTEGER: JsonSchema = {"type": ["string", "integer"]}
INSTANT: JsonSchema = {"type": "string", "format": "date-time"}
OPEN_OBJECT: JsonSchema = {"type": ["object", "null"], "additionalProperties": True}


def with_property_columns(
    columns: dict[str, JsonSchema], property_columns: Sequence[PropertyColumn]
) -> dict[str, JsonSchema]:
    """Return the columns of normalized records, followed by those that the user chose."""
    return columns | {column.name: PROPERTY_SCHEMAS[column.type] for column in property_columns}


class RecordSchema(ABC):
    """The columns and the key of a stream's records.

    Each subclass has a `converter` property, which creates the converter for its records.

    Attributes:
        key_properties: The columns that identify a record; empty if the stream has no key.
        property_columns: The properties that the user chose as columns. Raw records have none.
    """

    key_properties: tuple[str, ...]
    property_columns: tuple[PropertyColumn, ...] = ()

    @property
    @abstractmethod
    def column_schemas(self) -> dict[str, JsonSchema]:
        """The JSON schema of each column, in order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.column_schemas)

    @property
    def schema(self) -> JsonSchema:
        """The JSON schema of a record. The key columns are required."""
        return {"type": "object", "properties": self.column_schemas, "required": list(self.key_properties)}
