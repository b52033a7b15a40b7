"""The schema of a stream's records.

An open object is written without `properties`: targets turn it into one jsonb, JSON or VARIANT column. With an empty
`properties` beside it some targets store nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
STRING_OR_NULL: JsonSchema = {"type": ["string", "null"]}
STRING_OR_INTEGER: JsonSchema = {"type": ["string", "integer"]}
INSTANT: JsonSchema = {"type": "string", "format": "date-time"}
OPEN_OBJECT: JsonSchema = {"type": ["object", "null"], "additionalProperties": True}


class RecordSchema(ABC):
    """The columns and the key of a stream's records. Its method `converter` makes what converts them.

    Attributes:
        key_properties: The columns that identify a record; empty where there is no key.
    """

    key_properties: tuple[str, ...]

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
