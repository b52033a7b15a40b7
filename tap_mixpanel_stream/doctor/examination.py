"""The checks of the doctor, their order, and what the responses mean."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from msgspec import structs

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
from .forecast import Day, Forecast, forecast, sample_days
from .report import Report, about, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..records.timezone_check import TimezoneFinding
    from ..run import Run
    from ..streams.base import MixpanelStream

DAYS = 5
"""Days of events that are read, at the most."""

SECONDS = 30.0
"""Seconds that are spent on one day, at the most."""

RETRIES = 1
PATIENCE = 30
"""Seconds to wait for quota, instead of `max_quota_wait`: a person waits for the report."""

SAMPLE_LINES = 16 * LINES_PER_WINDOW
"""Lines of a day that show its time zone."""

WRONG_CLOCK = timedelta(seconds=30)
SECONDS_AN_HOUR = 3600

# Refusals that show that the credentials are right and the project is found.
WELCOME = frozenset({"plan", "history", "time_zone", "parameter"})
# Refusals that a project in another region causes.
UNKNOWN_HERE = frozenset({"credentials", "access", "not_found"})


# The outcome of a request: the report's text for a stream that can be read, or the error.
Outcome = str | MixpanelError | StreamError


def examine(
    run: Run, streams: Sequence[MixpanelStream], *, state_warnings: Sequence[str] = (), has_catalog: bool = False
) -> int:
    """Try a configuration and write a report.

    Args:
        run: The run of that configuration, which has sent no request yet. It waits and retries less from now on.
        streams: The selected streams, in the order of a run.
        state_warnings: A sentence for each entry of the state that a run does not use.
        has_catalog: Whether a catalog selects the streams.

    Returns:
        The exit code: 1 if a run would fail or date its events wrong, else 0.
    """
    report = Report(run.stdout, run.settings.auth.secrets)
    max_wait = timedelta(seconds=run.settings.max_quota_wait)
    try:
        _Examination(run, streams, report, state_warnings, has_catalog=has_catalog).examine()
    except QuotaSpent as spent:
        now = run.clock.now()
        until = spent.until or now
        would = "wait" if until - now <= max_wait else "stop"
        report.problem(
            "quota",
            f"the project's quota for this hour is used up: try again after {time_text(until)}. A run would {would}",
        )
    finally:
        run.client.close()
    report.end(run.quota.requests, run.quota.hourly("data"))
    return 1 if report.problems else 0


class _Examination:
    """One examination of one configuration."""

    def __init__(
        self,
        run: Run,
        streams: Sequence[MixpanelStream],
        report: Report,
        state_warnings: Sequence[str],
        *,
        has_catalog: bool,
    ) -> None:
        self._run = run
        self._streams = streams
        self._report = report
        self._state_warnings = state_warnings
        self._has_catalog = has_catalog
        self._settings = run.settings
        run.settings = structs.replace(run.settings, max_retries=RETRIES, max_quota_wait=PATIENCE)
        self._given: list[str] = []
        self._not_in_plan: dict[str, Refused] = {}

    def examine(self) -> None:
        """Run the checks in order, and stop where one makes the next ones pointless."""
        warnings = self._settings.warnings()
        for warning in warnings:
            self._report.warning("settings", warning)
        if not warnings:
            self._report.ok("settings", "valid")
        self._tell_of_state()
        outcome = self._ask(self._streams[0])
        is_let_in = self._is_let_in(outcome)
        self._check_clock()
        if not is_let_in:
            return
        self._check_stream(self._streams[0], outcome)
        for stream in self._streams[1:]:
            self._check_stream(stream, self._ask(stream))
        self._tell_of_plan()

    def _tell_of_state(self) -> None:
        """Report which state a run would continue from; a bookmark that stops a run has stopped us by now."""
        for warning in self._state_warnings:
            self._report.warning("state", warning)
        bookmarks = [
            f"{stream.name} ({stream.bookmark_value or 'in part'})" for stream in self._streams if stream.state_entry
        ]
        if bookmarks:
            self._report.ok("state", f"{self._run.state_source}: a run continues from {', '.join(bookmarks)}")

    # --- Who asks, and where -----------------------------------------------------------------------------------------

    def _ask(self, stream: MixpanelStream) -> Outcome:
        """Request as little of a stream as shows whether it can be read."""
        try:
            if isinstance(stream, EventsStream):
                # The last day, since it is the one that need not have begun in the project.
                return self._retrying(lambda: self._one_event(stream))
            if isinstance(stream, ProfilesStream):
                total = stream.first_page(1).total
                return "readable" if total is None else f"{total:,} in the project"
            if isinstance(stream, ReportStream):
                next(stream.fetch(limit=1), None)  # Raises errors that only leave the stream empty in a run.
        except QuotaSpent:
            raise
        except (MixpanelError, StreamError) as error:
            return error
        return "readable"

    def _one_event(self, stream: EventsStream) -> str:
        last = self._range(stream)[1]
        self._fetcher(stream).check_access(DateRange(Window(last, last)))
        return "readable"

    def _is_let_in(self, outcome: Outcome) -> bool:
        """Report on credentials, region and project; the rest can be checked only where these are right."""
        report, settings = self._report, self._settings
        if _is_welcome(outcome):
            report.ok("credentials", "accepted")
            report.ok("region", settings.region if settings.other_regions else "set by data_api_url and api_url")
            report.ok("project", settings.auth.project_id or "the project of api_secret")
            return True
        if not isinstance(outcome, Refused) or outcome.kind not in UNKNOWN_HERE:
            report.problem("connection", str(outcome))
        elif home := self._home():
            report.problem("region", f"the project's region is {home}, not {settings.region}: set region to {home}")
        else:
            others = " and ".join(settings.other_regions)
            tried = f". The other regions ({others}) reject it too" if others else ""
            check = "credentials" if outcome.kind == "credentials" else "project"
            report.problem(check, f"{outcome}{tried}")
        return False

    def _home(self) -> str | None:
        """Ask the other regions; return the one that knows the project."""
        for region, hosts in self._settings.other_regions.items():
            self._run.client.close()
            self._run.client = self._run.client_at(hosts)
            if _is_welcome(self._ask(self._streams[0])):
                return region
        return None

    def _check_clock(self) -> None:
        lead = self._run.client.clock_lead
        if lead is None:
            return
        if abs(lead) <= WRONG_CLOCK:
            self._report.ok("clock", "in sync with Mixpanel's")
            return
        side = "ahead of" if lead > timedelta() else "behind"
        self._report.warning(
            "clock",
            f"this machine's clock is {in_words(abs(lead).total_seconds())} {side} Mixpanel's: correct it. The "
            "last day to read and the bookmarks depend on it",
        )

    # --- What can be read --------------------------------------------------------------------------------------------

    def _check_stream(self, stream: MixpanelStream, outcome: Outcome) -> None:
        refused = outcome.kind if isinstance(outcome, Refused) else None
        if isinstance(outcome, Refused) and refused == "plan":
            self._not_in_plan[stream.name] = outcome
        if refused == "time_zone":
            self._report.problem("last day", str(outcome))
        elif refused in NOT_IN_PLAN and isinstance(stream, ReportStream):
            self._report.warning(stream.name, f"{outcome}. A run leaves the stream empty")
            return
        elif refused == "plan":
            return  # The line about the plan says so.
        elif not isinstance(outcome, str):
            self._report.problem(stream.name, str(outcome))
            return
        else:
            self._given.append(stream.name)
        if isinstance(stream, EventsStream):
            # Clocks of zones are never more than 26 hours apart.
            self._check_events(stream, days_not_begun=2 if refused else 0)
        else:
            self._report.ok(stream.name, str(outcome))

    def _tell_of_plan(self) -> None:
        """Say which streams the plan does not include, and how to read the others."""
        if not self._not_in_plan:
            if self._given:
                self._report.ok("plan", f"includes {' and '.join(self._given)}")
            return
        # The others have a warning of their own.
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
            how = (
                f"deselect {' and '.join(failing)} in the catalog"
                if self._has_catalog
                else f"set streams to {json.dumps(others)}"
            )
            text += f": {how}"
        self._report.problem("plan", text)

    def _check_events(self, stream: EventsStream, *, days_not_begun: int) -> None:
        """Read some days, and report on the time zone and on a whole run."""
        date_ranges = stream.date_ranges()
        if not date_ranges:
            first, last = self._range(stream)
            self._report.warning("events", f"nothing to read: the first day, {first}, is after the last day, {last}")
            return
        first, last = span(date_ranges).first, span(date_ranges).last
        today = last_day(None, self._run.clock.now(), self._settings.zone)
        # A day that is not over shows less than it will hold.
        latest = max(first, min(last - timedelta(days=days_not_begun), today - timedelta(days=1)))
        timezone_check = TimezoneCheck()
        measured: list[_MeasuredDay] = []
        failure: Exception | None = None
        try:
            for day in sample_days(first, latest, DAYS):
                each = self._retrying(functools.partial(self._measure_day, stream, day, timezone_check))
                measured.append(each)
        except QuotaSpent:
            raise
        except (MixpanelError, StreamError) as error:
            failure = error
        self._tell_of_events(measured, failure)
        if not failure:
            self._tell_of_completeness(measured)
        if measured:
            self._tell_of_zone(
                timezone_check.finding(self._settings.project_timezone),
                is_first_load=stream.delivered() == DeliveredDays(),
            )
            self._tell_of_run(date_ranges, [each.day for each in measured])

    def _measure_day(self, stream: EventsStream, day: date, timezone_check: TimezoneCheck) -> _MeasuredDay:
        """Read one day, or the beginning of a very long one, as a run would, and keep none of it."""
        clock = self._run.clock
        until = clock.monotonic() + SECONDS
        is_whole = True

        def is_enough(chunk: SpooledChunk) -> bool:
            nonlocal is_whole
            is_whole = chunk.decompressed_bytes <= LARGE and clock.monotonic() <= until
            return not is_whole

        date_range = DateRange(Window(day, day))
        events = DistinctEvents(raw=self._settings.raw)
        with SpooledChunk(events, _SizeOnly()) as chunk:
            timezone_check.add(self._fetcher(stream).read_beginning(date_range, chunk, is_enough, SAMPLE_LINES))
        seen = Day(day, chunk.records, chunk.received, chunk.decompressed_bytes, chunk.lines.size, is_whole)
        reason = f"events {day}: malformed line {chunk.first_rejected}: {chunk.first_reason}"
        return _MeasuredDay(seen, chunk.rejected, reason, events)

    def _tell_of_events(self, measured: Sequence[_MeasuredDay], failure: Exception | None) -> None:
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
            self._report.warning("events", f"none on the sampled days ({days}): check {check}")

    def _tell_of_completeness(self, measured: Sequence[_MeasuredDay]) -> None:
        """Compare the days that were read with Mixpanel's own counts, where the plan includes these."""
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

    def _tell_of_zone(self, finding: TimezoneFinding, *, is_first_load: bool) -> None:
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

    # --- What a run takes --------------------------------------------------------------------------------------------

    def _tell_of_run(self, date_ranges: Sequence[DateRange], days: Sequence[Day]) -> None:
        settings = self._settings
        ahead = settings.concurrent_exports
        run = forecast(date_ranges, days, window_days=settings.window_days, ahead=ahead)
        window = span(date_ranges)
        # By ingestion time, days of which rows are delivered bring only those that are new.
        reads_less = any(date_range.processed and date_range.processed.since for date_range in date_ranges)
        least = "up to " if reads_less else "" if run.is_whole else "at least "
        self._report.ok(
            "run",
            f"{window.first} to {window.last}: {least}{about(run.events)} events, {size_text(run.decompressed_bytes)} "
            f"({size_text(run.received)} over the network)",
        )
        self._tell_of_quota(run.requests, can_go_on=any(date_range.is_deferrable for date_range in date_ranges))
        self._tell_of_disk(run)

    def _tell_of_quota(self, requests: int, *, can_go_on: bool) -> None:
        """Report what the exports of a run take.

        Args:
            requests: How many they are.
            can_go_on: Whether a run that has read what is most wanted ends well where the quota does.
        """
        hourly, most = self._run.quota.hourly("data"), self._settings.max_quota_wait
        hours = (requests - 1) // hourly
        taken = f"{about(requests)} exports"
        if not hours:
            who = "hourly_quota" if hourly == self._settings.hourly_quota else "Mixpanel"
            self._report.ok("quota", f"{taken}, {who} allows {hourly} an hour: no waiting")
            return
        wait = hours * SECONDS_AN_HOUR
        taken += f" at {hourly} an hour: {in_words(wait)} of waiting"
        if wait <= most:
            self._report.ok("quota", taken)
            return
        runs = -(-requests // (hourly * (1 + most // SECONDS_AN_HOUR)))
        if can_go_on:
            self._report.ok("quota", f"{taken}; the back-fill takes at least {runs} runs")
            return
        self._report.problem(
            "quota",
            f"{taken}, more than max_quota_wait ({most} s) allows in one run: run {runs} times, an hour apart, or "
            f"set max_quota_wait to {wait}",
        )

    def _tell_of_disk(self, run: Forecast) -> None:
        if not run.spooled:
            self._report.ok("disk", "none needed: the windows fit in memory")
            return
        needed = f"{'up to about' if run.is_whole else 'more than'} {size_text(run.spooled)}"
        folder = tempfile.gettempdir()
        disk = shutil.disk_usage(folder)
        others = reserved_bytes(disk.total)
        if run.spooled <= disk.free - others:
            self._report.ok("disk", f"{needed} in the temporary folder, as a buffer for windows")
            return
        self._report.problem(
            "disk",
            f"{needed} in the temporary folder {folder}, which has {size_text(disk.free)} left, "
            f"{size_text(others)} of it reserved: free some space, point TMPDIR at a larger disk, or lower "
            "window_days or concurrent_exports",
        )

    # --- Small things ------------------------------------------------------------------------------------------------

    @property
    def _retrying(self) -> Retrying:
        return Retrying(self._run.clock, RETRIES, self._run.log)

    def _fetcher(self, stream: EventsStream) -> WindowFetcher:
        # Malformed lines are counted; the report says what the setting `bad_lines` means for them.
        settings = structs.replace(self._settings, bad_lines="skip")
        return WindowFetcher(
            self._run.client,
            settings,
            EventSchema(raw=settings.raw),
            record_envelope(stream.name, self._run.clock.now()),
            # All of them: events without their keys could not be distinguished.
            columns=None,
            log=self._run.log,
        )

    def _range(self, stream: EventsStream) -> tuple[date, date]:
        settings = self._settings
        first = first_day(stream.delivered().before, stream.start_date(), settings.lookback_days, settings.zone)
        return first, stream.last_day()


@dataclass(frozen=True, slots=True)
class _MeasuredDay:
    """One day of events.

    Attributes:
        day: Its size.
        bad_lines: Number of malformed lines.
        first_bad_line: What is wrong with the first one, without the line itself.
        events: Its different events.
    """

    day: Day
    bad_lines: int
    first_bad_line: str
    events: DistinctEvents


class _SizeOnly(Spool):
    """A spool that keeps nothing but the size."""

    def write(self, lines: bytes) -> None:
        """Count the bytes."""
        self.size += len(lines)


def _is_welcome(outcome: Outcome) -> bool:
    return isinstance(outcome, str) or (isinstance(outcome, Refused) and outcome.kind in WELCOME)
