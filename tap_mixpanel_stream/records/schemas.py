"""The schema of a stream's records.

An open object is written without `properties`: targets turn it into one jsonb, JSON or VARIANT column. With an empty
`properties` beside it some targets store nothing.
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
    """Return the columns of normalized records with the chosen ones after them."""
    return columns | {column.name: PROPERTY_SCHEMAS[column.type] for column in property_columns}


class RecordSchema(ABC):
    """The columns and the key of a stream's records. Its method `converter` makes what converts them.

    Attributes:
        key_properties: The columns that identify a record; empty where there is no key.
        property_columns: The properties that the user chose as columns; only normalized records have such columns.
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
        """The JSON schema of a record, in which the key columns are required."""
        return {"type": "object", "properties": self.column_schemas, "required": list(self.key_properties)}
