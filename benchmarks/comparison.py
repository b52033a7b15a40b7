"""The cost per event of each program, measured in alternating runs.

In each round, a program runs twice, with much and with little data. The difference between the two costs, divided by
the difference in events, is the cost per event without start-up. The ratio to the cost of `gzip -dc` in the same round
compensates for differences in machine speed and load. The results are medians of the rounds.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .data import FIRST_DAY, History, last_day
from .emulator_process import run_emulator
from .processes import Cost, RunFailedError, cpu_until_output, run
from .programs import (
    DECOMPRESSORS,
    GZIP_LONG,
    GZIP_OF_PROFILES,
    LAYOUT_GROUPS,
    LONG_WINDOW_VARIANTS,
    MINIMAL_TAPS,
    PEERS,
    SCHEMA,
    TAP_VARIANTS,
    Task,
    supported,
)
from .report import progress
from .virtualenvs import NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .emulator_process import EmulatorServer
    from .programs import Program


@dataclass(frozen=True)
class UnitCost:
    """The cost per event or profile in one round.

    Attributes:
        cpu: CPU seconds, or the ratio to those of `gzip -dc`.
        wall: Wall time in seconds, or the ratio to that of `gzip -dc`.
    """

    cpu: float
    wall: float


@dataclass
class Result:
    """The results of a program.

    Attributes:
        program: The program.
        costs: Cost per event in each round.
        times_gzip: Ratio of the cost to that of `gzip -dc` in each round.
        runs: Cost of the large run in each round.
        starts: CPU seconds until the SCHEMA message in each round; empty for programs without this message.
        min_memory: Memory of the measuring process in bytes. Lower values cannot be measured.
        failure: Reason why the program did not run; empty if it ran.
    """

    program: Program
    costs: list[UnitCost] = field(default_factory=list)
    times_gzip: list[UnitCost] = field(default_factory=list)
    runs: list[Cost] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    min_memory: int = 0
    failure: str = ""

    @property
    def cpu(self) -> float:
        """CPU seconds per event, the median."""
        return median(cost.cpu for cost in self.costs)

    @property
    def wall(self) -> float:
        """Wall time per event in seconds, the median."""
        return median(cost.wall for cost in self.costs)

    @property
    def memory(self) -> int:
        """Peak memory of the largest process in bytes, the median."""
        return int(median(run.memory for run in self.runs))

    @property
    def total_memory(self) -> int:
        """Peak memory of all processes in bytes, the median."""
        return int(median(run.total_memory for run in self.runs))

    @property
    def start(self) -> float:
        """CPU seconds until the SCHEMA message, the median."""
        return median(self.starts)

    @property
    def cpu_times_gzip(self) -> float:
        """Ratio of the CPU time to that of `gzip -dc`, the median."""
        return median(cost.cpu for cost in self.times_gzip)

    @property
    def wall_times_gzip(self) -> float:
        """Ratio of the wall time to that of `gzip -dc`, the median."""
        return median(cost.wall for cost in self.times_gzip)


def groups(*, quick: bool) -> list[list[Program]]:
    """Return the programs in groups. The first program of each group is the reference for the others."""
    programs = [*DECOMPRESSORS, *supported(TAP_VARIANTS), *MINIMAL_TAPS, *(() if quick else PEERS)]
    all_groups = [
        [each for each in programs if each.stream == "events"],
        [GZIP_OF_PROFILES, *(each for each in programs if each.stream == "profiles")],
        [GZIP_LONG, *supported(LONG_WINDOW_VARIANTS)],
        *map(list, LAYOUT_GROUPS),
    ]
    return [[each.with_size(4_000, 2_000) for each in group] for group in all_groups] if quick else all_groups


def measure(group: list[Program]) -> list[Result]:
    """Run the rounds of a group.

    Args:
        group: Programs. The first one is the reference and runs in each round.
    """
    baseline = run(["true"])
    results = [Result(program, min_memory=baseline.memory) for program in group]
    with _set_up(group) as setup:
        for number in range(max(program.size.rounds for program in group)):
            progress(f"comparison: round {number + 1}")
            reference: UnitCost | None = None
            for result in results:
                if result.failure or number >= result.program.size.rounds:
                    continue
                try:
                    cost = _round(setup, result)
                except (RunFailedError, NotInstalledError) as failure:
                    result.failure = str(failure)
                    progress(f"comparison: {result.program.name}: {failure}")
                    continue
                reference = reference or cost
                result.costs.append(cost)
                result.times_gzip.append(UnitCost(_ratio(cost.cpu, reference.cpu), _ratio(cost.wall, reference.wall)))
    return results


def _round(setup: _Setup, result: Result) -> UnitCost:
    program = result.program
    size = program.size
    if program.is_singer:
        with setup.task(program, size.small) as task:
            result.starts.append(cpu_until_output(SCHEMA, program.command(task), dict(program.environment)))
    small, large = (setup.run(program, amount) for amount in (size.small, size.large))
    result.runs.append(large)
    difference = size.large - size.small
    return UnitCost((large.cpu - small.cpu) / difference, (large.wall - small.wall) / difference)


def _ratio(cost: float, reference: float) -> float:
    # With little data, the small run can take longer than the large one.
    return cost / reference if reference > 0 else nan


class _Setup:
    """The emulators and files for the programs of a group.

    Args:
        servers: Emulators by number of profiles and time zone.
        bodies: Gzip files with the response, by number of events or profiles.
        names: File with the names of all properties.
    """

    def __init__(self, servers: dict[tuple[int, str], EmulatorServer], bodies: dict[int, Path], names: Path) -> None:
        self._servers = servers
        self._bodies = bodies
        self._names = names

    @contextmanager
    def task(self, program: Program, amount: int) -> Iterator[Task]:
        """Create the task to read a number of events or profiles."""
        of_events = program.stream == "events"
        with tempfile.TemporaryDirectory() as folder:
            yield Task(
                server=self._servers[0 if of_events else amount, program.zone],
                first=FIRST_DAY,
                last=last_day(amount) if of_events else FIRST_DAY,
                body=self._bodies[amount],
                names=self._names,
                folder=Path(folder),
            )

    def run(self, program: Program, amount: int) -> Cost:
        """Run a program once and return its cost."""
        with self.task(program, amount) as task:
            return run(program.command(task), environment=dict(program.environment))


@contextmanager
def _set_up(group: list[Program]) -> Iterator[_Setup]:
    amounts = sorted({amount for each in group for amount in (each.size.small, each.size.large)})
    of_events = group[0].stream == "events"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = {(0 if of_events else amount, each.zone) for each in group for amount in amounts}
        layout = group[0].layout
        servers = {
            (profiles, zone): stack.enter_context(run_emulator(profiles, zone, layout)) for profiles, zone in served
        }
        bodies = {amount: folder / f"{amount}.gz" for amount in amounts}
        history = History(layout=layout)
        for amount, body in bodies.items():
            if of_events:
                history.save(body, amount)
            else:
                servers[amount, group[0].zone].save_profiles(body)
        names = folder / "names.json"
        history.save_names(names)
        yield _Setup(servers, bodies, names)
