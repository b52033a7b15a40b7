"""Shaping: from a window's body, as it was sent, to its chunk, checked to the last byte.

It is all that a worker process has to know, so it can be pickled and needs neither HTTP nor Singer's SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..mixpanel.decompression import decompress
from ..records.event_tally import EventTally
from ..records.json_lines import LineCutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from zoneinfo import ZoneInfo

    from ..delivery.spooled_chunk import SpooledChunk
    from ..mixpanel.decompression import ContentEncoding
    from ..records.converter import Envelope
    from ..records.errors import BadLine
    from ..records.events import EventSchema


@dataclass(frozen=True, kw_only=True)
class Conversion:
    r"""How the body of an export becomes record lines.

    Attributes:
        schema: The schema of the records.
        envelope: What stands around each record.
        selected: The columns wanted; None for all.
        zone: The zone whose wall clock the project stores.
        strip_nul: Take `\u0000` out of strings.
        skip_bad_lines: Set lines that are no events aside; otherwise the first of them ends it.
        content_encoding: How the body is packed.
        collects_names: Collect the names of the events.
        counts_days: Count the events by day.
    """

    schema: EventSchema
    envelope: Envelope
    selected: frozenset[str] | None
    zone: ZoneInfo
    strip_nul: bool
    skip_bad_lines: bool
    content_encoding: ContentEncoding
    collects_names: bool = False
    counts_days: bool = False

    def __call__(self, blocks: Iterable[bytes], chunk: SpooledChunk, check: Callable[[], None] | None = None) -> None:
        """Fill a chunk with a whole body.

        Args:
            blocks: The body as sent. Ends well only if the HTTP framing did.
            chunk: An empty one.
            check: Called for each unpacked block; may raise to end it. A block as sent can unpack to 64 MiB.

        Raises:
            BrokenBody: The body is not whole.
            CutShort: Mixpanel cut it short.
            BadLine: A line is no event, and such lines are not set aside.
            LineTooLong: A line does not end.
            SpoolError: The chunk could not be kept.
        """

        def bad_line(bad: BadLine) -> None:
            if not self.skip_bad_lines:
                raise bad
            chunk.rejected_lines.write(bad.line + b"\n")
            chunk.first_rejected = chunk.first_rejected or bad.number
            chunk.rejected += 1

        converter = self.schema.converter(
            envelope=self.envelope,
            selected=self.selected,
            zone=self.zone,
            strip_nul=self.strip_nul,
            on_bad_line=bad_line,
            counts=self._counts(chunk),
        )
        cutter = LineCutter()
        for block in decompress(blocks, self.content_encoding):
            if check:
                check()
            chunk.decompressed_bytes += len(block)
            if lines := cutter.cut(block):
                chunk.lines.write(converter.convert(lines))
        chunk.lines.write(converter.finish(cutter.rest()))
        chunk.complete()
        chunk.records, chunk.nuls = converter.records, converter.nuls

    def _counts(self, chunk: SpooledChunk) -> EventTally | None:
        if not (self.collects_names or self.counts_days):
            return None
        return EventTally(
            names=chunk.names if self.collects_names else None, days=chunk.days if self.counts_days else None
        )
