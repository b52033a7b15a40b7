"""Cost per event and memory of the tap, from ten thousand to ten million events.

The days repeat, so the emulator needs the same memory for every number of events. Windows have 90 days, so that ten
million events stay within the limit of 60 requests per hour. A second series measures single windows of 10 MB and 5 GB.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .data import EVENTS_PER_DAY, FIRST_DAY, History, last_day
from .emulator_process import run_emulator
from .processes import run
from .programs import Task, tap_variant
from .report import progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .emulator_process import EmulatorServer

SHAPES = {"normalized": False, "raw": True}
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
WINDOWS = (10e6, 5e9)
QUICK_SIZES = (4_000, 20_000)
QUICK_WINDOWS = (10e6, 20e6)

_WINDOW_DAYS = 90
_BASE_EVENTS = EVENTS_PER_DAY
_LIMIT = 3600.0
# Runs with up to this many events take about a second. They are repeated to reduce the effect of other load.
_SHORT, _SHORT_RUNS = 100_000, 5


@dataclass(frozen=True)
class Step:
    """The result for one number of events.

    Attributes:
        shape: `raw` or `normalized`.
        events: Number of events.
        windows: Number of windows, that is, requests.
        cpu: CPU seconds per event without start-up.
        memory: Peak memory in bytes.
    """

    shape: str
    events: int
    windows: int
    cpu: float
    memory: int


@dataclass(frozen=True)
class Scaling:
    """The results for all sizes.

    Attributes:
        steps: Results by number of events.
        windows: Results of single windows.
        event_bytes: Average size of an event in bytes.
    """

    steps: list[Step]
    windows: list[Step]
    event_bytes: float


def measure(*, quick: bool) -> Scaling:
    """Run the tap with each size."""
    sizes, sizes_of_windows = (QUICK_SIZES, QUICK_WINDOWS) if quick else (SIZES, WINDOWS)
    event_bytes = History().event_bytes()
    # Round up to whole days.
    windows = [EVENTS_PER_DAY * -int(-size // (EVENTS_PER_DAY * event_bytes)) for size in sizes_of_windows]
    with run_emulator() as server:
        return Scaling(
            [step for shape in SHAPES for step in _steps(server, shape, sizes, _WINDOW_DAYS)],
            [step for shape in SHAPES for step in _steps(server, shape, windows, max(windows) // EVENTS_PER_DAY)],
            event_bytes,
        )


def _steps(server: EmulatorServer, shape: str, sizes: Sequence[int], window_days: int) -> list[Step]:
    start, _ = _cost(server, shape, _BASE_EVENTS, window_days)
    steps = []
    for events in sizes:
        progress(f"scaling: {events:,} events, {shape}, in windows of {window_days} days")
        cpu, memory = _cost(server, shape, events, window_days)
        windows = -(-events // (window_days * EVENTS_PER_DAY))
        steps.append(Step(shape, events, windows, (cpu - start) / (events - _BASE_EVENTS), memory))
    return steps


def _cost(server: EmulatorServer, shape: str, events: int, window_days: int) -> tuple[float, int]:
    """Return CPU seconds and peak memory in bytes. For short runs, they are medians of several runs."""
    program = tap_variant(shape, raw=SHAPES[shape], window_days=window_days)
    costs = []
    for _ in range(_SHORT_RUNS if events <= _SHORT else 1):
        with tempfile.TemporaryDirectory() as folder:
            task = Task(server, FIRST_DAY, last_day(events), Path(), Path(), Path(folder))
            costs.append(run(program.command(task), limit=_LIMIT))
    return median(cost.cpu for cost in costs), int(median(cost.memory for cost in costs))
