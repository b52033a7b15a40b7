"""The cost of an event for each program, in alternating runs.

A program runs twice in a round: over much, and over little. What the small run took is taken off, and with it the
start-up; the rest is divided by the events between. That in turn is divided by what `gzip -dc` took for an event in the
same round, so that a machine that is busy, or slow, shows less. The figures are the medians of the rounds.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from .data import FIRST_DAY, History, last_day_of
from .environments import NotInstalledError
from .processes import Cost, RunFailedError, cpu_until, run
from .programs import (
    GZIP_AT_LENGTH,
    GZIP_OF_PROFILES,
    IN_EACH_LAYOUT,
    IN_LONG_WINDOWS,
    OBVIOUS,
    OURS,
    SCHEMA,
    THE_PEERS,
    UNPACKING,
    Task,
    as_installed,
)
from .report import progress
from .serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .programs import Program
    from .serving import Site


@dataclass(frozen=True)
class Pace:
    """What an event, or a profile, took in one round.

    Attributes:
        cpu: Seconds of CPU.
        wall: Seconds.
    """

    cpu: float
    wall: float


@dataclass
class Result:
    """What a program's rounds brought.

    Attributes:
        program: Who ran.
        paces: Its pace in each round.
        times_gzip: The same, as multiples of gzip's in the same round.
        runs: The large run of each round.
        starts: Seconds of CPU to the SCHEMA message, in each round; empty for who writes none.
        least_memory: Bytes below which the memory of a process cannot be seen.
        failure: Why there is nothing.
    """

    program: Program
    paces: list[Pace] = field(default_factory=list)
    times_gzip: list[Pace] = field(default_factory=list)
    runs: list[Cost] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    least_memory: int = 0
    failure: str = ""

    @property
    def cpu(self) -> float:
        """Seconds of CPU an event, the median."""
        return median(pace.cpu for pace in self.paces)

    @property
    def wall(self) -> float:
        """Seconds an event, the median."""
        return median(pace.wall for pace in self.paces)

    @property
    def memory(self) -> int:
        """Bytes at the peak, of the largest process, the median."""
        return int(median(run.memory for run in self.runs))

    @property
    def together(self) -> int:
        """Bytes at the peak, of all processes, the median."""
        return int(median(run.together for run in self.runs))

    @property
    def start(self) -> float:
        """Seconds of CPU to the SCHEMA message, the median."""
        return median(self.starts)

    @property
    def cpu_times_gzip(self) -> float:
        """CPU as a multiple of gzip's, the median."""
        return median(pace.cpu for pace in self.times_gzip)

    @property
    def wall_times_gzip(self) -> float:
        """Time as a multiple of gzip's, the median."""
        return median(pace.wall for pace in self.times_gzip)


def groups(*, quick: bool) -> list[list[Program]]:
    """Return the programs in groups. The first of a group is what the others are measured by."""
    all_sorts = [*UNPACKING, *as_installed(OURS), *OBVIOUS, *(() if quick else THE_PEERS)]
    all_groups = [
        [each for each in all_sorts if each.stream == "events"],
        [GZIP_OF_PROFILES, *(each for each in all_sorts if each.stream == "profiles")],
        [GZIP_AT_LENGTH, *as_installed(IN_LONG_WINDOWS)],
        *map(list, IN_EACH_LAYOUT),
    ]
    return [[each.given(4_000, 2_000) for each in group] for group in all_groups] if quick else all_groups


def measure(group: list[Program]) -> list[Result]:
    """Run a group's rounds.

    Args:
        group: Who runs; the first is what the others are measured by, and runs in each round.
    """
    nothing = run(["true"])
    results = [Result(program, least_memory=nothing.memory) for program in group]
    with _course(group) as course:
        for number in range(max(program.size.rounds for program in group)):
            progress(f"comparison: round {number + 1}")
            yardstick: Pace | None = None
            for result in results:
                if result.failure or number >= result.program.size.rounds:
                    continue
                try:
                    pace = _round(course, result)
                except (RunFailedError, NotInstalledError) as failure:
                    result.failure = str(failure)
                    progress(f"comparison: {result.program.name}: {failure}")
                    continue
                yardstick = yardstick or pace
                result.paces.append(pace)
                result.times_gzip.append(Pace(_times(pace.cpu, yardstick.cpu), _times(pace.wall, yardstick.wall)))
    return results


def _round(course: _Course, result: Result) -> Pace:
    program = result.program
    size = program.size
    if program.is_singer:
        with course.task(program, size.small) as task:
            result.starts.append(cpu_until(SCHEMA, program.command(task), dict(program.environment)))
    small, large = (course.run(program, amount) for amount in (size.small, size.large))
    result.runs.append(large)
    between = size.large - size.small
    return Pace((large.cpu - small.cpu) / between, (large.wall - small.wall) / between)


def _times(figure: float, measure: float) -> float:
    # Over very little, the small run can take longer than the large one.
    return figure / measure if measure > 0 else nan


class _Course:
    """Where a group runs: the local Mixpanels and the files, for each size.

    Args:
        sites: The local Mixpanel, by the number of its profiles and its zone.
        bodies: The file with a stream's answer, by how much it holds.
        names: The file with the names of all properties.
    """

    def __init__(self, sites: dict[tuple[int, str], Site], bodies: dict[int, Path], names: Path) -> None:
        self._sites = sites
        self._bodies = bodies
        self._names = names

    @contextmanager
    def task(self, program: Program, amount: int) -> Iterator[Task]:
        """Make the task of reading so many events or profiles."""
        of_events = program.stream == "events"
        with tempfile.TemporaryDirectory() as folder:
            yield Task(
                site=self._sites[0 if of_events else amount, program.zone],
                first=FIRST_DAY,
                last=last_day_of(amount) if of_events else FIRST_DAY,
                body=self._bodies[amount],
                names=self._names,
                folder=Path(folder),
            )

    def run(self, program: Program, amount: int) -> Cost:
        """Run a program once."""
        with self.task(program, amount) as task:
            return run(program.command(task), environment=dict(program.environment))


@contextmanager
def _course(group: list[Program]) -> Iterator[_Course]:
    amounts = sorted({amount for each in group for amount in (each.size.small, each.size.large)})
    of_events = group[0].stream == "events"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = {(0 if of_events else amount, each.zone) for each in group for amount in amounts}
        layout = group[0].layout
        sites = {(profiles, zone): stack.enter_context(serving(profiles, zone, layout)) for profiles, zone in served}
        bodies = {amount: folder / f"{amount}.gz" for amount in amounts}
        history = History(layout=layout)
        for amount, body in bodies.items():
            if of_events:
                history.save(body, amount)
            else:
                sites[amount, group[0].zone].save_profiles(body)
        names = folder / "names.json"
        history.save_names(names)
        yield _Course(sites, bodies, names)
