"""What report streams share: flat records, `raw` or not, from responses that not every plan includes."""

from __future__ import annotations

import abc
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from ..delivery.spool import SpooledChunk
from ..mixpanel.errors import MixpanelError, Refused, Transient
from ..mixpanel.retry import Retrying
from ..pipeline.errors import StreamError, translate_errors
from ..pipeline.prefetch import SpooledPage, prefetch_pages
from ..records.converter import BARE
from .base import MixpanelStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk import Tap

    from ..records.converter import Envelope
    from ..records.reports import ReportSchema, Row
    from ..run import Run

T = TypeVar("T")

# Refusals that leave the stream empty: the plan does not include it, or the role may not see it.
NOT_IN_PLAN = frozenset({"plan", "access"})

# Refusals that concern a single item, such as a cohort that was deleted.
LEFT_OUT = frozenset({"missing_group", "not_found", "parameter"})

MOST_FAILED_IN_A_ROW = 2
"""Items of a stream that may fail one after the other before the stream gives up the rest."""


@dataclass
class Rows:
    """The rows of one chunk.

    Attributes:
        what: What was requested, for messages.
        rows: The rows to convert.
        received: Bytes of the responses, as sent.
        decompressed_bytes: Bytes of the responses, decompressed.
        extent: How much of its stream it covers, in the stream's unit.
        delivered: The argument of `move_bookmark` once the chunk is out; None if it moves no bookmark.
    """

    what: str
    rows: list[Row]
    received: int
    decompressed_bytes: int
    extent: int = 0
    delivered: object = None


class ReportStream(MixpanelStream):
    """A stream that is not selected by default, and stays empty if the project's plan or role does not include it."""

    selected_by_default = False
    name: str
    record_schema: ClassVar[ReportSchema]
    kinds_left_out: ClassVar[frozenset[str]] = LEFT_OUT
    """The kinds of refusals by which one item, such as a cohort, is left out."""

    def __init__(self, tap: Tap, run: Run) -> None:
        super().__init__(tap, run, self.record_schema, self.name)
        self._left_out: list[Refused] = []
        self._failures: list[MixpanelError] = []
        self._failed_in_a_row = 0

    @abc.abstractmethod
    def fetch(self, few: int | None = None) -> Iterator[Rows]:
        """Fetch what this run is to deliver.

        Args:
            few: Fetch about so many records only, by the smallest request possible.
        """

    @property
    def retrying(self) -> Retrying:
        """Return how often to try one request."""
        return Retrying(self.clock, self.settings.max_retries, self.logger)

    @contextlib.contextmanager
    def chunks(self, envelope: Envelope) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
        """Fetch response by response."""
        source = self._pages(envelope)
        with prefetch_pages(source, on_poll=self.on_poll, stop=self.client.stop) as chunks:
            yield chunks

    def sample(self, count: int) -> SpooledChunk:
        """Fetch a few records."""
        return next(self._pages(BARE, few=count), SpooledPage()).chunk or SpooledChunk()

    @property
    def gap(self) -> str | None:
        """Return why this run did not deliver the whole table, None if it did."""
        # The rows of a cohort whose group was deleted are gone for good.
        is_kept = any(refused.kind != "missing_group" for refused in self._left_out)
        return "a cohort, funnel or report was skipped" if is_kept else super().gap

    @property
    def failed_items(self) -> int:
        """Return how many items of the stream, such as cohorts, have failed so far."""
        return len(self._failures)

    def skipping_failures(self, what: str, responses: Iterator[T]) -> Iterator[T]:
        """Yield the responses of one item, such as a cohort, and end without an error if only this item fails.

        An item that Mixpanel refuses is left out with a warning. One that fails after all retries fails the stream too,
        but only after the items behind it: otherwise each run would stop at it.

        Args:
            what: What kind of item it is, for the warning.
            responses: Fetches them.

        Raises:
            Refused: Mixpanel refuses a later response: half of an item is not a success.
            StreamError: The second item in a row failed, so the cause is likely no single item.
        """
        begun = False
        try:
            for response in responses:
                begun = True
                yield response
        except Refused as refused:
            if begun or refused.kind not in self.kinds_left_out:
                raise
            self.log("%s. Skipping this %s", refused, what, level=logging.WARNING)
            self._left_out.append(refused)
        except Transient as failure:
            self._failures.append(failure)
            self._failed_in_a_row += 1
            if self._failed_in_a_row == MOST_FAILED_IN_A_ROW:
                self._raise_failures()
            self.log("%s. Reading the next %s; the stream will fail at its end", failure, what, level=logging.WARNING)
            return
        self._failed_in_a_row = 0

    def _raise_failures(self) -> None:
        """Fail with what the items failed with, if any did."""
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            failures = "; ".join(map(str, self._failures))
            raise StreamError(f"{self.name}: {len(self._failures)} requests failed: {failures}")

    def _pages(self, envelope: Envelope, few: int | None = None) -> Iterator[SpooledPage]:
        begun = False
        try:
            for rows in self.fetch(few):
                yield SpooledPage(self._convert(rows, envelope), rows.delivered)
                begun = True
            self._raise_failures()
            # If Mixpanel refuses all of them, none of them is the cause, unless their groups were deleted.
            for refused in () if begun or self.has_earlier_rows else self._left_out:
                if refused.kind != "missing_group":
                    raise refused
        except Refused as refused:
            # Once something is out, an end without an error would leave half a table behind.
            if begun or refused.kind not in NOT_IN_PLAN:
                raise
            self.is_withheld = True
            self.log("%s. The stream stays empty", refused, level=logging.WARNING)

    def _convert(self, rows: Rows, envelope: Envelope) -> SpooledChunk:
        converter = self.record_schema.converter(
            envelope=envelope, selected=self.selected_columns, strip_nul=self.settings.strip_nul
        )
        with translate_errors(rows.what), SpooledChunk(what=rows.what).filling() as chunk:
            chunk.lines.write(converter.convert(rows.rows))
        chunk.extent, chunk.received, chunk.decompressed_bytes = rows.extent, rows.received, rows.decompressed_bytes
        chunk.records, chunk.nuls = converter.records, converter.nuls
        return chunk
