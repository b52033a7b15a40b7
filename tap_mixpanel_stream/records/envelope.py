"""What stands around a record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Envelope:
    r"""The bytes before and after a record's own.

    Attributes:
        head: what comes before the record.
        tail: what comes after it, `\n` at its end.
    """

    head: bytes
    tail: bytes

    def around(self, records: bytes) -> bytes:
        r"""Put records into their envelopes.

        Args:
            records: JSON texts, each ended by `\n`; may be empty.
        """
        if not records:
            return b""
        return b"".join((self.head, records[:-1].replace(b"\n", self.tail + self.head), self.tail))


BARE = Envelope(b"", b"\n")
"""The record alone on its line: batch files, and the way record by record."""


def record_envelope(stream: str, time_extracted: datetime, version: int | None = None) -> Envelope:
    """Make the envelope of a stream's RECORD messages.

    Args:
        stream: the stream's name.
        time_extracted: when the records were asked for, with its zone.
        version: the table version, where the target is to drop older rows.

    Raises:
        ValueError: `time_extracted` has no zone.
    """
    if time_extracted.tzinfo is None:
        raise ValueError("time_extracted needs a time zone")
    after = {"time_extracted": time_extracted.astimezone(UTC).isoformat()}
    versioned = after if version is None else {"version": version, **after}
    return Envelope(
        head=b'{"type":"RECORD","stream":%b,"record":' % json.dumps(stream).encode(),
        tail=b",%b\n" % json.dumps(versioned, separators=(",", ":"))[1:].encode(),
    )
