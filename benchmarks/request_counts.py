"""Number of requests and waiting time for one and three years of a project, at 60 requests per hour.

For small projects, the tap runs in this process and reads from the emulator, with its quota enabled and a clock that
skips waits. For larger projects, only the sizes of the responses are simulated, with the tap's `WindowPlanner` and
`Quota`. Small projects are measured both ways to verify the simulation.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import signal
import time
from collections import deque
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tap_mixpanel_stream.emulator import Emulator, FixedProject, Quota as EmulatorQuota
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.replication.windows import DateRange, Window, WindowPlanner
from tap_mixpanel_stream.settings.schema import SCHEMA
from tap_mixpanel_stream.tap import TapMixpanelStream
from tests.mixpanel.fake_clock import FakeClock

from .data import EVENTS_PER_DAY, FIRST_DAY, History
from .emulator_process import PreparedExports
from .programs import catalog_of
from .report import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECTS = {"tiny": 10, "small": EVENTS_PER_DAY, "medium": 20_000, "huge": 2_000_000}
"""Events per day by project name."""

WINDOWS: dict[str, int | None] = {"adaptive": None, "30 days": 30, "1 day": 1}
YEARS = (1, 3)

_EMULATED = ("tiny", "small")
_DAYS_PER_YEAR = 365
_FOREVER = 10**9
_TIME = re.compile(rb'(?<="time":)\d+')
_CONCURRENT_EXPORTS: int = SCHEMA["properties"]["concurrent_exports"]["default"]


@dataclass(frozen=True)
class RequestCount:
    """The requests to read a project.

    Attributes:
        requests: Number of requests.
        hours: Time that the run waited for the quota, in hours.
        largest: Decompressed size of the largest window in bytes.
    """

    requests: int
    hours: float
    largest: float


@dataclass(frozen=True)
class Case:
    """A project with a setting for windows.

    Attributes:
        project: Name of the project, a key of `PROJECTS`.
        years: Years of history.
        windows: Name of the window setting, a key of `WINDOWS`.
        simulated: Result of the simulation.
        emulated: Result of reading from the emulator; None for projects that are too large.
    """

    project: str
    years: int
    windows: str
    simulated: RequestCount
    emulated: RequestCount | None

    @property
    def result(self) -> RequestCount:
        """The result from the emulator, or else from the simulation."""
        return self.emulated or self.simulated


def measure(*, quick: bool) -> list[Case]:
    """Measure all cases. In a quick run, measure one year and read only the smallest project from the emulator."""
    cases = []
    for project, years, windows in itertools.product(PROJECTS, YEARS[:1] if quick else YEARS, WINDOWS):
        progress(f"requests: {project} project, {years} year{'s' if years > 1 else ''}, windows {windows}")
        days = years * _DAYS_PER_YEAR
        is_emulated = project in _EMULATED[: 1 if quick else None]
        emulated = _emulate(project, days, WINDOWS[windows]) if is_emulated else None
        cases.append(Case(project, years, windows, _simulate(project, days, WINDOWS[windows]), emulated))
    return cases


@functools.cache
def bytes_per_day(project: str) -> float:
    """Return the decompressed size of a day in bytes."""
    return PROJECTS[project] * History().event_bytes()


def _simulate(project: str, days: int, window_days: int | None) -> RequestCount:
    clock = FakeClock()
    quota = Quota(clock, max_wait=_FOREVER)
    plan = WindowPlanner([DateRange(Window(FIRST_DAY, FIRST_DAY + timedelta(days=days - 1)))], window_days)
    day_size = bytes_per_day(project)
    largest = 0.0
    in_progress: deque[DateRange] = deque()
    while True:
        while len(in_progress) < _CONCURRENT_EXPORTS and (date_range := plan.next()):
            quota.acquire(str(date_range.window))
            in_progress.append(date_range)
        if not in_progress:
            return RequestCount(quota.requests, quota.waited / 3600, largest)
        date_range = in_progress.popleft()
        size = date_range.window.days * day_size
        largest = max(largest, size)
        plan.report(date_range, int(size))


class _PatientClock(FakeClock):
    """A fake clock that waits for running requests before it skips a wait, so that they arrive at the right time."""

    def __init__(self) -> None:
        super().__init__()
        self.all_completed: Callable[[], bool] = lambda: True

    def sleep(self, seconds: float) -> None:
        """Wait for running requests, then advance the clock."""
        while not self.all_completed():
            time.sleep(0.001)
        super().sleep(seconds)


def _emulate(project: str, days: int, window_days: int | None) -> RequestCount:
    clock = _PatientClock()
    is_emulatedy = PROJECTS[project] == EVENTS_PER_DAY
    contents = FixedProject() if is_emulatedy else _project(project, days)
    with Emulator(contents, now=clock.now, quota=EmulatorQuota(clock=clock.monotonic)) as emulator:
        if is_emulatedy:
            emulator.cache = cast("Any", PreparedExports())
        config = {
            **emulator.settings,
            "start_date": str(FIRST_DAY),
            "end_date": str(FIRST_DAY + timedelta(days=days - 1)),
            "raw": True,
            "max_quota_wait": _FOREVER,
            **({} if window_days is None else {"window_days": window_days}),
        }
        with _discarded_output():
            tap = TapMixpanelStream(config=config, catalog=catalog_of("events", config_json='{"raw": true}'))
            tap.run.clock = clock
            clock.all_completed = lambda: (
                len(emulator.requests) == tap.run.quota.requests
                and all(request.status for request in emulator.requests)
            )
            tap.sync_all()
            tap.run.client.close()
        spans = [_days_of(request.query) for request in emulator.requests]
    return RequestCount(tap.run.quota.requests, tap.run.quota.waited / 3600, max(spans) * bytes_per_day(project))


def _project(project: str, days: int) -> FixedProject:
    lines = History().days[0].lines.splitlines()[: PROJECTS[project]]

    def on(number: int) -> list[bytes]:
        """Return the lines of a later day."""
        return [_TIME.sub(lambda found: b"%d" % (int(found[0]) + 86_400 * number), line, count=1) for line in lines]

    return FixedProject({FIRST_DAY + timedelta(days=number): on(number) for number in range(days)})


def _days_of(query: dict[str, str]) -> int:
    first, last = (date.fromisoformat(query[name]) for name in ("from_date", "to_date"))
    return (last - first).days + 1


@contextlib.contextmanager
def _discarded_output() -> Iterator[None]:
    """Discard the tap's output and restore the signal handlers afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
