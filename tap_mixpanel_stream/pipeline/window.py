"""Fetch one window of events into the spool.

While the response arrives, it is decompressed, converted to records and spooled. If it turns out to be incomplete, the
chunk is discarded and the window is requested again. If the last retry fails too, the window is requested in two
halves. Records become available only after the whole response has been checked.

`Conversion` can run in a worker process, which should start fast, so this module imports neither an HTTP library nor
the SDK.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..delivery.spool import SpooledChunk
from ..mixpanel.decompression import decompress
from ..mixpanel.errors import BrokenBody, Transient
from ..mixpanel.export import ExportOptions, export_request
from ..mixpanel.quota import HOUR
from ..mixpanel.retry import Retrying
from ..records.event_tally import EventTally
from ..records.json_lines import LineCutter
from ..records.timezone_check import LINES_PER_WINDOW, stored_days
from ..replication.state import MAX_CLOCK_LEAD
from ..replication.windows import DAY, MIB, end_instant
from .errors import BadLineError, StreamError, translate_errors
from .workers import ConversionLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from zoneinfo import ZoneInfo

    from ..mixpanel.client import Client, Response
    from ..mixpanel.decompression import ContentEncoding
    from ..mixpanel.request import Request
    from ..records.converter import Envelope
    from ..records.errors import BadLine
    from ..records.events import EventSchema
    from ..replication.row_counts import RowCounts
    from ..replication.windows import DateRange, Window, WindowPlanner
    from ..settings import Settings
    from .workers import Workers

# Retries of each half of a window that failed as a whole.
HALF_RETRIES = 1

# Compressed bytes of a body to keep for the sample. At most about `MIB` bytes of it are decompressed.
SAMPLE_BYTES = 256 * 1024

# How far `time` can be from the requested days: Mixpanel selects by the project's current time zone, but `time` is in
# the zone that the project had when the event arrived. Zones are up to 26 hours apart.
ZONE_SHIFT = 2 * DAY

EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class DeliveredWindow:
    """What is known about a window after its delivery. Used to move the bookmark.

    Attributes:
        date_range: The window, and how it was requested.
        until: The end of the delivered period: all earlier events have then been delivered.
        rows: The number of events by day, for the days that are counted.
    """

    date_range: DateRange
    until: dt.datetime
    rows: Mapping[dt.date, int]


@dataclass
class FetchResult:
    """The result of fetching a window: one chunk, or two if it was fetched in halves, or an error.

    If the first half succeeds and the second fails, there is a chunk and an error.

    Attributes:
        date_range: The window.
        chunks: The chunks in order of delivery.
        sample: The first lines of each response.
        failure: The error, to be raised after the chunks are delivered.
    """

    date_range: DateRange
    chunks: list[tuple[SpooledChunk, DeliveredWindow]] = field(default_factory=list)
    sample: list[bytes] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def rows(self) -> int:
        """The number of lines, rejected ones included."""
        return sum(chunk.records + chunk.rejected for chunk, _ in self.chunks)

    @property
    def decompressed_bytes(self) -> int:
        """The decompressed size of the responses."""
        return sum(chunk.decompressed_bytes for chunk, _ in self.chunks)

    def close(self) -> None:
        """Close the chunks."""
        for chunk, _ in self.chunks:
            chunk.close()


@dataclass
class RetryAllowance:
    """The retries that a window still has.

    Attributes:
        tries_left: The number of tries left in total.
        bad_line_retry_left: Whether to retry once after a malformed line, which can be the result of truncation.
        other_days_retry_left: Whether to retry once if all events are from adjacent days.
    """

    tries_left: int
    bad_line_retry_left: bool = True
    other_days_retry_left: bool = True


class WindowFetcher:
    """Fetches windows of events. Can be used from several threads."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        schema: EventSchema,
        envelope: Envelope,
        *,
        columns: frozenset[str] | None,
        log: logging.Logger,
        workers: Workers | None = None,
        row_counts: RowCounts | None = None,
        collects_names: bool = False,
    ) -> None:
        """Prepare to fetch windows.

        Args:
            client: The API client.
            settings: The settings for filters, record format, retries and malformed lines.
            schema: The schema of the records.
            envelope: The RECORD message around each record.
            columns: The columns to deliver; None for all.
            log: Receives a warning for each failed try.
            workers: The worker processes; None to convert in the fetching thread.
            row_counts: Selects the windows whose events are counted by day; None to count no events.
            collects_names: Whether to collect the names of the events.
        """
        self._client = client
        self._settings = settings
        self._schema = schema
        self._envelope = envelope
        self._columns = columns
        self._log = log
        self._workers = workers
        self._row_counts = row_counts
        self._collects_names = collects_names
        self._conversion_lock = ConversionLock()

    def fetch(self, planner: WindowPlanner, date_range: DateRange) -> FetchResult:
        """Fetch a window, with retries. If all of them fail, fetch the window in two halves.

        Args:
            planner: Receives the size of the response.
            date_range: The window.
        """
        result = FetchResult(date_range)
        try:
            try:
                self._fetch_into(result, date_range, self._settings.max_retries)
            except Transient as error:
                if date_range.window.days == 1:
                    raise
                planner.report(date_range, 0, was_truncated=True)
                self._logger(date_range).warning("%s; retrying in two halves", error)
                for half in date_range.halves():
                    self._fetch_into(result, half, HALF_RETRIES)
                planner.report_halves(result.decompressed_bytes)
            else:
                planner.report(date_range, result.decompressed_bytes)
        except Exception as error:  # noqa: BLE001 - raised when this window is due for delivery
            result.failure = error
        return result

    def fetch_sample(self, date_range: DateRange, count: int) -> SpooledChunk:
        """Fetch up to `count` events, with retries.

        Raises:
            MixpanelError: The request failed.
            StreamError: The response cannot be delivered.
        """
        result = FetchResult(date_range)
        self._fetch_into(result, date_range, self._settings.max_retries, limit=count)
        return result.chunks[0][0]

    def read_beginning(
        self,
        date_range: DateRange,
        chunk: SpooledChunk,
        is_enough: Callable[[SpooledChunk], bool],
        sample_lines: int,
    ) -> list[bytes]:
        """Read a window, or only its beginning, into a chunk that must not be delivered. Does not retry.

        Args:
            date_range: The window.
            chunk: An empty chunk.
            is_enough: Called for each block of the body. Returns true to stop reading.
            sample_lines: The number of lines to return.

        Returns:
            The first lines of the response.

        Raises:
            MixpanelError: The request failed.
            StreamError: The response cannot be converted.
        """
        request = self._request(date_range)
        with translate_errors(request.what), self._open(request) as response:
            try:
                return self._fill(chunk, response, date_range, is_enough).lines(sample_lines)
            finally:
                chunk.received = response.received

    def check_access(self, date_range: DateRange) -> None:
        """Request one event and discard it. Does not retry.

        Raises:
            MixpanelError: The request failed.
        """
        with self._open(self._request(date_range, limit=1)) as response:
            for _ in decompress(response.blocks(), response.content_encoding):
                pass

    def _logger(self, date_range: DateRange) -> logging.LoggerAdapter[logging.Logger]:
        return logging.LoggerAdapter(self._log, {"stream_name": "events", "window": str(date_range.window)})

    def _fetch_into(
        self, result: FetchResult, date_range: DateRange, max_retries: int, limit: int | None = None
    ) -> None:
        """Fetch a window, or half of one, with retries, and add it to a result."""
        allowance = RetryAllowance(1 + max_retries)
        retrying = Retrying(self._client.clock, max_retries, self._logger(date_range))
        retrying(functools.partial(self._try, result, date_range, allowance, limit))

    def _try(self, result: FetchResult, date_range: DateRange, allowance: RetryAllowance, limit: int | None) -> None:
        """Request a window once, and add it to a result if the response is complete."""
        allowance.tries_left -= 1
        request = self._request(date_range, limit)
        window = date_range.window
        try:
            with translate_errors(request.what), SpooledChunk(what=request.what).filling() as chunk:
                with self._open(request) as response:
                    if date_range.processed:
                        check_clock_lead(self._client, request.what, "incremental_by: ingestion_time")
                    sample = self._fill(chunk, response, date_range, self._check_stopped).lines(LINES_PER_WINDOW)
                _check_days(request.what, window, sample, allowance)
        except BadLineError as error:
            if not allowance.bad_line_retry_left:
                raise
            allowance.bad_line_retry_left = False
            raise BrokenBody(str(error)) from None
        chunk.extent, chunk.received = window.days, response.received
        known_at = date_range.processed.before if date_range.processed else response.requested_at
        day_numbers = {day: (day - EPOCH).days for day in window.dates()}
        rows = {day: chunk.days[number] for day, number in day_numbers.items() if number in chunk.days}
        until = end_instant(window, self._settings.zone, known_at)
        result.chunks.append((chunk, DeliveredWindow(date_range, until, rows)))
        result.sample += sample

    def _request(self, date_range: DateRange, limit: int | None = None) -> Request:
        settings = self._settings
        options = ExportOptions(
            tuple(settings.event_names), settings.events_where, settings.time_in_ms, limit, date_range.processed
        )
        # The next run can continue a back-fill, so leave the last hour of `max_quota_wait` to the requests after it.
        reserve_seconds = HOUR if date_range.is_deferrable else 0.0
        return export_request(date_range.window.first, date_range.window.last, options, reserve_seconds=reserve_seconds)

    @contextlib.contextmanager
    def _open(self, request: Request) -> Iterator[Response]:
        with self._client.open(request) as response:
            try:
                yield response
            except BrokenBody as error:
                raise response.with_context(error) from None

    def _fill(
        self,
        chunk: SpooledChunk,
        response: Response,
        date_range: DateRange,
        is_enough: Callable[[SpooledChunk], bool],
    ) -> Sample:
        """Convert a response into a chunk, and return a sample of the response."""
        settings = self._settings
        conversion = Conversion(
            schema=self._schema,
            envelope=self._envelope,
            columns=self._columns,
            zone=settings.zone,
            strip_nul=settings.strip_nul,
            skip_bad_lines=settings.bad_lines == "skip",
            content_encoding=response.content_encoding,
            collects_names=self._collects_names,
            counts_days=self._row_counts is not None and self._row_counts.is_counted(date_range.window),
        )
        sample = Sample(response.blocks(), conversion.content_encoding)
        if self._workers:
            self._workers.fill(conversion, sample, chunk)
        else:
            with contextlib.closing(self._conversion_lock.blocks(sample)) as blocks:
                conversion(blocks, chunk, is_enough)
        return sample

    def _check_stopped(self, _chunk: SpooledChunk) -> bool:
        """Return False, since a run reads whole windows. Raise `Stopped` if the client was stopped."""
        self._client.clock.check()
        return False


@dataclass(frozen=True, kw_only=True)
class Conversion:
    r"""Converts the body of an export to record lines. Can be pickled, to run in a worker process.

    Attributes:
        schema: The schema of the records.
        envelope: The RECORD message around each record.
        columns: The columns to deliver; None for all.
        zone: The time zone in which the project stores `time`.
        strip_nul: Whether to remove `\u0000` from strings.
        skip_bad_lines: Whether to skip malformed lines. If not, the first one is raised as an error.
        content_encoding: The compression of the body.
        collects_names: Whether to collect the names of the events.
        counts_days: Whether to count the events by day.
    """

    schema: EventSchema
    envelope: Envelope
    columns: frozenset[str] | None
    zone: ZoneInfo
    strip_nul: bool
    skip_bad_lines: bool
    content_encoding: ContentEncoding
    collects_names: bool = False
    counts_days: bool = False

    def __call__(
        self,
        blocks: Iterable[bytes],
        chunk: SpooledChunk,
        is_enough: Callable[[SpooledChunk], bool] | None = None,
    ) -> None:
        """Convert a body into a chunk.

        Args:
            blocks: The compressed body. Must raise if the HTTP framing is incomplete.
            chunk: An empty chunk.
            is_enough: Called for each decompressed block, since one compressed block can expand to 64 MiB. Returns true
                to stop reading, which leaves the chunk incomplete. May raise.

        Raises:
            BrokenBody: The compressed data is incomplete or corrupt.
            TruncatedBody: Mixpanel truncated the body.
            BadLine: A line is malformed, and malformed lines are not skipped.
            LineTooLong: A line is longer than any event can be.
            SpoolError: The chunk could not be written.
        """

        def reject_line(bad: BadLine) -> None:
            if not self.skip_bad_lines:
                raise bad
            chunk.reject(bad.line + b"\n", bad.number, bad.reason)

        converter = self.schema.converter(
            envelope=self.envelope,
            selected=self.columns,
            zone=self.zone,
            strip_nul=self.strip_nul,
            on_bad_line=reject_line,
            tally=self._tally(chunk),
        )
        cutter = LineCutter()
        for block in decompress(blocks, self.content_encoding):
            if is_enough and is_enough(chunk):
                break
            chunk.decompressed_bytes += len(block)
            if lines := cutter.cut(block):
                chunk.lines.write(converter.convert(lines))
        else:
            chunk.lines.write(converter.finish(cutter.rest()))
        chunk.records, chunk.nuls, chunk.misfits = converter.records, converter.nuls, dict(converter.misfits)

    def _tally(self, chunk: SpooledChunk) -> EventTally | None:
        if not (self.collects_names or self.counts_days):
            return None
        return EventTally(
            names=chunk.names if self.collects_names else None, days=chunk.days if self.counts_days else None
        )


class Sample:
    """Passes the blocks of a compressed body through and keeps the first ones."""

    def __init__(self, blocks: Iterator[bytes], content_encoding: ContentEncoding) -> None:
        self._blocks = blocks
        self._content_encoding = content_encoding
        self._kept: list[bytes] = []
        self._bytes_left = SAMPLE_BYTES

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        if self._bytes_left > 0:
            self._kept.append(block)
            self._bytes_left -= len(block)
        return block

    def lines(self, count: int) -> list[bytes]:
        """Return the first `count` lines, or fewer if the kept blocks contain fewer."""
        text = bytearray()
        # The kept blocks are usually not a whole body. The conversion has already checked that the body is complete.
        with contextlib.suppress(BrokenBody):
            for block in decompress(self._kept, self._content_encoding):
                text += block
                if len(text) >= MIB or text.count(b"\n") >= count:
                    break
        return bytes(text).split(b"\n", count)[:-1]


def check_clock_lead(client: Client, what: str, setting: str) -> None:
    """Check that this machine's clock is not ahead of Mixpanel's. Otherwise the bookmark would skip records.

    Args:
        client: The API client, which has just received a response.
        what: What was requested.
        setting: The setting that makes the stream depend on the clock.

    Raises:
        StreamError: The clock is more than `MAX_CLOCK_LEAD` ahead.
    """
    lead = client.clock_lead
    if lead is not None and lead > MAX_CLOCK_LEAD:
        raise StreamError(
            f"{what}: this machine's clock is {lead.total_seconds() / 60:.0f} minutes ahead of "
            f"Mixpanel's: correct it, since {setting} depends on it"
        )


def _check_days(what: str, window: Window, sample: list[bytes], allowance: RetryAllowance) -> None:
    """Check that a response has events from the requested days. If not, it may belong to another request.

    A response with events from adjacent days only is rejected at most once, and never in the last try.

    Raises:
        BrokenBody: No event in the sample is from the requested days.
    """
    days = stored_days(sample)
    is_strict = allowance.other_days_retry_left and allowance.tries_left
    shift = dt.timedelta() if is_strict else ZONE_SHIFT
    if days and not any(window.first - day <= shift and day - window.last <= shift for day in days):
        allowance.other_days_retry_left = False
        raise BrokenBody(f"{what}: the response has events from other days, such as {min(days)}")
