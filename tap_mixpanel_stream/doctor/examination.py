"""The checks of `--doctor`, their order, and the interpretation of the responses."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from msgspec import structs

from ..delivery.batches import BatchFileError, check_bucket, secrets_of
from ..delivery.spool import Spool, SpooledChunk, reserved_bytes
from ..mixpanel.errors import MixpanelError, QuotaSpent, Refused
from ..mixpanel.quota import time_text
from ..mixpanel.retry import Retrying
from ..pipeline.errors import StreamError
from ..pipeline.window import WindowFetcher
from ..records.converter import record_envelope
from ..records.events import EventSchema
from ..records.timezone_check import LINES_PER_WINDOW, TimezoneCheck
from ..replication.state import DeliveredDays
from ..replication.windows import LARGE, DateRange, Window, first_day, last_day, span
from ..streams.events import EventsStream
from ..streams.profiles import ProfilesStream
from ..streams.progress import in_words
from ..streams.reports import NOT_IN_PLAN, ReportStream
from .completeness import DistinctEvents, count_days
from .forecast import DaySize, Forecast, forecast, sample_days
from .report import Report, about, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from singer_sdk.helpers._batch import BatchConfig

    from ..records.timezone_check import TimezoneFinding
    from ..run import Run
    from ..streams.base import MixpanelStream

SAMPLE_DAYS = 5
"""Maximum number of days of events to read."""

MAX_SECONDS_PER_DAY = 30.0
"""Maximum number of seconds to spend on reading one day."""

MAX_RETRIES = 1
"""Retries instead of `max_retries`."""

MAX_QUOTA_WAIT = 30
"""Seconds to wait for quota instead of `max_quota_wait`, since a person is waiting for the report."""

SAMPLE_LINES = 16 * LINES_PER_WINDOW
"""Maximum number of lines of each day to check for the time zone."""

MAX_CLOCK_DIFFERENCE = timedelta(seconds=30)
SECONDS_PER_HOUR = 3600

# Kinds of errors that show that the credentials are valid and the project exists in this region.
ACCEPTED_KINDS = frozenset({"plan", "history", "time_zone", "parameter"})
# Kinds of errors that occur if the project is in another region.
OTHER_REGION_KINDS = frozenset({"credentials", "access", "not_found"})


# The outcome of probing a stream: the text to report if the stream can be read, or the error.
Outcome = str | MixpanelError | StreamError


def examine(
    run: Run, streams: Sequence[MixpanelStream], *, state_warnings: Sequence[str] = (), has_catalog: bool = False
) -> int:
    """Check a configuration and write a report.

    Args:
        run: The run of the configuration, before its first request. Its waits and retries are reduced.
        streams: The selected streams, in the order of a run.
        state_warnings: A warning for each entry of the state that a run does not use.
        has_catalog: Whether a catalog selects the streams.

    Returns:
        The exit code: 1 if a run would fail or deliver wrong timestamps, otherwise 0.
    """
    batch_config = streams[0].get_batch_config(streams[0].config)
    params = batch_config.storage.params if batch_config else None
    report = Report(run.stdout, [*run.settings.auth.secrets, *secrets_of(params or {})])
    max_wait = timedelta(seconds=run.settings.max_quota_wait)
    try:
        _Examination(run, streams, report, state_warnings, batch_config, has_catalog=has_catalog).examine()
    except QuotaSpent as spent:
        now = run.clock.now()
        until = spent.until or now
        action = "wait" if until - now <= max_wait else "stop"
        report.problem(
            "quota",
            f"the project's quota for this hour is used up: try again after {time_text(until)}. A run would {action}",
        )
    finally:
        run.client.close()
    report.write_summary(run.quota.requests, run.quota.hourly("data"))
    return 1 if report.problems else 0


class _Examination:
    """Runs the checks for one configuration."""

    def __init__(
        self,
        run: Run,
        streams: Sequence[MixpanelStream],
        report: Report,
        state_warnings: Sequence[str],
        batch_config: BatchConfig | None,
        *,
        has_catalog: bool,
    ) -> None:
        self._run = run
        self._streams = streams
        self._report = report
        self._state_warnings = state_warnings
        self._has_catalog = has_catalog
        self._batch_config = batch_config
        self._settings = run.settings
        run.settings = structs.replace(run.settings, max_retries=MAX_RETRIES, max_quota_wait=MAX_QUOTA_WAIT)
        self._readable: list[str] = []
        self._not_in_plan: dict[str, Refused] = {}

    def examine(self) -> None:
        """Run the checks in order. Stop if the credentials, region or project are wrong."""
        warnings = self._settings.warnings()
        for warning in warnings:
            self._report.warning("settings", warning)
        if not warnings:
            self._report.ok("settings", "valid")
        self._report_state()
        self._check_storage()
        streams = []
        for stream in self._streams:
            if isinstance(stream, ReportStream) and stream.nothing_to_read:
                self._report.warning(stream.name, stream.nothing_to_read)
            else:
                streams.append(stream)
        if not streams:
            self._report.warning("credentials", "not checked, because no selected stream sends a request")
            return
        outcome = self._probe(streams[0])
        has_access = self._check_access(streams[0], outcome)
        self._check_clock()
        if not has_access:
            return
        self._check_stream(streams[0], outcome)
        for stream in streams[1:]:
            self._check_stream(stream, self._probe(stream))
        self._report_plan()

    def _report_state(self) -> None:
        """Report the state that a run would continue from. Invalid bookmarks were rejected before the examination."""
        for warning in self._state_warnings:
            self._report.warning("state", warning)
        bookmarks = [
            f"{stream.name} ({stream.bookmark_value or 'in part'})" for stream in self._streams if stream.state_entry
        ]
        if bookmarks:
            self._report.ok("state", f"{self._run.state_source}: a run continues from {', '.join(bookmarks)}")

    def _check_storage(self) -> None:
        """Report whether batch files can be written to their bucket."""
        if not self._batch_config:
            return
        try:
            check_bucket(self._batch_config)
        except BatchFileError as error:
            self._report.problem("batch_config", str(error).removeprefix("batch_config: "))
        else:
            self._report.ok("batch_config", self._batch_config.storage.root)

    # --- Credentials, region and project -----------------------------------------------------------------------------

    def _probe(self, stream: MixpanelStream) -> Outcome:
        """Send the smallest request that shows whether a stream can be read."""
        try:
            if isinstance(stream, EventsStream):
                # Request the last day, which may not have begun in the project's real time zone.
                return self._retrying(lambda: self._probe_events(stream))
            if isinstance(stream, ProfilesStream):
                total = stream.first_page(1).total
                return "readable" if total is None else f"{total:,} in the project"
            if isinstance(stream, ReportStream):
                stream.probe()
        except QuotaSpent:
            raise
        except (MixpanelError, StreamError) as error:
            return error
        return "readable"

    def _probe_events(self, stream: EventsStream) -> str:
        last = stream.last_day()
        self._fetcher(stream).check_access(DateRange(Window(last, last)))
        return "readable"

    def _check_access(self, stream: MixpanelStream, outcome: Outcome) -> bool:
        """Report on credentials, region and project, and return whether they are right."""
        report, settings = self._report, self._settings
        if _is_accepted(outcome):
            report.ok("credentials", "accepted")
            report.ok("region", settings.region if settings.other_regions else "set by data_api_url and api_url")
            report.ok("project", settings.auth.project_id or "the project of api_secret")
            return True
        if not isinstance(outcome, Refused) or outcome.kind not in OTHER_REGION_KINDS:
            report.problem("connection", str(outcome))
        elif region := self._find_region(stream):
            report.problem("region", f"the project's region is {region}, not {settings.region}: set region to {region}")
        else:
            others = " and ".join(settings.other_regions)
            note = f". The other regions ({others}) reject it too" if others else ""
            check = "credentials" if outcome.kind == "credentials" else "project"
            report.problem(check, f"{outcome}{note}")
        return False

    def _find_region(self, stream: MixpanelStream) -> str | None:
        """Return the first other region that accepts the credentials; None if there is none."""
        for region, hosts in self._settings.other_regions.items():
            self._run.client.close()
            self._run.client = self._run.client_at(hosts)
            if _is_accepted(self._probe(stream)):
                return region
        return None

    def _check_clock(self) -> None:
        lead = self._run.client.clock_lead
        if lead is None:
            return
        if abs(lead) <= MAX_CLOCK_DIFFERENCE:
            self._report.ok("clock", "in sync with Mixpanel's")
            return
        side = "ahead of" if lead > timedelta() else "behind"
        self._report.warning(
            "clock",
            f"this machine's clock is {in_words(abs(lead).total_seconds())} {side} Mixpanel's: correct it. The "
            "last day to read and the bookmarks depend on it",
        )

    # --- Streams -----------------------------------------------------------------------------------------------------

    def _check_stream(self, stream: MixpanelStream, outcome: Outcome) -> None:
        refused_kind = outcome.kind if isinstance(outcome, Refused) else None
        if isinstance(outcome, Refused) and refused_kind == "plan":
            self._not_in_plan[stream.name] = outcome
        if refused_kind == "time_zone":
            self._report.problem("last day", str(outcome))
        elif isinstance(outcome, Refused) and isinstance(stream, ReportStream) and stream.leaves_empty(outcome):
            self._report.warning(stream.name, f"{outcome}. A run leaves the stream empty")
            return
        elif refused_kind == "plan":
            return  # Reported in the line about the plan.
        elif not isinstance(outcome, str):
            self._report.problem(stream.name, str(outcome))
            return
        else:
            self._readable.append(stream.name)
        if isinstance(stream, EventsStream):
            # Time zones are at most 26 hours apart, so at most two days have not begun.
            self._check_events(stream, days_not_begun=2 if refused_kind else 0)
        elif isinstance(stream, ReportStream) and stream.skipped:
            self._report.warning(stream.name, f"{'; '.join(map(str, stream.skipped))}. A run skips this")
        else:
            self._report.ok(stream.name, str(outcome))

    def _report_plan(self) -> None:
        """Report the streams that the plan does not include, and how to read the others."""
        if not self._not_in_plan:
            if self._readable:
                self._report.ok("plan", f"includes {' and '.join(self._readable)}")
            return
        # Report streams have their own warning, since they do not make a run fail.
        failing = [
            stream.name
            for stream in self._streams
            if stream.name in self._not_in_plan and not isinstance(stream, ReportStream)
        ]
        if not failing:
            return
        others = [stream.name for stream in self._streams if stream.name not in self._not_in_plan]
        text = f"{self._not_in_plan[failing[0]]}. A run without {' and '.join(failing)} succeeds"
        if others:
            remedy = (
                f"deselect {' and '.join(failing)} in the catalog"
                if self._has_catalog
                else f"set streams to {json.dumps(others)}"
            )
            text += f": {remedy}"
        self._report.problem("plan", text)

    def _check_events(self, stream: EventsStream, *, days_not_begun: int) -> None:
        """Read some days, and report on them, the time zone, and the cost of a run."""
        date_ranges = stream.date_ranges()
        if not date_ranges:
            first, last = self._first_and_last_day(stream)
            self._report.warning("events", f"nothing to read: the first day, {first}, is after the last day, {last}")
            return
        first, last = span(date_ranges).first, span(date_ranges).last
        today = last_day(None, self._run.clock.now(), self._settings.zone)
        # Today is not over, so measuring it would underestimate a day's size.
        latest = max(first, min(last - timedelta(days=days_not_begun), today - timedelta(days=1)))
        timezone_check = TimezoneCheck()
        measured: list[_MeasuredDay] = []
        failure: Exception | None = None
        try:
            for day in sample_days(first, latest, SAMPLE_DAYS):
                measured_day = self._retrying(functools.partial(self._measure_day, stream, day, timezone_check))
                measured.append(measured_day)
        except QuotaSpent:
            raise
        except (MixpanelError, StreamError) as error:
            failure = error
        self._report_events(measured, failure)
        if not failure:
            self._report_completeness(measured)
        if measured:
            self._report_timezone(
                timezone_check.finding(self._settings.project_timezone),
                is_first_load=stream.delivered() == DeliveredDays(),
            )
            self._report_run(date_ranges, [each.day for each in measured])

    def _measure_day(self, stream: EventsStream, day: date, timezone_check: TimezoneCheck) -> _MeasuredDay:
        """Read one day, or the beginning of a very large one, and measure it without keeping its events."""
        clock = self._run.clock
        deadline = clock.monotonic() + MAX_SECONDS_PER_DAY
        is_whole = True

        def is_enough(chunk: SpooledChunk) -> bool:
            nonlocal is_whole
            is_whole = chunk.decompressed_bytes <= LARGE and clock.monotonic() <= deadline
            return not is_whole

        date_range = DateRange(Window(day, day))
        events = DistinctEvents(raw=self._settings.raw)
        with SpooledChunk(events, _SizeOnly()) as chunk:
            timezone_check.add(self._fetcher(stream).read_beginning(date_range, chunk, is_enough, SAMPLE_LINES))
        size = DaySize(day, chunk.records, chunk.received, chunk.decompressed_bytes, chunk.lines.size, is_whole)
        reason = f"events {day}: malformed line {chunk.first_rejected}: {chunk.first_reason}"
        return _MeasuredDay(size, chunk.rejected, reason, events)

    def _report_events(self, measured: Sequence[_MeasuredDay], failure: Exception | None) -> None:
        bad_lines = sum(each.bad_lines for each in measured)
        first_bad_line = next((each.first_bad_line for each in measured if each.bad_lines), "")
        events = sum(each.day.events for each in measured)
        days = ", ".join(str(each.day.date) for each in measured)
        if failure:
            self._report.problem("events", str(failure))
        elif bad_lines and self._settings.bad_lines == "fail":
            self._report.problem("events", f"{first_bad_line}; to skip such lines, set bad_lines and bad_lines_path")
        elif bad_lines:
            self._report.warning(
                "events", f"{first_bad_line}; of {events:,} sampled events, {bad_lines:,} lines would be skipped"
            )
        elif events:
            self._report.ok("events", f"{events:,} on the sampled days: {days}")
        else:
            filters = [name for name in ("event_names", "events_where") if getattr(self._settings, name)]
            check = ", ".join(["start_date", *filters])
            self._report.warning("events", f"no events on the sampled days ({days}): check {check}")

    def _report_completeness(self, measured: Sequence[_MeasuredDay]) -> None:
        """Compare the days that were read with Mixpanel's own counts, if the plan includes these."""
        exported = {each.day.date: each.events for each in measured if each.day.is_whole}
        if self._settings.events_where or not exported:
            return
        try:
            days = count_days(self._run.client, exported, self._settings.event_names, self._retrying)
        except MixpanelError as error:
            if not isinstance(error, Refused) or error.kind not in NOT_IN_PLAN:
                self._report.warning("completeness", f"the sampled days could not be compared: {error}")
            return
        if different := [day for day in days if not day.agrees]:
            self._report.warning(
                "completeness",
                f"the numbers of exported events differ from Mixpanel's counts on {', '.join(map(str, different))}: "
                "see docs/is-everything-there.md",
            )
        elif events := sum(day.exported for day in days):
            counted = sum(day.counted for day in days)
            self._report.ok(
                "completeness", f"{events:,} distinct events exported for the sampled days; Mixpanel counts {counted:,}"
            )

    def _report_timezone(self, finding: TimezoneFinding, *, is_first_load: bool) -> None:
        setting = f"project_timezone {finding.zone.key}" if finding.zone else "UTC (project_timezone is not set)"
        if finding.fits is False and finding.zone is None and is_first_load:
            self._report.problem("time zone", f"{finding}. A run stops before its first record")
        elif finding.fits is False:
            self._report.warning("time zone", str(finding))
        elif finding.fits:
            self._report.ok(
                "time zone", f"{setting} fits {finding.agreeing_events:,} of {finding.events:,} sampled events"
            )
        else:
            self._report.warning(
                "time zone",
                f"too few events to verify {setting}: compare it with Mixpanel's Project "
                "Settings > Overview (docs/time-zones.md)",
            )

    # --- The cost of a run -------------------------------------------------------------------------------------------

    def _report_run(self, date_ranges: Sequence[DateRange], days: Sequence[DaySize]) -> None:
        settings = self._settings
        ahead = settings.concurrent_exports
        run = forecast(date_ranges, days, window_days=settings.window_days, ahead=ahead)
        window = span(date_ranges)
        # With replication by ingestion time, days that were read before are only read in part.
        is_partial = any(date_range.is_update for date_range in date_ranges)
        bound = "up to " if is_partial else "" if run.is_whole else "at least "
        self._report.ok(
            "run",
            f"{window.first} to {window.last}: {bound}{about(run.events)} events, {size_text(run.decompressed_bytes)} "
            f"({size_text(run.received)} over the network)",
        )
        self._report_quota(run.requests, is_deferrable=any(date_range.is_deferrable for date_range in date_ranges))
        self._report_disk(run)

    def _report_quota(self, requests: int, *, is_deferrable: bool) -> None:
        """Report how long a run waits for quota.

        Args:
            requests: The number of export requests of the run.
            is_deferrable: Whether the run can leave part of the back-fill to the next run when the quota is used up.
        """
        hourly, max_wait = self._run.quota.hourly("data"), self._settings.max_quota_wait
        hours = (requests - 1) // hourly
        cost = f"{about(requests)} exports"
        if not hours:
            source = "hourly_quota" if hourly == self._settings.hourly_quota else "Mixpanel"
            self._report.ok("quota", f"{cost}, {source} allows {hourly} an hour: no waiting")
            return
        wait = hours * SECONDS_PER_HOUR
        cost += f" at {hourly} an hour: {in_words(wait)} of waiting"
        if wait <= max_wait:
            self._report.ok("quota", cost)
            return
        runs = -(-requests // (hourly * (1 + max_wait // SECONDS_PER_HOUR)))
        if is_deferrable:
            self._report.ok("quota", f"{cost}; the back-fill takes at least {runs} runs")
            return
        self._report.problem(
            "quota",
            f"{cost}, more than max_quota_wait ({max_wait} s) allows in one run: run {runs} times, an hour apart, or "
            f"set max_quota_wait to {wait}",
        )

    def _report_disk(self, run: Forecast) -> None:
        if not run.spooled:
            self._report.ok("disk", "no space needed: the windows fit in memory")
            return
        needed = f"{'up to about' if run.is_whole else 'more than'} {size_text(run.spooled)}"
        folder = tempfile.gettempdir()
        disk = shutil.disk_usage(folder)
        reserved = reserved_bytes(disk.total)
        if run.spooled <= disk.free - reserved:
            self._report.ok("disk", f"{needed} in the temporary folder, as a buffer for windows")
            return
        self._report.problem(
            "disk",
            f"{needed} in the temporary folder {folder}, which has {size_text(disk.free)} left, "
            f"{size_text(reserved)} of it reserved: free some space, point TMPDIR at a larger disk, or lower "
            "window_days or concurrent_exports",
        )

    # --- Helpers -----------------------------------------------------------------------------------------------------

    @property
    def _retrying(self) -> Retrying:
        return Retrying(self._run.clock, MAX_RETRIES, self._run.log)

    def _fetcher(self, stream: EventsStream) -> WindowFetcher:
        # Always skip malformed lines, to count them. The report applies the setting `bad_lines`.
        settings = structs.replace(self._settings, bad_lines="skip")
        return WindowFetcher(
            self._run.client,
            settings,
            EventSchema(raw=settings.raw),
            record_envelope(stream.name, self._run.clock.now()),
            # All columns, because `DistinctEvents` reads several of them.
            columns=None,
            log=self._run.log,
        )

    def _first_and_last_day(self, stream: EventsStream) -> tuple[date, date]:
        settings = self._settings
        first = first_day(stream.delivered().before, stream.start_date(), settings.lookback_days, settings.zone)
        return first, stream.last_day()


@dataclass(frozen=True, slots=True)
class _MeasuredDay:
    """The events of one sampled day.

    Attributes:
        day: The size of the day.
        bad_lines: The number of malformed lines.
        first_bad_line: The position of the first malformed line and the reason, without the line itself.
        events: The distinct events.
    """

    day: DaySize
    bad_lines: int
    first_bad_line: str
    events: DistinctEvents


class _SizeOnly(Spool):
    """A spool that discards the lines and keeps only their size."""

    def write(self, lines: bytes) -> None:
        """Add the size of the lines."""
        self.size += len(lines)


def _is_accepted(outcome: Outcome) -> bool:
    """Return whether Mixpanel accepted the credentials for the project."""
    return isinstance(outcome, str) or (isinstance(outcome, Refused) and outcome.kind in ACCEPTED_KINDS)
