"""One window of events, from the request to the spool. It comes whole, or not at all.

A window is requested, its body decompressed, converted into records and spooled while it arrives. If the body is not
whole, it is discarded and requested again, at last in two halves. Nothing of a window leaves this module before its
last byte is known to be right.

`Conversion` is the part that can run in a worker process: so this module imports neither an HTTP library nor the SDK.
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

# Retries of each half of a window that failed.
HALF_RETRIES = 1

# Compressed bytes of a body in which its first lines are looked for; decompressed, at most `MIB`.
SAMPLE_BYTES = 256 * 1024

# Days by which `time` can differ from those requested: Mixpanel selects by the project's present zone, and `time` holds
# the one it had when the event came. Zones are up to 26 hours apart.
ZONE_SHIFT = 2 * DAY

EPOCH = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class DeliveredWindow:
    """What a window delivers.

    Attributes:
        date_range: The window, and how it was requested.
        until: The instant before which all events are delivered once the window is.
        rows: Events by day, if they are counted.
    """

    date_range: DateRange
    until: dt.datetime
    rows: Mapping[dt.date, int]


@dataclass
class FetchResult:
    """What fetching a window brought: one chunk, or those of its halves, or an error after some or none of them.

    Attributes:
        date_range: The window.
        chunks: The chunks in order, each with what it delivers.
        sample: The first lines of each response.
        failure: The error, to be raised once the chunks are out.
    """

    date_range: DateRange
    chunks: list[tuple[SpooledChunk, DeliveredWindow]] = field(default_factory=list)
    sample: list[bytes] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def rows(self) -> int:
        """Return the number of lines, good and bad."""
        return sum(chunk.records + chunk.rejected for chunk, _ in self.chunks)

    @property
    def decompressed_bytes(self) -> int:
        """Return the decompressed size of the responses."""
        return sum(chunk.decompressed_bytes for chunk, _ in self.chunks)

    def close(self) -> None:
        """Close the chunks."""
        for chunk, _ in self.chunks:
            chunk.close()


@dataclass
class RetryAllowance:
    """Why a window may still be requested again.

    Attributes:
        tries_left: Tries left, whatever the reason.
        bad_line_retry_left: Whether a malformed line is a reason: it may be a truncated one. Once only.
        other_days_retry_left: Whether events of neighbouring days only are a reason. Once only.
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
            client: The connection to Mixpanel.
            settings: Filters, format, retries and what to do with malformed lines.
            schema: The schema of the records.
            envelope: What stands around each record.
            columns: The columns to deliver; None for all.
            log: Receives a line for each try that failed.
            workers: Worker processes; None to convert in the thread that fetches.
            row_counts: Says of which windows the events are counted by day; None for none.
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
        """Fetch a window, with retries, finally in halves.

        Args:
            planner: Receives the size of the window.
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
        except Exception as error:  # noqa: BLE001 - raised in the window's place in the order
            result.failure = error
        return result

    def fetch_sample(self, date_range: DateRange, count: int) -> SpooledChunk:
        """Fetch at most `count` events of some days, with retries.

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
        """Fill a chunk with a window, or with its beginning, which must not be delivered. Does not retry.

        Args:
            date_range: The window.
            chunk: An empty chunk.
            is_enough: Called for each block of the body; true ends the reading.
            sample_lines: How many lines to return.

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
        """Request one event, and drop it. Does not retry.

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
        """Fetch a window or a half of it with retries, and add it to a result."""
        allowance = RetryAllowance(1 + max_retries)
        retrying = Retrying(self._client.clock, max_retries, self._logger(date_range))
        retrying(functools.partial(self._try, result, date_range, allowance, limit))

    def _try(self, result: FetchResult, date_range: DateRange, allowance: RetryAllowance, limit: int | None) -> None:
        """Request a window once, and add it to a result if its body is whole."""
        allowance.tries_left -= 1
        request = self._request(date_range, limit)
        window = date_range.window
        try:
            with translate_errors(request.what), SpooledChunk(what=request.what).filling() as chunk:
                with self._open(request) as response:
                    if date_range.processed:
                        refuse_clock_ahead(self._client, request.what, "incremental_by: ingestion_time")
                    sample = self._fill(chunk, response, date_range, self._check_stopped).lines(LINES_PER_WINDOW)
                _refuse_other_days(request.what, window, sample, allowance)
        except BadLineError as error:
            if not allowance.bad_line_retry_left:
                raise
            allowance.bad_line_retry_left = False
            raise BrokenBody(str(error)) from None
        chunk.extent, chunk.received = window.days, response.received
        known_at = date_range.processed.before if date_range.processed else response.requested_at
        days = {day: (day - EPOCH).days for day in window.dates()}
        rows = {day: chunk.days[number] for day, number in days.items() if number in chunk.days}
        until = end_instant(window, self._settings.zone, known_at)
        result.chunks.append((chunk, DeliveredWindow(date_range, until, rows)))
        result.sample += sample

    def _request(self, date_range: DateRange, limit: int | None = None) -> Request:
        settings = self._settings
        options = ExportOptions(
            tuple(settings.event_names), settings.events_where, settings.time_in_ms, limit, date_range.processed
        )
        # A back-fill that the next run can continue leaves an hour's wait to the requests after it.
        reserve_seconds = HOUR if date_range.is_history else 0.0
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
        """Convert a response into a chunk, and return its beginning."""
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
            counts_days=self._row_counts is not None and self._row_counts.needs(date_range.window),
        )
        sample = Sample(response.blocks(), conversion.content_encoding)
        if self._workers:
            self._workers.fill(conversion, sample, chunk)
        else:
            with contextlib.closing(self._conversion_lock.blocks(sample)) as blocks:
                conversion(blocks, chunk, is_enough)
        return sample

    def _check_stopped(self, _chunk: SpooledChunk) -> bool:
        self._client.clock.check()
        return False


@dataclass(frozen=True, kw_only=True)
class Conversion:
    r"""How the body of an export becomes record lines. Can be pickled, to run in a worker process.

    Attributes:
        schema: The schema of the records.
        envelope: What stands around each record.
        columns: The columns to deliver; None for all.
        zone: The zone whose wall clock the project stores.
        strip_nul: Whether to remove `\u0000` from strings.
        skip_bad_lines: Whether malformed lines are rejected; otherwise the first one raises.
        content_encoding: How the body is compressed.
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
        """Fill a chunk with a whole body.

        Args:
            blocks: The body as sent. Ends without an error only if the HTTP framing did.
            chunk: An empty chunk.
            is_enough: Called for each decompressed block; may raise, and true ends the reading early, with a chunk that
                is not whole. A block as sent can decompress to 64 MiB.

        Raises:
            BrokenBody: The body is not whole.
            TruncatedBody: Mixpanel truncated it.
            BadLine: A line is malformed, and such lines are not rejected.
            LineTooLong: A line does not end.
            SpoolError: The chunk could not be kept.
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
    """The blocks of a body as sent, the first of which are kept."""

    def __init__(self, blocks: Iterator[bytes], content_encoding: ContentEncoding) -> None:
        self._blocks = blocks
        self._content_encoding = content_encoding
        self._kept: list[bytes] = []
        self._left = SAMPLE_BYTES

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        if self._left > 0:
            self._kept.append(block)
            self._left -= len(block)
        return block

    def lines(self, count: int) -> list[bytes]:
        """Return the first `count` lines, or as many as were kept."""
        text = bytearray()
        # The blocks that were kept are mostly not a whole body, which the conversion has judged.
        with contextlib.suppress(BrokenBody):
            for block in decompress(self._kept, self._content_encoding):
                text += block
                if len(text) >= MIB or text.count(b"\n") >= count:
                    break
        return bytes(text).split(b"\n", count)[:-1]


def refuse_clock_ahead(client: Client, what: str, setting: str) -> None:
    """Refuse to go by this machine's clock if it is ahead of Mixpanel's: events in between would be missed.

    Args:
        client: The connection, which has just received a response.
        what: What was requested.
        setting: The setting by which the stream goes by the clock.

    Raises:
        StreamError: The clock is too far ahead.
    """
    lead = client.clock_lead
    if lead is not None and lead > MAX_CLOCK_LEAD:
        raise StreamError(
            f"{what}: this machine's clock is {lead.total_seconds() / 60:.0f} minutes ahead of "
            f"Mixpanel's: correct it, since {setting} depends on it"
        )


def _refuse_other_days(what: str, window: Window, sample: list[bytes], allowance: RetryAllowance) -> None:
    """Refuse a response whose first events all lie outside the days requested: it may belong to another request.

    Raises:
        BrokenBody: All of them do. Events of neighbouring days are refused once only, and not in the last try.
    """
    days = stored_days(sample)
    is_strict = allowance.other_days_retry_left and allowance.tries_left
    shift = dt.timedelta() if is_strict else ZONE_SHIFT
    if days and not any(window.first - day <= shift and day - window.last <= shift for day in days):
        allowance.other_days_retry_left = False
        raise BrokenBody(f"{what}: the response has events of other days, such as {min(days)}")
