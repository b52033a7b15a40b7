"""The events stream: windows of days, fetched ahead, each delivered whole or not at all."""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import functools
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..delivery.spool import SpoolError
from ..delivery.spooled_chunk import SpooledChunk
from ..mixpanel.decompression import decompress
from ..mixpanel.errors import BrokenBody, QuotaSpent, Transient
from ..mixpanel.export import ExportOptions, export_request
from ..mixpanel.quota import HOUR
from ..mixpanel.retry import Retrying
from ..pipeline.conversion import Conversion
from ..pipeline.conversion_lock import ConversionLock
from ..pipeline.prefetch import prefetch
from ..pipeline.workers import WorkerLostError, Workers
from ..records.converter import BARE
from ..records.errors import BadLine, CutShort, LineTooLong
from ..records.timezone_check import LINES, TimezoneCheck, stored_days
from ..replication.row_counts import RowCounts
from ..replication.state import DeliveredDays, ReplicationSettings, read_bookmark, settled, write_bookmark
from ..replication.windows import DAY, MIB, MOMENT, DateRange, Window, WindowPlanner, end_instant, last_day, span
from ..settings import SettingsError
from .base import EPOCH, DiskError, MixpanelStream, StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping

    from singer_sdk import Tap

    from ..mixpanel.client import Response
    from ..mixpanel.decompression import ContentEncoding
    from ..records.converter import Envelope
    from ..records.events import EventSchema
    from ..run import Run

# The halves of a window that failed are tried again this often.
RETRIES_OF_A_HALF = 1

# Bytes of a body as sent in which its first lines are looked for; unpacked, as many as `MIB` at the most.
SAMPLE_BYTES = 256 * 1024

# What a first load holds back at the most while its events do not show their zone: lines looked at, unpacked bytes, and
# windows, since each can keep files open.
HELD_LINES = 1000
HELD_BYTES = 16 * MIB
HELD_WINDOWS = 50

# Events a day from which on the windows around an empty one make it odd.
BUSY_ROWS = 100

# Days by which `time` can differ from those asked for: these go by the project's present zone, and `time` by the one it
# had when the event came. Zones are up to 26 hours apart.
SHIFT = 2 * DAY

THURSDAY = 4


@dataclass(frozen=True)
class DeliveredWindow:
    """A window that has been read whole.

    Attributes:
        date_range: The window, and how it was asked for.
        until: The instant before which all events are delivered once it is out.
        rows: Its events by day, where they are counted.
    """

    date_range: DateRange
    until: dt.datetime
    rows: Mapping[dt.date, int]


@dataclass
class FetchResult:
    """What one worker brings: a window's chunk or those of its halves, and what went wrong if not all came.

    Attributes:
        date_range: The window.
        chunks: Each with what it is a chunk of.
        failure: To be raised once the chunks are out.
    """

    date_range: DateRange
    chunks: list[tuple[SpooledChunk, DeliveredWindow]] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def rows(self) -> int:
        """Its lines, good and bad."""
        return sum(chunk.records + chunk.rejected for chunk, _ in self.chunks)

    @property
    def is_busy(self) -> bool:
        """Whether it had so many events that a neighbour without any would be odd."""
        return self.rows >= BUSY_ROWS * self.date_range.window.days

    def close(self) -> None:
        """Let go of all chunks."""
        for chunk, _ in self.chunks:
            chunk.close()


@dataclass
class RetryAllowance:
    """What a window is fetched once more for when it is seen for the first time.

    Attributes:
        tries: Tries that are left.
        left: A bad line, since a cut can look like one.
        days_left: Events of other days only, be they neighbouring ones.
    """

    tries: int
    left: bool = True
    days_left: bool = True


class EventsStream(MixpanelStream):
    """All events, by Mixpanel's raw export."""

    name = "events"
    replication_key = "event_time"
    rank = 0
    chunk_name = "window"
    unit = "days"
    api = "data"

    def __init__(self, tap: Tap, run: Run, schema: EventSchema) -> None:
        super().__init__(tap, run, schema, self.name)
        self._record_schema = schema
        self._timezone_check = TimezoneCheck()
        self._workers: Workers | None = None
        self._conversion_lock = ConversionLock()
        self._is_first_load = False
        self._row_counts: RowCounts | None = None
        self._names: set[str] = set()

    # --- The bookmark ------------------------------------------------------------------------------------------------

    def delivered(self) -> DeliveredDays:
        """What is delivered so far; nothing where everything is to be read.

        Raises:
            SettingsError: The state holds something else.
        """
        if not self.is_incremental:
            return DeliveredDays()
        try:
            return read_bookmark(self.state_before)
        except (KeyError, TypeError, ValueError) as error:
            raise self.state_error(f"is broken: {error}") from None

    def move_bookmark(self, delivered: DeliveredWindow) -> None:
        """Note a window that is out."""
        if self.is_incremental:
            before = self.delivered()
            after = before.with_range(delivered.date_range, delivered.until, self._replication_settings)
            write_bookmark(self.stream_state, before, after)
            self._note_rows(delivered)

    def _note_rows(self, delivered: DeliveredWindow) -> None:
        """Leave the rows of the look-back's days to the next run, and warn of days that had more in the last."""
        self.stream_state.pop("rows", None)
        if self._row_counts is None:
            return
        if fewer := self._row_counts.add(delivered.date_range.window, delivered.rows):
            self.log(
                "fewer events than the run before saw: %s; deleted in Mixpanel, or the response was cut",
                ", ".join(fewer),
                level=logging.WARNING,
            )
        if rows := self._row_counts.as_state():
            self.stream_state["rows"] = rows

    def _rows_before(self) -> RowCounts | None:
        """The rows that the run before saw; None where those of this run cannot be compared with them."""
        settings = self.settings
        if not self.is_incremental or self._is_filtered or settings.incremental_by == "ingestion_time":
            return None
        last = last_day(settings.end_date, self.clock.now(), settings.zone)
        try:
            return RowCounts.read(self.state_before, last, settings.lookback_days)
        except (AttributeError, TypeError, ValueError) as error:
            raise SettingsError([f"--state: the bookmark of {self.name} is broken: {error}"]) from None

    @property
    def _is_filtered(self) -> bool:
        return bool(self.settings.event_names or self.settings.events_where)

    def check_start(self) -> None:
        """Refuse a start without a first day, or from a bookmark that is broken or in the future."""
        self.start_date()
        delivered = self.delivered()
        self.refuse_future("replication_key_value", delivered.before)
        if delivered.ahead:
            begin = dt.datetime.combine(delivered.ahead.first, dt.time(), tzinfo=dt.UTC)
            self.refuse_future("ahead.from_date", begin)
            self.refuse_future("ahead.before", delivered.ahead.before)
        self.refuse_future("ingested.before", max(delivered.ingested.values(), default=None))

    # --- The windows -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def chunks(self, envelope: Envelope) -> Iterator[Iterator[tuple[SpooledChunk, DeliveredWindow]]]:
        """Fetch the windows from the bookmark, less the look-back, to the last day."""
        date_ranges = self.date_ranges()
        if not date_ranges:
            yield iter(())
            return
        self.progress.total = sum(date_range.window.days for date_range in date_ranges)
        self._is_first_load = self.delivered() == DeliveredDays()
        self._row_counts = self._rows_before()
        planner = WindowPlanner(date_ranges, self.settings.window_days)
        with contextlib.ExitStack() as ends:
            if self.settings.worker_processes:
                self._workers = ends.enter_context(Workers(self.settings.worker_processes))
            results = ends.enter_context(
                prefetch(
                    iter(planner.next, None),
                    functools.partial(self._fetch, planner, envelope),
                    ahead=self.settings.concurrent_exports,
                    on_poll=self.on_poll,
                    stop=self._stop,
                )
            )
            fetch = functools.partial(self._fetch, planner, envelope)
            confirmed = ends.enter_context(contextlib.closing(self._confirmed(results, fetch)))
            checked = ends.enter_context(contextlib.closing(self._held_back(confirmed)))
            yield self._chunks_of(planner, checked)

    def _stop(self) -> None:
        """End the requests, and the work on what they brought."""
        self.client.stop()
        if self._workers:
            self._workers.stop()

    def _chunks_of(
        self, planner: WindowPlanner, results: Iterator[FetchResult]
    ) -> Iterator[tuple[SpooledChunk, DeliveredWindow]]:
        left: QuotaSpent | None = None
        for result in results:
            with contextlib.closing(result):
                if left:  # A window beyond one that is missing: it could not be noted in the state.
                    continue
                for chunk, read in result.chunks:
                    self._names |= chunk.names
                    yield chunk, read
                if isinstance(result.failure, QuotaSpent) and result.date_range.is_history:
                    left = result.failure
                    planner.end()
                elif result.failure:
                    raise result.failure
        if left:
            self.log("the history goes on with the next run: %s", left, level=logging.WARNING)

        self._warn_of_missing_names()

    def _warn_of_missing_names(self) -> None:
        """Warn of names in `event_names` of which the run saw no event."""
        seen = {name.casefold(): name for name in self._names}
        told = []
        for name in self.settings.event_names:
            if name not in self._names:
                close = difflib.get_close_matches(name.casefold(), seen, n=1)
                told.append(f"{name!r} (the closest name seen is {seen[close[0]]!r})" if close else repr(name))
        if told:
            self.log("event_names: no event in this run is named %s", " or ".join(told), level=logging.WARNING)

    def _confirmed(
        self, results: Iterator[FetchResult], fetch: Callable[[DateRange], FetchResult]
    ) -> Generator[FetchResult]:
        """Fetch an empty window once more if the windows around it are busy, or the run before saw events of its days.

        A window that may have to be fetched again waits for the one after it. If that fails, both are left to the next
        run.
        """
        before: tuple[Window, bool] | None = None
        waiting: deque[FetchResult] = deque()
        try:
            for result in results:
                waiting.append(result)
                window = result.date_range.window
                if len(waiting) > 1:
                    empty = waiting[0].date_range.window
                    if result.failure and empty.is_adjacent(window):
                        result.close()
                        result.chunks.clear()
                        waiting.popleft().close()
                    else:
                        if result.is_busy and empty.is_adjacent(window):
                            waiting[0] = self._fetch_again(waiting[0], fetch)
                        before = empty, waiting[0].is_busy
                        yield waiting.popleft()
                can_be_odd = not (result.rows or result.failure or result.date_range.is_update or self._is_filtered)
                if can_be_odd and self._row_counts and self._row_counts.had_rows(window):
                    waiting[0] = self._fetch_again(result, fetch)
                elif can_be_odd and _has_workday(window) and before and before[1] and before[0].is_adjacent(window):
                    continue
                before = window, waiting[0].is_busy
                yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for result in waiting:
                result.close()

    def _fetch_again(self, empty: FetchResult, fetch: Callable[[DateRange], FetchResult]) -> FetchResult:
        """Fetch a window that came empty once more, and take what comes."""
        with prefetch(iter([empty.date_range]), fetch, ahead=1, on_poll=self.on_poll, stop=self.client.stop) as results:
            again = next(results)
        if isinstance(again.failure, QuotaSpent):
            return empty
        self.log(
            "%s %s: the response had no event where some were expected, and was fetched once more: %d events",
            self.name,
            again.date_range.window,
            again.rows,
            level=logging.WARNING,
        )
        empty.close()
        return again

    def _held_back(self, results: Iterator[FetchResult]) -> Generator[FetchResult]:
        """Hand windows on once it is known whether their events fit `project_timezone`.

        Only a first load without that setting waits for it: nothing of it has to be out when it turns out to be wrong.
        Nor may it be out when a window fails before that, since the next run would be no first load.
        """
        held: deque[FetchResult] = deque()
        try:
            for result in results:
                is_undecided = self._is_worth_holding(held)
                held.append(result)
                if result.failure and is_undecided:
                    raise result.failure
                if not self._is_worth_holding(held):
                    yield from self._let_out(held)
            yield from self._let_out(held)
        finally:
            for result in held:
                result.close()

    def _is_worth_holding(self, held: Collection[FetchResult]) -> bool:
        """Whether a first load, none of which is out, may still show the zone of its events."""
        if self.settings.project_timezone is not None or not self._is_first_load or len(held) >= HELD_WINDOWS:
            return False
        decompressed_bytes = sum(chunk.decompressed_bytes for result in held for chunk, _ in result.chunks)
        is_open = self._timezone_check.judgement(None).fits is None
        return is_open and self._timezone_check.lines < HELD_LINES and decompressed_bytes < HELD_BYTES

    def _let_out(self, held: deque[FetchResult]) -> Iterator[FetchResult]:
        zone = self.settings.project_timezone
        if misfit := self._timezone_check.news(zone):
            if zone is None and self._is_first_load:
                raise StreamError(f"{self.name}: stopped before the first record: {misfit}")
            self.log("%s", misfit, level=logging.WARNING)
        while held:
            self._is_first_load = False
            yield held.popleft()

    def sample(self, count: int) -> SpooledChunk:
        """Ask for `count` events of the days that a run would ask for, by Mixpanel's `limit`."""
        date_ranges = self.date_ranges()
        if not date_ranges:
            return SpooledChunk()
        whole = DateRange(span(date_ranges))
        return self._try(whole, BARE, self.settings.max_retries, limit=count)[0]

    @property
    def _replication_settings(self) -> ReplicationSettings:
        settings = self.settings
        return ReplicationSettings(self.start_date(), settings.lookback_days, settings.zone)

    def date_ranges(self) -> list[DateRange]:
        """What this run is to read."""
        settings, delivered, days = self.settings, self.delivered(), self._replication_settings
        now, processed_before = self.clock.now(), None
        if self.is_incremental and settings.incremental_by == "ingestion_time":
            processed_before = settled(now)
            # The day in which the bookmark will lie at the latest: of later ones nothing could be noted.
            now = processed_before - MOMENT
        last = last_day(settings.end_date, now, settings.zone)
        newest_first = self.is_incremental and settings.backfill == "newest_first"
        date_ranges = delivered.ranges_to_read(days, last, newest_first=newest_first, processed_before=processed_before)
        if not date_ranges:
            first = days.first_day(delivered.before)
            # That a day of the future was meant is most unlikely.
            level = logging.WARNING if days.start_date > last else logging.INFO
            self.log("nothing to export: the first day, %s, comes after the last, %s", first, last, level=level)
        return date_ranges

    # --- One window, in a worker's thread ----------------------------------------------------------------------------

    def _fetch(self, planner: WindowPlanner, envelope: Envelope, date_range: DateRange) -> FetchResult:
        """Fetch a window, again if need be, at last by halves."""
        result = FetchResult(date_range)
        try:
            try:
                result.chunks.append(self._try(date_range, envelope, self.settings.max_retries))
            except Transient as error:
                if date_range.window.days == 1:
                    raise
                planner.report(date_range, 0, was_truncated=True)
                fields = {"stream_name": self.name, "window": str(date_range.window)}
                self.log("%s; now by halves", error, level=logging.WARNING, extra=fields)
                for half in date_range.halves():
                    result.chunks.append(self._try(half, envelope, RETRIES_OF_A_HALF))
                planner.report_halves(sum(chunk.decompressed_bytes for chunk, _ in result.chunks))
            else:
                planner.report(date_range, result.chunks[0][0].decompressed_bytes)
        except Exception as error:  # noqa: BLE001 - it is raised when the window's turn comes
            result.failure = error
        return result

    def _try(
        self, date_range: DateRange, envelope: Envelope, max_retries: int, limit: int | None = None
    ) -> tuple[SpooledChunk, DeliveredWindow]:
        trust = RetryAllowance(1 + max_retries)
        log = logging.LoggerAdapter(self.logger, {"stream_name": self.name, "window": str(date_range.window)})
        retrying = Retrying(self.clock, max_retries, log)
        return retrying(lambda: self._attempt(date_range, envelope, trust, limit))

    def _attempt(
        self, date_range: DateRange, envelope: Envelope, trust: RetryAllowance, limit: int | None
    ) -> tuple[SpooledChunk, DeliveredWindow]:
        """Ask once for a window, and keep its body if it is whole."""
        trust.tries -= 1
        settings = self.settings
        options = ExportOptions(
            tuple(settings.event_names), settings.events_where, settings.time_in_ms, limit, date_range.processed
        )
        request = export_request(
            date_range.window.first,
            date_range.window.last,
            options,
            reserve_seconds=HOUR if date_range.is_history else 0.0,
        )
        with contextlib.ExitStack() as unless_whole:
            chunk = SpooledChunk(what=request.what)
            unless_whole.callback(chunk.close)
            try:
                with self.client.open(request) as response:
                    if date_range.processed:
                        self.refuse_clock_ahead(request.what, "incremental_by: ingestion_time")
                    sample = self._fill(self._conversion(envelope, response, date_range), response, chunk)
                _refuse_other_days(request.what, date_range.window, sample, trust)
            except (CutShort, LineTooLong) as error:
                raise BrokenBody(f"{request.what}: {error}") from None
            except BadLine as error:
                message = f"{request.what}: {error}; bad_lines: skip sets such lines aside"
                if trust.left:
                    trust.left = False
                    raise BrokenBody(message) from None
                raise StreamError(message) from None
            except WorkerLostError as error:
                raise StreamError(f"{request.what}: {error}") from None
            except SpoolError as error:
                raise DiskError(f"{request.what}: {error}") from None
            chunk.extent, chunk.received = date_range.window.days, response.received
            unless_whole.pop_all()
        self._timezone_check.look(sample)
        known_at = date_range.processed.before if date_range.processed else response.requested_at
        numbers = {day: (day - EPOCH.date()).days for day in date_range.window.dates()}
        rows = {day: chunk.days[number] for day, number in numbers.items() if number in chunk.days}
        return chunk, DeliveredWindow(date_range, end_instant(date_range.window, settings.zone, known_at), rows)

    def _conversion(self, envelope: Envelope, response: Response, date_range: DateRange) -> Conversion:
        settings = self.settings
        return Conversion(
            schema=self._record_schema,
            envelope=envelope,
            selected=self.selected_columns,
            zone=settings.zone,
            strip_nul=settings.strip_nul,
            skip_bad_lines=settings.bad_lines == "skip",
            content_encoding=response.content_encoding,
            collects_names=bool(settings.event_names),
            counts_days=self._row_counts is not None and self._row_counts.needs(date_range.window),
        )

    def _fill(self, conversion: Conversion, response: Response, chunk: SpooledChunk) -> list[bytes]:
        """Shape a body into a chunk, in this thread or in a worker process; return its first lines."""
        sample = Sample(response.blocks())
        try:
            if self._workers:
                self._workers.fill(conversion, sample, chunk)
            else:
                with contextlib.closing(self._conversion_lock.of(sample)) as blocks:
                    conversion(blocks, chunk, self.clock.check)
        except BrokenBody as error:
            raise response.with_context(error) from None
        return sample.lines(response.content_encoding)


def _refuse_other_days(what: str, window: Window, sample: list[bytes], trust: RetryAllowance) -> None:
    """Refuse a response whose first events all lie outside the days asked for: it may be that to another request.

    Raises:
        BrokenBody: It is so. Of neighbouring days once only, and not in the last try.
    """
    days = stored_days(sample)
    shift = dt.timedelta() if trust.days_left and trust.tries else SHIFT
    if days and not any(window.first - day <= shift and day - window.last <= shift for day in days):
        trust.days_left = False
        raise BrokenBody(f"{what}: the response has events of other days, such as {min(days)}")


def _has_workday(window: Window) -> bool:
    """Whether it has a day from Monday to Thursday. A weekend has none, be it that of Friday and Saturday."""
    return any(day.isoweekday() <= THURSDAY for day in window.dates())


class Sample:
    """The blocks of a body as sent, the first of which are kept."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
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

    def lines(self, content_encoding: ContentEncoding) -> list[bytes]:
        """The first `LINES` lines of what was kept."""
        text = bytearray()
        # What was kept is mostly no whole body. The shaping has judged that.
        with contextlib.suppress(BrokenBody):
            for block in decompress(self._kept, content_encoding):
                text += block
                if len(text) >= MIB or text.count(b"\n") >= LINES:
                    break
        return bytes(text).split(b"\n", LINES)[:-1]
