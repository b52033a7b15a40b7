"""JSON schemas of records.

The free-form object is spelled as it is, without `properties`, because that is what targets turn into one jsonb, JSON
or VARIANT column. With an empty `properties` beside it some store nothing.
"""

from __future__ import annotations

from typing import Any

STRING: dict[str, Any] = {"type": "string"}
STRING_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
STRING_OR_INTEGER: dict[str, Any] = {"type": ["string", "integer"]}
INSTANT: dict[str, Any] = {"type": "string", "format": "date-time"}
OPEN_OBJECT: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": True}


def record_schema(key_properties: tuple[str, ...], columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of a stream's records, whose key columns are never missing."""
    return {"type": "object", "properties": columns, "required": list(key_properties)}
