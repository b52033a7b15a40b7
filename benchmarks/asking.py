"""Requests and hours of quota: what a year of a project costs at 60 requests an hour, and three years.

Small projects are read by the tap itself, in this process, from the local Mixpanel with its quota on, by a clock that
jumps over each wait. Of larger ones only the sizes are there: the tap's own `WindowPlanner` is told them, its `Quota`
lets the requests through. Both are done for the small ones, so that it shows whether they agree.
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

from tap_mixpanel_stream.emulator import Emulator, FixedProject, Quota as MixpanelsQuota
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.replication.windows import DateRange, Window, WindowPlanner
from tap_mixpanel_stream.settings.schema import SCHEMA
from tap_mixpanel_stream.tap import TapMixpanelStream
from tests.mixpanel.fake_clock import FakeClock

from .data import EVENTS_A_DAY, FIRST_DAY, History
from .programs import catalog_of
from .report import progress
from .serving import Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECTS = {"tiny": 10, "small": EVENTS_A_DAY, "middling": 20_000, "huge": 2_000_000}
"""Events a day."""

WINDOWS: dict[str, int | None] = {"adaptive": None, "30 days": 30, "1 day": 1}
YEARS = (1, 3)

_READ = ("tiny", "small")
_DAYS_A_YEAR = 365
_FOREVER = 10**9
_TIME = re.compile(rb'(?<="time":)\d+')
_AHEAD: int = SCHEMA["properties"]["concurrent_exports"]["default"]


@dataclass(frozen=True)
class Asked:
    """What it took to read a project.

    Attributes:
        requests: How many requests.
        hours: How long the quota made the run wait.
        largest: Bytes of the largest window, unpacked.
    """

    requests: int
    hours: float
    largest: float


@dataclass(frozen=True)
class Case:
    """A project, read in one way.

    Attributes:
        project: Its name in `PROJECTS`.
        years: How much of it.
        windows: The way's name in `WINDOWS`.
        by_plan: What it takes by sizes alone.
        read: What it took to read it; None where that would take too long.
    """

    project: str
    years: int
    windows: str
    by_plan: Asked
    read: Asked | None

    @property
    def asked(self) -> Asked:
        """What it takes, by the better knowledge."""
        return self.read or self.by_plan


def ask(*, quick: bool) -> list[Case]:
    """Go through all cases; in a hurry those of one year, and read only what is tiny."""
    cases = []
    for project, years, windows in itertools.product(PROJECTS, YEARS[:1] if quick else YEARS, WINDOWS):
        progress(f"asking: a {project} project, {years} year{'s' if years > 1 else ''}, windows {windows}")
        days = years * _DAYS_A_YEAR
        is_read = project in _READ[: 1 if quick else None]
        read = _read(project, days, WINDOWS[windows]) if is_read else None
        cases.append(Case(project, years, windows, _by_plan(project, days, WINDOWS[windows]), read))
    return cases


@functools.cache
def bytes_a_day(project: str) -> float:
    """How many bytes a day of a project has, unpacked."""
    return PROJECTS[project] * History().event_bytes()


def _by_plan(project: str, days: int, window_days: int | None) -> Asked:
    clock = FakeClock()
    quota = Quota(clock, max_wait=_FOREVER)
    plan = WindowPlanner([DateRange(Window(FIRST_DAY, FIRST_DAY + timedelta(days=days - 1)))], window_days)
    a_day = bytes_a_day(project)
    largest = 0.0
    under_way: deque[DateRange] = deque()
    while True:
        while len(under_way) < _AHEAD and (date_range := plan.next()):
            quota.acquire(str(date_range.window))
            under_way.append(date_range)
        if not under_way:
            return Asked(quota.requests, quota.waited / 3600, largest)
        date_range = under_way.popleft()
        size = date_range.window.days * a_day
        largest = max(largest, size)
        plan.report(date_range, int(size))


class _PatientClock(FakeClock):
    """A clock that jumps only while no request is on its way, which would arrive after the jump otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.all_answered: Callable[[], bool] = lambda: True

    def sleep(self, seconds: float) -> None:
        """Jump."""
        while not self.all_answered():
            time.sleep(0.001)
        super().sleep(seconds)


def _read(project: str, days: int, window_days: int | None) -> Asked:
    clock = _PatientClock()
    is_ready = PROJECTS[project] == EVENTS_A_DAY
    held = FixedProject() if is_ready else _project(project, days)
    with Emulator(held, now=clock.now, quota=MixpanelsQuota(clock=clock.monotonic)) as emulator:
        if is_ready:
            emulator.cache = cast("Any", Ready())
        config = {
            **emulator.settings,
            "start_date": str(FIRST_DAY),
            "end_date": str(FIRST_DAY + timedelta(days=days - 1)),
            "raw": True,
            "max_quota_wait": _FOREVER,
            **({} if window_days is None else {"window_days": window_days}),
        }
        with _in_this_process():
            tap = TapMixpanelStream(config=config, catalog=catalog_of("events", config_json='{"raw": true}'))
            tap.run.clock = clock
            clock.all_answered = lambda: (
                len(emulator.requests) == tap.run.quota.requests and all(seen.status for seen in emulator.requests)
            )
            tap.sync_all()
            tap.run.client.close()
        spans = [_days_of(seen.query) for seen in emulator.requests]
    return Asked(tap.run.quota.requests, tap.run.quota.waited / 3600, max(spans) * bytes_a_day(project))


def _project(project: str, days: int) -> FixedProject:
    lines = History().days[0].lines.splitlines()[: PROJECTS[project]]

    def on(number: int) -> list[bytes]:
        """The lines of a later day."""
        return [_TIME.sub(lambda found: b"%d" % (int(found[0]) + 86_400 * number), line, count=1) for line in lines]

    return FixedProject({FIRST_DAY + timedelta(days=number): on(number) for number in range(days)})


def _days_of(query: dict[str, str]) -> int:
    first, last = (date.fromisoformat(query[name]) for name in ("from_date", "to_date"))
    return (last - first).days + 1


@contextlib.contextmanager
def _in_this_process() -> Iterator[None]:
    """Let the tap write into nothing, and take back the signals that it asks for."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
