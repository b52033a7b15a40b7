"""The base class of all converters, and the envelope of a RECORD message."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from .json_objects import NULL
from .property_columns import PropertyColumns

if TYPE_CHECKING:
    from datetime import datetime

    from .schemas import RecordSchema

_NUL = b"\\u0000"
# Also matches an escaped backslash, which is kept: `\\u0000` is a backslash and five characters, not a NUL.
_BACKSLASH_OR_NUL = re.compile(rb"(\\\\)|\\u0000")


@dataclass(frozen=True, slots=True)
class Envelope:
    r"""The JSON of a RECORD message before and after its record.

    Attributes:
        head: The bytes before the record.
        tail: The bytes after the record, ending with `\n`.
    """

    head: bytes
    tail: bytes

    def wrap(self, records: bytes) -> bytes:
        r"""Return the messages for records, one on each line.

        Args:
            records: JSON texts, each terminated by `\n`; may be empty.
        """
        if not records:
            return b""
        return b"".join((self.head, records[:-1].replace(b"\n", self.tail + self.head), self.tail))


BARE = Envelope(b"", b"\n")
"""No envelope: only the record on each line, for batch files and for records that the SDK processes."""


def record_envelope(stream: str, time_extracted: datetime, version: int | None = None) -> Envelope:
    """Return the envelope of a stream's RECORD messages.

    Args:
        stream: The stream's name.
        time_extracted: The time of the request, with a time zone.
        version: The table version, if the target is to delete rows of older versions; None otherwise.

    Raises:
        ValueError: `time_extracted` has no time zone.
    """
    if time_extracted.tzinfo is None:
        raise ValueError("time_extracted needs a time zone")
    fields: dict[str, Any] = {} if version is None else {"version": version}
    fields["time_extracted"] = time_extracted.astimezone(UTC).isoformat()
    return Envelope(
        head=b'{"type":"RECORD","stream":%b,"record":' % json.dumps(stream).encode(),
        tail=b",%b\n" % json.dumps(fields, separators=(",", ":"))[1:].encode(),
    )


@lru_cache
def _define_record_type(columns: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a struct type for records with these columns. The encoder omits a column that is `UNSET`."""
    return msgspec.defstruct("Record", [(column, Any, NULL) for column in columns], gc=False)


class Converter:
    r"""Converts Mixpanel's response bodies to the record lines of one stream.

    Args:
        schema: The schema of the records.
        envelope: The RECORD message around each record.
        selected: The selected columns; None for all.
        strip_nul: Whether to remove `\u0000` from the strings of records.

    Attributes:
        records: The number of records written.
        nuls: The number of `\u0000` removed.
        misfits: By property column, the number of values that became null because they do not fit the column's type.
    """

    def __init__(
        self,
        schema: RecordSchema,
        *,
        envelope: Envelope,
        selected: frozenset[str] | None = None,
        strip_nul: bool = False,
    ) -> None:
        self.records = 0
        self.nuls = 0
        self.misfits: Counter[str] = Counter()
        self._schema = schema
        self._envelope = envelope
        deselected = frozenset() if selected is None else frozenset(schema.columns) - selected
        property_columns = schema.property_columns
        self._property_columns = PropertyColumns(
            [column for column in property_columns if column.name not in deselected]
        )
        self._deselected = deselected.difference(column.name for column in property_columns)
        self._strip_nul = strip_nul

    @cached_property
    def _record_type(self) -> type[msgspec.Struct]:
        """The struct type of a normalized record: all columns except deselected property columns."""
        schema = self._schema
        fixed = schema.columns[: len(schema.columns) - len(schema.property_columns)]
        return _define_record_type((*fixed, *self._property_columns.names))

    def _count(self, records: int) -> None:
        """Count converted records, and the misfits of the last call to `PropertyColumns.read`."""
        self.records += records
        if self._property_columns.misfits:
            self.misfits.update(self._property_columns.misfits)

    def _to_lines(self, records: bytes) -> bytes:
        r"""Return the lines to write for records that are each terminated by `\n`."""
        # JSON allows a carriage return only between tokens, where a space is equivalent. A target that reads in text
        # mode would end the line at a carriage return.
        lines = self._envelope.wrap(records.replace(b"\r", b" "))
        # Searching for one byte first is ten times as fast as searching for six bytes.
        if self._strip_nul and b"\\" in lines and _NUL in lines:
            stripped = _BACKSLASH_OR_NUL.sub(rb"\1", lines)
            self.nuls += (len(lines) - len(stripped)) // len(_NUL)
            return stripped
        return lines
