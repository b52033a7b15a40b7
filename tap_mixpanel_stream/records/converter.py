"""What all converters share: the columns they are to write, and how finished records become lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .nul import without_nul

if TYPE_CHECKING:
    from .envelope import Envelope


class Converter:
    r"""Converts what Mixpanel sends into the records of one stream.

    Args:
        envelope: what stands around each record.
        selected: the columns wanted; None for all.
        strip_nul: take `\u0000` out of the strings of records.

    Attributes:
        schema: the JSON schema of a record.
        key_properties: the columns that tell records apart; empty where none do.
        columns: the schema's columns, in order.
        records: records made.
        nuls: `\u0000` taken out.
    """

    schema: ClassVar[dict[str, Any]]
    key_properties: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False) -> None:
        self.records = 0
        self.nuls = 0
        self._envelope = envelope
        self._left_out = frozenset() if selected is None else frozenset(self.columns) - selected
        self._strip_nul = strip_nul

    def _finished(self, records: bytes) -> bytes:
        r"""Put records, each ended by `\n`, into their envelopes."""
        # JSON lets a raw carriage return stand between tokens only, where a space means the same. To a target that
        # reads text it would end the line.
        lines = self._envelope.around(records.replace(b"\r", b" "))
        if self._strip_nul:
            lines, nuls = without_nul(lines)
            self.nuls += nuls
        return lines
