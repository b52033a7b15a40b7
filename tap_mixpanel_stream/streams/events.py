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

from ..pipeline.prefetch import in_order
from ..delivery.spooled_chunk import Portion
from ..delivery.spool import SpoolError
from ..pipeline.conversion_lock import Turns
from ..pipeline.workers import WorkerLostError, Workers
from ..replication.state import Delivered, Scope, days_of, settled
from ..mixpanel.errors import BrokenBody, QuotaSpent, Transient
from ..mixpanel.export import ExportOptions, export_query
from ..mixpanel.quota import HOUR
from ..mixpanel.retry import Retrying
from ..mixpanel.decompression import unpacked
from ..replication.windows import DAY, MIB, MOMENT, Part, Plan, Window, end_instant, ends, last_day
from ..records.envelope import BARE
from ..records.errors import BadLine, CutShort, LineTooLong
from ..records.timezone_check import LINES, ZoneCheck, stored_days
from ..settings import SettingsError
from .base import EPOCH, DiskError, MixpanelStream, StreamError
from ..replication.bookmark import read_bookmark, write_bookmark
from ..replication.row_counts import RowCounts
from ..pipeline.conversion import Shaping

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Mapping

    from ..mixpanel.client import Answer
    from ..mixpanel.decompression import Packing
    from ..records.envelope import Envelope
    from ..records.shapes import EventShape
    from ..tap import TapMixpanelStream

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
class Read:
    """A window that has been read whole.

    Attributes:
        part: The window, and how it was asked for.
        until: The instant before which all events are delivered once it is out.
        rows: Its events by day, where they are counted.
    """

    part: Part
    until: dt.datetime
    rows: Mapping[dt.date, int]


@dataclass
class Fetched:
    """What one worker brings: a window's portion or those of its halves, and what went wrong if not all came.

    Attributes:
        part: The window.
        portions: Each with what it is a portion of.
        failure: To be raised once the portions are out.
    """

    part: Part
    portions: list[tuple[Portion, Read]] = field(default_factory=list)
    failure: Exception | None = None

    @property
    def rows(self) -> int:
        """Its lines, good and bad."""
        return sum(portion.records + portion.set_aside for portion, _ in self.portions)

    @property
    def is_busy(self) -> bool:
        """Whether it had so many events that a neighbour without any would be odd."""
        return self.rows >= BUSY_ROWS * self.part.window.days

    def close(self) -> None:
        """Let go of all portions."""
        for portion, _ in self.portions:
            portion.close()


@dataclass
class Trust:
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
    portion_name = "window"
    unit = "days"
    api = "data"

    def __init__(self, tap: TapMixpanelStream, shape: EventShape) -> None:
        super().__init__(tap, shape, self.name)
        self._shape = shape
        self._zone_check = ZoneCheck()
        self._workers: Workers | None = None
        self._turns = Turns()
        self._is_first_load = False
        self._row_counts: RowCounts | None = None
        self._names: set[str] = set()

    # --- The bookmark ------------------------------------------------------------------------------------------------

    def delivered(self) -> Delivered:
        """What is delivered so far; nothing where everything is to be read.

        Raises:
            SettingsError: The state holds something else.
        """
        if not self._is_incremental:
            return Delivered()
        try:
            return read_bookmark(self.state_before)
        except (KeyError, TypeError, ValueError) as error:
            raise self.state_error(f"is broken: {error}") from None

    def move_bookmark(self, delivered: Read) -> None:
        """Note a window that is out."""
        if self._is_incremental:
            before = self.delivered()
            after = before.with_part(delivered.part, delivered.until, self._scope)
            write_bookmark(self.stream_state, before, after)
            self._note_rows(delivered)

    def _note_rows(self, delivered: Read) -> None:
        """Leave the rows of the look-back's days to the next run, and warn of days that had more in the last."""
        self.stream_state.pop("rows", None)
        if self._row_counts is None:
            return
        if fewer := self._row_counts.add(delivered.part.window, delivered.rows):
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
        if not self._is_incremental or self._is_filtered or settings.incremental_by == "ingestion_time":
            return None
        last = last_day(settings.end_date, self.clock.now(), settings.zone)
        try:
            return RowCounts.read(self.state_before, last, settings.lookback_days)
        except (AttributeError, TypeError, ValueError) as error:
            raise SettingsError([f"--state: the bookmark of {self.name} is broken: {error}"]) from None

    @property
    def _is_filtered(self) -> bool:
        return bool(self.settings.event_names or self.settings.events_where)

    @property
    def _is_incremental(self) -> bool:
        return self.replication_method == "INCREMENTAL"

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
    def portions(self, envelope: Envelope) -> Iterator[Iterator[tuple[Portion, Read]]]:
        """Fetch the windows from the bookmark, less the look-back, to the last day."""
        parts = self.parts()
        if not parts:
            yield iter(())
            return
        self.progress.total = sum(part.window.days for part in parts)
        self._is_first_load = self.delivered() == Delivered()
        self._row_counts = self._rows_before()
        plan = Plan(parts, self.settings.window_days)
        with contextlib.ExitStack() as ends:
            if self.settings.worker_processes:
                self._workers = ends.enter_context(Workers(self.settings.worker_processes))
            results = ends.enter_context(
                in_order(
                    iter(plan.next, None),
                    functools.partial(self._fetch, plan, envelope),
                    ahead=self.settings.concurrent_exports,
                    look_around=self.look_around,
                    stop=self._stop,
                )
            )
            fetch = functools.partial(self._fetch, plan, envelope)
            confirmed = ends.enter_context(contextlib.closing(self._confirmed(results, fetch)))
            checked = ends.enter_context(contextlib.closing(self._held_back(confirmed)))
            yield self._portions_of(plan, checked)

    def _stop(self) -> None:
        """End the requests, and the work on what they brought."""
        self.client.stop()
        if self._workers:
            self._workers.stop()

    def _portions_of(self, plan: Plan, results: Iterator[Fetched]) -> Iterator[tuple[Portion, Read]]:
        left: QuotaSpent | None = None
        for fetched in results:
            with contextlib.closing(fetched):
                if left:  # A window beyond one that is missing: it could not be noted in the state.
                    continue
                for portion, read in fetched.portions:
                    self._names |= portion.names
                    yield portion, read
                if isinstance(fetched.failure, QuotaSpent) and fetched.part.is_history:
                    left = fetched.failure
                    plan.end()
                elif fetched.failure:
                    raise fetched.failure
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

    def _confirmed(self, results: Iterator[Fetched], fetch: Callable[[Part], Fetched]) -> Generator[Fetched]:
        """Fetch an empty window once more if the windows around it are busy, or the run before saw events of its days.

        A window that may have to be fetched again waits for the one after it. If that fails, both are left to the next
        run.
        """
        before: tuple[Window, bool] | None = None
        waiting: deque[Fetched] = deque()
        try:
            for fetched in results:
                waiting.append(fetched)
                window = fetched.part.window
                if len(waiting) > 1:
                    empty = waiting[0].part.window
                    if fetched.failure and _are_neighbours(empty, window):
                        fetched.close()
                        fetched.portions.clear()
                        waiting.popleft().close()
                    else:
                        if fetched.is_busy and _are_neighbours(empty, window):
                            waiting[0] = self._fetched_again(waiting[0], fetch)
                        before = empty, waiting[0].is_busy
                        yield waiting.popleft()
                can_be_odd = not (fetched.rows or fetched.failure or fetched.part.is_update or self._is_filtered)
                if can_be_odd and self._row_counts and self._row_counts.had_rows(window):
                    waiting[0] = self._fetched_again(fetched, fetch)
                elif (
                    can_be_odd and _has_workday(window) and before and before[1] and _are_neighbours(before[0], window)
                ):
                    continue
                before = window, waiting[0].is_busy
                yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for fetched in waiting:
                fetched.close()

    def _fetched_again(self, empty: Fetched, fetch: Callable[[Part], Fetched]) -> Fetched:
        """Fetch a window that came empty once more, and take what comes."""
        with in_order(
            iter([empty.part]), fetch, ahead=1, look_around=self.look_around, stop=self.client.stop
        ) as results:
            again = next(results)
        if isinstance(again.failure, QuotaSpent):
            return empty
        self.log(
            "%s %s: the response had no event where some were expected, and was fetched once more: %d events",
            self.name,
            again.part.window,
            again.rows,
            level=logging.WARNING,
        )
        empty.close()
        return again

    def _held_back(self, results: Iterator[Fetched]) -> Generator[Fetched]:
        """Hand windows on once it is known whether their events fit `project_timezone`.

        Only a first load without that setting waits for it: nothing of it has to be out when it turns out to be wrong.
        Nor may it be out when a window fails before that, since the next run would be no first load.
        """
        held: deque[Fetched] = deque()
        try:
            for fetched in results:
                is_undecided = self._is_worth_holding(held)
                held.append(fetched)
                if fetched.failure and is_undecided:
                    raise fetched.failure
                if not self._is_worth_holding(held):
                    yield from self._let_out(held)
            yield from self._let_out(held)
        finally:
            for fetched in held:
                fetched.close()

    def _is_worth_holding(self, held: Collection[Fetched]) -> bool:
        """Whether a first load, none of which is out, may still show the zone of its events."""
        if self.settings.project_timezone is not None or not self._is_first_load or len(held) >= HELD_WINDOWS:
            return False
        unpacked_bytes = sum(portion.unpacked for fetched in held for portion, _ in fetched.portions)
        is_open = self._zone_check.judgement(None).fits is None
        return is_open and self._zone_check.lines < HELD_LINES and unpacked_bytes < HELD_BYTES

    def _let_out(self, held: deque[Fetched]) -> Iterator[Fetched]:
        zone = self.settings.project_timezone
        if misfit := self._zone_check.news(zone):
            if zone is None and self._is_first_load:
                raise StreamError(f"{self.name}: stopped before the first record: {misfit}")
            self.log("%s", misfit, level=logging.WARNING)
        while held:
            self._is_first_load = False
            yield held.popleft()

    def sample(self, count: int) -> Portion:
        """Ask for `count` events of the days that a run would ask for, by Mixpanel's `limit`."""
        parts = self.parts()
        if not parts:
            return Portion()
        whole = Part(Window(*ends(parts)))
        return self._try(whole, BARE, self.settings.max_retries, limit=count)[0]

    def start_date(self) -> dt.date:
        """The first day to export.

        Raises:
            SettingsError: It is not set.
        """
        if self.settings.start_date is None:
            raise SettingsError(["start_date is missing: set it to the first day of events to export"])
        return self.settings.start_date

    @property
    def _scope(self) -> Scope:
        settings = self.settings
        return Scope(self.start_date(), settings.lookback_days, settings.zone)

    def parts(self) -> list[Part]:
        """What this run is to read."""
        settings, delivered, scope = self.settings, self.delivered(), self._scope
        now, processed_before = self.clock.now(), None
        if self._is_incremental and settings.incremental_by == "ingestion_time":
            processed_before = settled(now)
            # The day in which the bookmark will lie at the latest: of later ones nothing could be noted.
            now = processed_before - MOMENT
        last = last_day(settings.end_date, now, settings.zone)
        newest_first = self._is_incremental and settings.backfill == "newest_first"
        parts = delivered.to_read(scope, last, newest_first=newest_first, processed_before=processed_before)
        if not parts:
            first = scope.first_day(delivered.before)
            # That a day of the future was meant is most unlikely.
            level = logging.WARNING if scope.start_date > last else logging.INFO
            self.log("nothing to export: the first day, %s, comes after the last, %s", first, last, level=level)
        return parts

    # --- One window, in a worker's thread ----------------------------------------------------------------------------

    def _fetch(self, plan: Plan, envelope: Envelope, part: Part) -> Fetched:
        """Fetch a window, again if need be, at last by halves."""
        fetched = Fetched(part)
        try:
            try:
                fetched.portions.append(self._try(part, envelope, self.settings.max_retries))
            except Transient as error:
                if part.window.days == 1:
                    raise
                plan.report(part, 0, was_cut=True)
                fields = {"stream_name": self.name, "window": str(part.window)}
                self.log("%s; now by halves", error, level=logging.WARNING, extra=fields)
                for half in part.halves():
                    fetched.portions.append(self._try(half, envelope, RETRIES_OF_A_HALF))
                plan.report_cut(sum(portion.unpacked for portion, _ in fetched.portions))
            else:
                plan.report(part, fetched.portions[0][0].unpacked)
        except Exception as error:  # noqa: BLE001 - it is raised when the window's turn comes
            fetched.failure = error
        return fetched

    def _try(self, part: Part, envelope: Envelope, max_retries: int, limit: int | None = None) -> tuple[Portion, Read]:
        trust = Trust(1 + max_retries)
        log = logging.LoggerAdapter(self.logger, {"stream_name": self.name, "window": str(part.window)})
        retrying = Retrying(self.clock, max_retries, log)
        return retrying(lambda: self._attempt(part, envelope, trust, limit))

    def _attempt(self, part: Part, envelope: Envelope, trust: Trust, limit: int | None) -> tuple[Portion, Read]:
        """Ask once for a window, and keep its body if it is whole."""
        trust.tries -= 1
        settings = self.settings
        options = ExportOptions(
            tuple(settings.event_names), settings.events_where, settings.time_in_ms, limit, part.processed
        )
        query = export_query(part.window, options, leaves=HOUR if part.is_history else 0.0)
        with contextlib.ExitStack() as unless_whole:
            portion = Portion(what=query.what)
            unless_whole.callback(portion.close)
            try:
                with self.client.open(query) as answer:
                    if part.processed:
                        self.refuse_clock_ahead(query.what, "incremental_by: ingestion_time")
                    sample = self._fill(self._shaping(envelope, answer, part), answer, portion)
                _refuse_other_days(query.what, part.window, sample, trust)
            except (CutShort, LineTooLong) as error:
                raise BrokenBody(f"{query.what}: {error}") from None
            except BadLine as error:
                message = f"{query.what}: {error}; bad_lines: skip sets such lines aside"
                if trust.left:
                    trust.left = False
                    raise BrokenBody(message) from None
                raise StreamError(message) from None
            except WorkerLostError as error:
                raise StreamError(f"{query.what}: {error}") from None
            except SpoolError as error:
                raise DiskError(f"{query.what}: {error}") from None
            portion.extent, portion.received = part.window.days, answer.received
            unless_whole.pop_all()
        self._zone_check.look(sample)
        known_at = part.processed.before if part.processed else answer.requested_at
        numbers = {day: (day - EPOCH.date()).days for day in days_of(part.window)}
        rows = {day: portion.days[number] for day, number in numbers.items() if number in portion.days}
        return portion, Read(part, end_instant(part.window, settings.zone, known_at), rows)

    def _shaping(self, envelope: Envelope, answer: Answer, part: Part) -> Shaping:
        settings = self.settings
        return Shaping(
            shape=self._shape,
            envelope=envelope,
            selected=self.selected_columns,
            zone=settings.zone,
            strip_nul=settings.strip_nul,
            skip_bad_lines=settings.bad_lines == "skip",
            packing=answer.packing,
            collects_names=bool(settings.event_names),
            counts_days=self._row_counts is not None and self._row_counts.wants(part.window),
        )

    def _fill(self, shaping: Shaping, answer: Answer, portion: Portion) -> list[bytes]:
        """Shape a body into a portion, in this thread or in a worker process; return its first lines."""
        sample = Sample(answer.blocks())
        try:
            if self._workers:
                self._workers.fill(shaping, sample, portion)
            else:
                with contextlib.closing(self._turns.of(sample)) as blocks:
                    shaping(blocks, portion, self.clock.check)
        except BrokenBody as error:
            raise answer.named(error) from None
        return sample.lines(answer.packing)


def _refuse_other_days(what: str, window: Window, sample: list[bytes], trust: Trust) -> None:
    """Refuse a response whose first events all lie outside the days asked for: it may be that to another request.

    Raises:
        BrokenBody: It is so. Of neighbouring days once only, and not in the last try.
    """
    days = stored_days(sample)
    shift = dt.timedelta() if trust.days_left and trust.tries else SHIFT
    if days and not any(window.first - day <= shift and day - window.last <= shift for day in days):
        trust.days_left = False
        raise BrokenBody(f"{what}: the response has events of other days, such as {min(days)}")


def _are_neighbours(one: Window, other: Window) -> bool:
    """Whether no day lies between two windows, whichever comes first."""
    return DAY in {other.first - one.last, one.first - other.last}


def _has_workday(window: Window) -> bool:
    """Whether it has a day from Monday to Thursday. A weekend has none, be it that of Friday and Saturday."""
    return any(day.isoweekday() <= THURSDAY for day in days_of(window))


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

    def lines(self, packing: Packing) -> list[bytes]:
        """The first `LINES` lines of what was kept."""
        text = bytearray()
        # What was kept is mostly no whole body. The shaping has judged that.
        with contextlib.suppress(BrokenBody):
            for block in unpacked(self._kept, packing):
                text += block
                if len(text) >= MIB or text.count(b"\n") >= LINES:
                    break
        return bytes(text).split(b"\n", LINES)[:-1]
