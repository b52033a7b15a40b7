"""Shaping: from a window's body, as it was sent, to its portion, checked to the last byte.

It is all that a worker process has to know, so it can be pickled and needs neither HTTP nor Singer's SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..mixpanel.decompression import unpacked
from ..records.event_counts import EventCounts
from ..records.json_lines import LineCutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from zoneinfo import ZoneInfo

    from ..delivery.spooled_chunk import Portion
    from ..mixpanel.decompression import Packing
    from ..records.envelope import Envelope
    from ..records.errors import BadLine
    from ..records.shapes import EventShape


@dataclass(frozen=True, kw_only=True)
class Shaping:
    r"""How the body of an export becomes record lines.

    Attributes:
        shape: As it came, or normalized.
        envelope: What stands around each record.
        selected: The columns wanted; None for all.
        zone: The zone whose wall clock the project stores.
        strip_nul: Take `\u0000` out of strings.
        skip_bad_lines: Set lines that are no events aside; otherwise the first of them ends it.
        packing: How the body is packed.
        collects_names: Collect the names of the events.
        counts_days: Count the events by day.
    """

    shape: EventShape
    envelope: Envelope
    selected: frozenset[str] | None
    zone: ZoneInfo
    strip_nul: bool
    skip_bad_lines: bool
    packing: Packing
    collects_names: bool = False
    counts_days: bool = False

    def __call__(self, blocks: Iterable[bytes], portion: Portion, check: Callable[[], None] | None = None) -> None:
        """Fill a portion with a whole body.

        Args:
            blocks: The body as sent. Ends well only if the HTTP framing did.
            portion: An empty one.
            check: Called for each unpacked block; may raise to end it. A block as sent can unpack to 64 MiB.

        Raises:
            BrokenBody: The body is not whole.
            CutShort: Mixpanel cut it short.
            BadLine: A line is no event, and such lines are not set aside.
            LineTooLong: A line does not end.
            SpoolError: The portion could not be kept.
        """

        def bad_line(bad: BadLine) -> None:
            if not self.skip_bad_lines:
                raise bad
            portion.aside.write(bad.line + b"\n")
            portion.first_aside = portion.first_aside or bad.number
            portion.set_aside += 1

        converter = self.shape(
            envelope=self.envelope,
            selected=self.selected,
            zone=self.zone,
            strip_nul=self.strip_nul,
            on_bad_line=bad_line,
            counts=self._counts(portion),
        )
        cutter = LineCutter()
        for block in unpacked(blocks, self.packing):
            if check:
                check()
            portion.unpacked += len(block)
            if lines := cutter.cut(block):
                portion.lines.write(converter.convert(lines))
        portion.lines.write(converter.finish(cutter.rest()))
        portion.complete()
        portion.records, portion.nuls = converter.records, converter.nuls

    def _counts(self, portion: Portion) -> EventCounts | None:
        if not (self.collects_names or self.counts_days):
            return None
        return EventCounts(
            names=portion.names if self.collects_names else None, days=portion.days if self.counts_days else None
        )
