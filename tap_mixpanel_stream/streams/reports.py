"""The base class of report streams. Their endpoints are not part of every plan, and `raw` does not apply to them."""

from __future__ import annotations

import abc
import contextlib
import logging
from dataclasses import dataclass
from itertools import islice
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

# Kinds of errors that leave the stream empty: the plan does not include it, or the role has no access.
NOT_IN_PLAN = frozenset({"plan", "access"})

# Kinds of errors that concern a single item, such as a deleted cohort.
SKIPPED_KINDS = frozenset({"missing_group", "not_found", "parameter"})

MAX_CONSECUTIVE_FAILURES = 2
"""Number of consecutive failed items after which the stream stops."""


@dataclass
class Rows:
    """The rows of one chunk.

    Attributes:
        what: What was requested, for messages.
        rows: The rows to convert.
        received: The size of the responses as sent, in bytes.
        decompressed_bytes: The decompressed size of the responses.
        extent: As in `SpooledChunk`.
        delivered: The argument for `move_bookmark` after the chunk is delivered; None to leave the bookmark unchanged.
    """

    what: str
    rows: list[Row]
    received: int
    decompressed_bytes: int
    extent: int = 0
    delivered: object = None


class ReportStream(MixpanelStream):
    """A stream that is not selected by default, and stays empty if the plan or the role does not include it."""

    selected_by_default = False
    name: str
    record_schema: ClassVar[ReportSchema]
    skipped_kinds: ClassVar[frozenset[str]] = SKIPPED_KINDS
    """The kinds of errors after which a single item, such as a cohort, is skipped."""

    gone_kinds: ClassVar[frozenset[str]] = frozenset()
    """The kinds of errors of an item that no longer has rows: skipping it leaves the table complete."""

    probes_every_item: ClassVar[bool] = False
    """Whether `probe` requests every item instead of the first one that can be read."""

    def __init__(self, tap: Tap, run: Run) -> None:
        super().__init__(tap, run, self.record_schema, self.name)
        self.skipped: list[Refused] = []
        self._failures: list[MixpanelError] = []
        self._consecutive_failures = 0

    @abc.abstractmethod
    def fetch(self, limit: int | None = None) -> Iterator[Rows]:
        """Fetch the rows that this run delivers.

        Args:
            limit: Fetch only about this many records, with as few and as small requests as possible; None for all.
        """

    @property
    def retrying(self) -> Retrying:
        """The retry loop for one request."""
        return Retrying(self.clock, self.settings.max_retries, self.logger)

    @contextlib.contextmanager
    def chunks(self, envelope: Envelope) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
        """Fetch the rows, each chunk while the previous one is written."""
        source = self._pages(envelope)
        with prefetch_pages(source, on_poll=self.on_poll, stop=self.client.stop) as chunks:
            yield chunks

    def sample(self, count: int) -> SpooledChunk:
        """Fetch about `count` records."""
        return next(self._pages(BARE, limit=count), SpooledPage()).chunk or SpooledChunk()

    @property
    def nothing_to_read(self) -> str | None:
        """Why the stream sends no request; None if it sends any."""
        return None

    def probe(self) -> None:
        """Send few and small requests that show whether a run can read the stream.

        Raises:
            MixpanelError: A run would fail, or leave the stream empty (`leaves_empty`).
            StreamError: A run would fail.
        """
        self.skipped, self._failures, self._consecutive_failures = [], [], 0
        rows = self._rows(limit=1)
        for _ in rows if self.probes_every_item else islice(rows, 1):
            pass
        self._raise_failures()

    def leaves_empty(self, refused: Refused) -> bool:
        """Return whether an error before the first row leaves the stream empty instead of failing it."""
        return refused.kind in NOT_IN_PLAN and refused not in self.skipped

    @property
    def incomplete_reason(self) -> str | None:
        """Why this run did not deliver the whole table; None if it did."""
        return "a cohort, funnel or report was skipped" if self._missing_items else super().incomplete_reason

    @property
    def _missing_items(self) -> list[Refused]:
        """The errors of skipped items whose rows are missing."""
        return [refused for refused in self.skipped if refused.kind not in self.gone_kinds]

    @property
    def failed_items(self) -> int:
        """The number of items, such as cohorts, that have failed so far."""
        return len(self._failures)

    def skipping_failures(self, what: str, responses: Iterator[T]) -> Iterator[T]:
        """Yield the responses of one item, such as a cohort. If the item fails, end without raising.

        An item that Mixpanel rejects is skipped with a warning. An item that fails after all retries also fails the
        stream, but only after the remaining items are read. Otherwise every run would stop at the same item.

        Args:
            what: The kind of item, for the warning.
            responses: Fetches the responses of the item.

        Raises:
            Refused: Mixpanel rejected a response after the first one, or the error does not concern a single item.
            StreamError: `MAX_CONSECUTIVE_FAILURES` items failed, so the cause is probably not a single item.
        """
        has_started = False
        try:
            for response in responses:
                has_started = True
                yield response
        except Refused as refused:
            if has_started or refused.kind not in self.skipped_kinds:
                raise
            self.log("%s. Skipping this %s", refused, what, level=logging.WARNING)
            self.skipped.append(refused)
        except Transient as failure:
            self._failures.append(failure)
            self._consecutive_failures += 1
            if self._consecutive_failures == MAX_CONSECUTIVE_FAILURES:
                self._raise_failures()
            self.log("%s. Reading the next %s; the stream will fail at its end", failure, what, level=logging.WARNING)
            return
        self._consecutive_failures = 0

    def _raise_failures(self) -> None:
        """Raise the errors of failed items, if there are any."""
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            failures = "; ".join(map(str, self._failures))
            raise StreamError(f"{self.name}: {len(self._failures)} requests failed: {failures}")

    def _rows(self, limit: int | None = None) -> Iterator[Rows]:
        """Fetch the rows, and raise the errors of failed items at the end."""
        has_rows = False
        for rows in self.fetch(limit):
            has_rows = True
            yield rows
        self._raise_failures()
        # If Mixpanel rejected all items, the cause is not a single item.
        if self._missing_items and not has_rows and not self.has_earlier_rows:
            raise self._missing_items[0]

    def _pages(self, envelope: Envelope, limit: int | None = None) -> Iterator[SpooledPage]:
        has_started = False
        try:
            for rows in self._rows(limit):
                yield SpooledPage(self._convert(rows, envelope), rows.delivered)
                has_started = True
        except Refused as refused:
            # After the first rows, ending without an error would leave the table incomplete.
            if has_started or not self.leaves_empty(refused):
                raise
            self.is_without_access = True
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
