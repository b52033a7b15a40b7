"""Larger and larger: what an event costs, and how much memory it takes, from ten thousand events to ten million.

The days repeat, so the local Mixpanel holds as little for ten million events as for ten thousand. Windows are 90 days,
so that ten million events stay within the 60 requests of an hour. And two windows by themselves, of 10 MB and of 5 GB.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .data import EVENTS_A_DAY, FIRST_DAY, History, last_day_of
from .processes import run
from .programs import Task, ours
from .report import progress
from .serving import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .serving import Site

SHAPES = {"normalized": False, "raw": True}
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
WINDOWS = (10e6, 5e9)
QUICK_SIZES = (4_000, 20_000)
QUICK_WINDOWS = (10e6, 20e6)

_MOST_DAYS = 90
_START = EVENTS_A_DAY
_LIMIT = 3600.0
# Up to so many events a run is over in a second, and what else the machine does would show.
_SHORT, _SHORT_RUNS = 100_000, 5


@dataclass(frozen=True)
class Step:
    """One size.

    Attributes:
        shape: `raw` or `normalized`.
        events: How many events.
        windows: In how many requests.
        cpu: Seconds of CPU an event, start-up left out.
        memory: Bytes at the peak.
    """

    shape: str
    events: int
    windows: int
    cpu: float
    memory: int


@dataclass(frozen=True)
class Growth:
    """All sizes.

    Attributes:
        steps: More and more events.
        windows: One window each, of more and more bytes.
        event_bytes: How long an event is.
    """

    steps: list[Step]
    windows: list[Step]
    event_bytes: float


def grow(*, quick: bool) -> Growth:
    """Run the sizes, one after the other."""
    sizes, sizes_of_windows = (QUICK_SIZES, QUICK_WINDOWS) if quick else (SIZES, WINDOWS)
    event_bytes = History().event_bytes()
    # Whole days, the next larger number.
    windows = [EVENTS_A_DAY * -int(-size // (EVENTS_A_DAY * event_bytes)) for size in sizes_of_windows]
    with serving() as site:
        return Growth(
            [step for shape in SHAPES for step in _steps(site, shape, sizes, _MOST_DAYS)],
            [step for shape in SHAPES for step in _steps(site, shape, windows, max(windows) // EVENTS_A_DAY)],
            event_bytes,
        )


def _steps(site: Site, shape: str, sizes: Sequence[int], window_days: int) -> list[Step]:
    start, _ = _cost(site, shape, _START, window_days)
    steps = []
    for events in sizes:
        progress(f"growth: {events:,} events, {shape}, in windows of {window_days} days")
        cpu, memory = _cost(site, shape, events, window_days)
        windows = -(-events // (window_days * EVENTS_A_DAY))
        steps.append(Step(shape, events, windows, (cpu - start) / (events - _START), memory))
    return steps


def _cost(site: Site, shape: str, events: int, window_days: int) -> tuple[float, int]:
    """Return seconds of CPU and bytes of memory: the medians of several runs, where these are short."""
    program = ours(shape, raw=SHAPES[shape], window_days=window_days)
    costs = []
    for _ in range(_SHORT_RUNS if events <= _SHORT else 1):
        with tempfile.TemporaryDirectory() as folder:
            task = Task(site, FIRST_DAY, last_day_of(events), Path(), Path(), Path(folder))
            costs.append(run(program.command(task), limit=_LIMIT))
    return median(cost.cpu for cost in costs), int(median(cost.memory for cost in costs))
