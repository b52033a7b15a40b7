"""The events stream: windows of days, fetched ahead. Only complete windows are delivered."""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import functools
import logging
from typing import TYPE_CHECKING

from ..delivery.spool import SpooledChunk
from ..mixpanel.errors import QuotaSpent
from ..pipeline.checks import check_timezone, refetch_empty_windows
from ..pipeline.prefetch import prefetch
from ..pipeline.window import DeliveredWindow, FetchResult, WindowFetcher
from ..pipeline.workers import Workers
from ..records.converter import BARE
from ..records.insert_id_check import InsertIdCheck
from ..records.timezone_check import TimezoneCheck
from ..replication.row_counts import RowCounts
from ..replication.state import DeliveredDays, ReplicationSettings, read_bookmark, settled_until, write_bookmark
from ..replication.windows import MOMENT, DateRange, WindowPlanner, last_day, span
from .base import MixpanelStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from singer_sdk import Tap

    from ..records.converter import Envelope
    from ..records.events import EventSchema
    from ..run import Run


class EventsStream(MixpanelStream):
    """All events, from Mixpanel's raw export."""

    name = "events"
    replication_key = "event_time"
    rank = 0
    chunk_name = "window"
    unit = "days"
    api = "data"
    is_full_refresh = False
    """A run delivers a range of days, so the rows of other days are not deleted, even with FULL_TABLE."""

    def __init__(self, tap: Tap, run: Run, schema: EventSchema) -> None:
        super().__init__(tap, run, schema, self.name)
        self._record_schema = schema
        self._row_counts: RowCounts | None = None
        self._names: set[str] = set()

    # --- The bookmark ------------------------------------------------------------------------------------------------

    def delivered(self) -> DeliveredDays:
        """Return what earlier runs and this run have delivered; nothing if the stream is not incremental.

        Raises:
            SettingsError: The bookmark is malformed.
        """
        if not self.is_incremental:
            return DeliveredDays()
        try:
            return read_bookmark(self.state_entry)
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None

    def move_bookmark(self, delivered: DeliveredWindow) -> None:
        """Update the bookmark and the row counts after a window is delivered."""
        if self.is_incremental:
            before = self.delivered()
            after = before.with_range(delivered.date_range, delivered.until, self._replication_settings)
            write_bookmark(self.stream_state, before, after)
            self._write_row_counts(delivered)

    def _write_row_counts(self, delivered: DeliveredWindow) -> None:
        """Write the row counts of the look-back days to the state, and warn if a day had more in the previous run."""
        self.stream_state.pop("rows", None)
        if self._row_counts is None:
            return
        if fewer := self._row_counts.add(delivered.date_range.window, delivered.rows):
            self.log(
                "fewer events than in the previous run: %s; deleted in Mixpanel, or the response was truncated",
                ", ".join(fewer),
                level=logging.WARNING,
            )
        if rows := self._row_counts.as_state():
            self.stream_state["rows"] = rows

    def _read_row_counts(self) -> RowCounts | None:
        """Return the row counts of the previous run; None if this run's counts are not comparable with them."""
        settings = self.settings
        if not self.is_incremental or self._is_filtered or settings.incremental_by == "ingestion_time":
            return None
        try:
            return RowCounts.read(self.state_entry, self.last_day(), settings.lookback_days)
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None

    @property
    def _is_filtered(self) -> bool:
        return bool(self.settings.event_names or self.settings.events_where)

    def check_before_run(self) -> None:
        """Check that `start_date` is set and the state is valid and not in the future."""
        self.start_date()
        self._read_row_counts()
        delivered = self.delivered()
        self.check_not_in_future("replication_key_value", delivered.before)
        if delivered.ahead:
            begin = dt.datetime.combine(delivered.ahead.first, dt.time(), tzinfo=dt.UTC)
            self.check_not_in_future("ahead.from_date", begin)
            self.check_not_in_future("ahead.before", delivered.ahead.before)
        self.check_not_in_future("ingested.before", max(delivered.ingested.values(), default=None))

    # --- The days ----------------------------------------------------------------------------------------------------

    @property
    def _replication_settings(self) -> ReplicationSettings:
        settings = self.settings
        return ReplicationSettings(self.start_date(), settings.lookback_days, settings.zone)

    def date_ranges(self) -> list[DateRange]:
        """Return the date ranges that this run reads, in the order of delivery."""
        settings, delivered, replication = self.settings, self.delivered(), self._replication_settings
        now, processed_before = self.clock.now(), None
        if self.is_incremental and settings.incremental_by == "ingestion_time":
            processed_before = settled_until(now)
            # Do not read a day that begins after the latest possible bookmark, since the state could not include it.
            now = processed_before - MOMENT
        last = last_day(settings.end_date, now, settings.zone)
        newest_first = self.is_incremental and settings.backfill == "newest_first"
        date_ranges = delivered.ranges_to_read(
            replication, last, newest_first=newest_first, processed_before=processed_before
        )
        if not date_ranges:
            first = replication.first_day(delivered.before)
            # A start date in the future is probably a mistake.
            level = logging.WARNING if replication.start_date > last else logging.INFO
            self.log("nothing to read: the first day, %s, is after the last day, %s", first, last, level=level)
        return date_ranges

    # --- The windows -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def chunks(self, envelope: Envelope) -> Iterator[Iterator[tuple[SpooledChunk, DeliveredWindow]]]:
        """Fetch the windows from the bookmark, minus the look-back, to the last day."""
        date_ranges = self.date_ranges()
        if not date_ranges:
            yield iter(())
            return
        self.progress.total = sum(date_range.window.days for date_range in date_ranges)
        self._row_counts = self._read_row_counts()
        planner = WindowPlanner(date_ranges, self.settings.window_days)
        with contextlib.ExitStack() as stack:
            processes = self.settings.worker_processes
            workers = stack.enter_context(Workers(processes)) if processes else None
            fetch = functools.partial(self._fetcher(envelope, workers).fetch, planner)

            def stop() -> None:
                self.client.stop()
                if workers:
                    workers.stop()

            results = stack.enter_context(
                prefetch(
                    iter(planner.next, None),
                    fetch,
                    ahead=self.settings.concurrent_exports,
                    on_poll=self.on_poll,
                    stop=stop,
                )
            )
            yield self._chunks_of(planner, stack.enter_context(self._checked(results, fetch)))

    def sample(self, count: int) -> SpooledChunk:
        """Fetch up to `count` events of the days that a run would read."""
        date_ranges = self.date_ranges()
        if not date_ranges:
            return SpooledChunk()
        return self._fetcher(BARE).fetch_sample(DateRange(span(date_ranges)), count)

    def _fetcher(self, envelope: Envelope, workers: Workers | None = None) -> WindowFetcher:
        return WindowFetcher(
            self.client,
            self.settings,
            self._record_schema,
            envelope,
            columns=self.selected_columns,
            log=self.logger,
            workers=workers,
            row_counts=self._row_counts,
            collects_names=bool(self.settings.event_names) or self.run.event_names is not None,
        )

    @contextlib.contextmanager
    def _checked(
        self, results: Iterator[FetchResult], fetch: Callable[[DateRange], FetchResult]
    ) -> Iterator[Iterator[FetchResult]]:
        """Check windows before they are delivered."""

        def fetch_while_polling(date_range: DateRange) -> FetchResult:
            with prefetch(iter([date_range]), fetch, ahead=1, on_poll=self.on_poll, stop=self.client.stop) as fetched:
                return next(fetched)

        is_first_load = self.delivered() == DeliveredDays()
        with contextlib.ExitStack() as stack:
            if not self._is_filtered:
                confirmed = refetch_empty_windows(results, fetch_while_polling, self._row_counts, self.logger)
                results = stack.enter_context(contextlib.closing(confirmed))
            checked = check_timezone(
                results, TimezoneCheck(), self.settings.project_timezone, self.logger, is_first_load=is_first_load
            )
            yield stack.enter_context(contextlib.closing(checked))

    @functools.cached_property
    def _insert_id_check(self) -> InsertIdCheck | None:
        """The check for shared insert ids; None if the key prevents them from merging rows of different users."""
        keys = [set(stream_map.transformed_key_properties or ()) for stream_map in self.stream_maps]
        return InsertIdCheck() if any("insert_id" in key and "distinct_id" not in key for key in keys) else None

    def _check_insert_ids(self, sample: Iterable[bytes]) -> None:
        """Warn once if the events of a sample share insert ids."""
        if check := self._insert_id_check:
            check.add(sample)
            if found := check.report():
                self.log("%s", found, level=logging.WARNING)

    def _chunks_of(
        self, planner: WindowPlanner, results: Iterator[FetchResult]
    ) -> Iterator[tuple[SpooledChunk, DeliveredWindow]]:
        """Yield the chunks in order until a window fails.

        If a deferrable window fails for lack of quota, the stream ends without an error, since the next run continues
        from there. Any other failure is raised.
        """
        unfinished: QuotaSpent | None = None
        for result in results:
            with contextlib.closing(result):
                if unfinished:  # The state cannot include a window after a missing one.
                    continue
                self._check_insert_ids(result.sample)
                for chunk, delivered in result.chunks:
                    self._names |= chunk.names
                    if self.run.event_names is not None:
                        self.run.event_names |= chunk.names
                    yield chunk, delivered
                if isinstance(result.failure, QuotaSpent) and result.date_range.is_deferrable:
                    unfinished = result.failure
                    planner.end()
                elif result.failure:
                    raise result.failure
        if unfinished:
            self.log("the back-fill continues with the next run: %s", unfinished, level=logging.WARNING)
        self._warn_about_missing_names()

    def _warn_about_missing_names(self) -> None:
        """Warn about names in `event_names` for which the run read no events."""
        seen = {name.casefold(): name for name in self._names}
        missing = []
        for name in self.settings.event_names:
            if name not in self._names:
                close = difflib.get_close_matches(name.casefold(), seen, n=1)
                missing.append(f"{name!r} (the closest name seen is {seen[close[0]]!r})" if close else repr(name))
        if missing:
            self.log("event_names: no event in this run is named %s", " or ".join(missing), level=logging.WARNING)
