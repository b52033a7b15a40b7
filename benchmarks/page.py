"""Writing the tables of docs/benchmarks.md and README.md.

Each part is between a pair of marks and includes date and environment, so it can be measured again on its own.
"""

from __future__ import annotations

import re
from math import nan
from typing import TYPE_CHECKING

from .data import NO_INSERT_ID
from .fidelity import EDGE_CASES, TRUNCATIONS
from .request_counts import PROJECTS, bytes_per_day
from .tables import Goal, cell, figure, goal_table, table
from .virtualenvs import ROOT, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .comparison import Result
    from .environment import Environment
    from .fidelity import Differences
    from .pipelines import Load
    from .programs import Program
    from .request_counts import Case
    from .scaling import Scaling, Step
    from .stages import Stage

PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"

# The configurations of the tap in the README.
_IN_README = ("raw", "normalized", "normalized, gzip batch files", "normalized, stream map")
_MICRO = 1e6
_MB = 1e6


# --- Files -----------------------------------------------------------------------------------------------------------


def write(path: Path, part: str, text: str) -> None:
    """Replace the text of a part in a file.

    Raises:
        ValueError: The file does not contain the marks of the part.
    """
    whole = path.read_text(encoding="utf-8")
    begin, end = between_marks(whole, part)
    path.write_text(f"{whole[:begin]}\n{text}\n\n{whole[end:]}", encoding="utf-8")


def between_marks(text: str, part: str) -> tuple[int, int]:
    """Return the start and end of the text between the marks of a part.

    Raises:
        ValueError: The marks are missing.
    """
    marked = rf"^<!-- {part}: written from here[^\n]*\n(?P<inside>.*?)^<!-- {part}: to here"
    found = re.search(marked, text, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"the marks of {part} are missing")
    return found.span("inside")


# --- Parts -----------------------------------------------------------------------------------------------------------


def comparison(groups: Sequence[Sequence[Result]]) -> str:
    """Return the tables for events, profiles, events in long windows and line layouts."""
    events, profiles, long_windows, *layout_groups = groups
    layouts = [result for group in layout_groups for result in group if result.program.is_tap]
    by_name = {result.program.name: result for result in events if result.program.is_tap}
    raw, normalized = (by_name[name].cpu_times_gzip for name in ("raw", "normalized"))
    two_workers = next(each for each in long_windows if each.program.name == "normalized, 2 worker processes")
    return "\n\n".join(
        [
            _table_of("event", "Cost per event:", events),
            _table_of("profile", "Cost per profile:", profiles),
            _table_of("event", "Cost per event in windows of 100 days, three at a time:", long_windows),
            _table_of("event", "Cost per normalized event in other line layouts:", layouts),
            goal_table(
                Goal("CPU of raw events, relative to `gzip -dc`", 0.9, raw),
                Goal("CPU of normalized events, relative to `gzip -dc`", 2.0, normalized),
                *(
                    Goal(f"CPU of normalized events, {result.program.name}", 2.0, result.cpu_times_gzip)
                    for result in layouts
                    if not result.failure and result.program.layout != NO_INSERT_ID
                ),
                Goal("wall time of normalized events, 2 worker processes", 1.1, two_workers.wall_times_gzip),
            ),
        ]
    )


def _table_of(what: str, title: str, group: Sequence[Result]) -> str:
    head = [
        *("", f"{what}s", "rounds", "CPU, µs", "CPU / `gzip -dc`", "time, µs", "time / `gzip -dc`"),
        *("memory, MB", "all processes, MB", "start-up, ms"),
    ]
    return f"{title}\n\n" + table(head, [_row(result) for result in group])


def _row(result: Result) -> list[str]:
    if result.failure:
        return [_name(result.program), cell(f"did not run: {result.failure}")]
    return [
        _name(result.program),
        figure(result.program.size.large),
        figure(len(result.costs)),
        figure(result.cpu * _MICRO),
        figure(result.cpu_times_gzip),
        figure(result.wall * _MICRO),
        figure(result.wall_times_gzip),
        _memory(result.memory, result.min_memory),
        _memory(result.total_memory, result.min_memory),
        f"{result.start * 1000:.0f}" if result.program.is_singer else "",
    ]


def readme(results: Sequence[Result], environment: Environment, event_bytes: float) -> str:
    """Return the table of the README, from the comparison of events."""
    rows = [
        [
            _name(result.program),
            figure(result.cpu * _MICRO),
            figure(result.cpu_times_gzip),
            _memory(result.memory, result.min_memory),
        ]
        for result in results
        if not result.failure and (not result.program.is_tap or result.program.name in _IN_README)
    ]
    return "\n\n".join(
        [
            f"A million events, {figure(event_bytes * 1e6 / 1e9)} GB decompressed:",
            table(["", "CPU, s", "CPU / `gzip -dc`", "memory, MB"], rows),
            environment.brief(),
        ]
    )


def fidelity(checked: Sequence[Differences]) -> str:
    """Return the tables of the comparison of input and output."""
    done = [each for each in checked if not each.failure]
    ours = [each for each in done if each.program.is_tap]
    names = [_name(each.program) for each in done]
    head = [
        "",
        "events",
        "lost",
        "duplicated",
        "names",
        "renamed",
        "values",
        "now text",
        "changed",
        "missing",
        "times changed",
    ]
    return "\n\n".join(
        [
            "A day of events:",
            table(head, [[_name(each.program), *map(figure, _counts(each))] for each in done]),
            "\n".join(f"- {_name(each.program)}: {_note(each)}" for each in checked),
            "Edge-case values:",
            table(["", *names], [[cell(name), *(cell(each.edge_cases[name]) for each in done)] for name in EDGE_CASES]),
            "The first response, with status 200, is truncated half-way:",
            table(
                ["", *names], [[cell(name), *(cell(each.truncations[name]) for each in done)] for name in TRUNCATIONS]
            ),
            goal_table(
                Goal("events lost or duplicated by this tap", 0, sum(each.dropped + each.duplicated for each in ours)),
                Goal("values changed or lost by this tap", 0, sum(each.changes for each in ours)),
                Goal("truncated responses that this tap does not detect", 0, sum(each.undetected for each in ours)),
            ),
        ]
    )


def pipelines(loads: Sequence[Load]) -> str:
    """Return the table of pipelines."""
    head = ["", "events per second", "time, s", "CPU of the tap, s", "CPU of the target or loader, s"]
    rows = [
        [load.pipeline.name, cell(f"did not run: {load.failure}")]
        if load.failure
        else [
            load.pipeline.name,
            f"{load.events / load.wall:,.0f}",
            figure(load.wall),
            figure(load.tap_cpu),
            figure(load.loader_cpu) if load.pipeline.loader else "",
        ]
        for load in loads
    ]
    return table(head, rows)


def _counts(found: Differences) -> tuple[int, ...]:
    return (
        *(found.events, found.dropped, found.duplicated, found.names, len(found.renamed)),
        *(found.values, found.as_text, found.changed, found.missing, found.times_changed),
    )


def _note(found: Differences) -> str:
    """Summarize the differences in sentences."""
    if found.failure:
        return f"did not run: {found.failure}."
    sentences = []
    if found.dropped or found.duplicated:
        sentences.append(f"{found.dropped:,} events are lost and {found.duplicated:,} are duplicated.")
    else:
        sentences.append("No event is lost or duplicated.")
    if found.renamed:
        name, now = next(iter(found.renamed.items()))
        sentences.append(f"{len(found.renamed)} of {found.names} names changed (`{name}` became `{now}`).")
    for kind, words in (
        ("as_text", "became text"),
        ("changed", "changed"),
        ("missing", "are missing"),
        ("times_changed", "are a different time"),
    ):
        if count := getattr(found, kind):
            name, before, after = found.examples[kind]
            example = f"`{name}`: `{before}`" + (f" became `{after}`" if after else "")
            sentences.append(f"{count:,} of {found.values:,} values {words} ({example}).")
    if not found.as_text + found.changes:
        sentences.append("All values are unchanged.")
    if found.undetected:
        sentences.append(
            f"{found.undetected} of {len(TRUNCATIONS)} truncated responses caused missing or duplicated rows "
            "without an error."
        )
    return " ".join(sentences)


def scaling(results: Scaling) -> str:
    """Return the tables by number of events and by size of the window."""
    head = ["", "events", "MB decompressed", "windows", "CPU per event, µs", "memory, MB"]
    goals: list[Goal] = []
    for shape in dict.fromkeys(step.shape for step in results.steps):
        steps, windows = (
            [step for step in all_steps if step.shape == shape] for all_steps in (results.steps, results.windows)
        )
        goals += [
            # The first size is too small for a stable figure.
            Goal(f"{shape}: CPU per event, maximum / minimum", 1.1, _spread(step.cpu for step in steps[1:])),
            Goal(f"{shape}: memory, maximum / minimum", 1.1, _spread(step.memory for step in steps[1:])),
            Goal(f"{shape}: memory, large window / small window", 1.1, _last_by_first(windows)),
        ]
    return "\n\n".join(
        [
            "By number of events:",
            table(head, _steps(results.steps, results.event_bytes)),
            "A single window:",
            table(head, _steps(results.windows, results.event_bytes)),
            goal_table(*goals),
        ]
    )


def _steps(steps: Sequence[Step], event_bytes: float) -> list[list[str]]:
    return [
        [
            step.shape,
            figure(step.events),
            f"{step.events * event_bytes / _MB:,.0f}",
            figure(step.windows),
            figure(step.cpu * _MICRO),
            f"{step.memory / _MB:.0f}",
        ]
        for step in steps
    ]


def _spread(figures: Iterable[float]) -> float:
    minimum, *_, maximum = sorted([*figures] * 2)
    # With little data, the difference between two runs can be negative.
    return maximum / minimum if minimum > 0 else nan


def _last_by_first(steps: Sequence[Step]) -> float:
    return steps[-1].memory / steps[0].memory


def requests(cases: Sequence[Case]) -> str:
    """Return the table of requests and hours."""
    head = [
        "project",
        "events per day",
        "size per day",
        "years",
        "windows",
        "requests",
        "hours",
        "largest window",
        "method",
    ]
    rows = [
        [
            case.project,
            figure(PROJECTS[case.project]),
            _size(bytes_per_day(case.project)),
            figure(case.years),
            case.windows,
            figure(case.result.requests),
            f"{case.result.hours:.1f}",
            _size(case.result.largest),
            "simulation" if case.emulated is None else "emulator",
        ]
        for case in cases
    ]
    difference = max(
        abs(case.emulated.requests - case.simulated.requests) for case in cases if case.emulated is not None
    )
    small = [case.result.requests for case in cases if (case.project, case.windows) == ("small", "adaptive")]
    goals = goal_table(
        Goal("requests for three years of the small project, adaptive windows", 40, small[-1]),
        Goal("difference in requests between emulator and simulation", 1, difference),
    )
    return f"{table(head, rows)}\n\n{goals}"


def stages(timed: Sequence[Stage]) -> str:
    """Return the table of stages."""
    rows = []
    before: dict[str, float] = {}
    for stage in timed:
        # The first stage of each shape follows the last common stage.
        last = before.get(stage.shape, before.get("", 0.0))
        before[stage.shape] = stage.times_gzip
        so_far = [figure(stage.cpu * _MICRO), figure(stage.times_gzip)]
        rows.append([stage.shape or "both", stage.name, *so_far, figure(stage.times_gzip - last)])
    return table(
        ["", "stage", "cumulative CPU, µs per event", "cumulative CPU / `gzip -dc`", "this stage / `gzip -dc`"], rows
    )


# --- Cells -----------------------------------------------------------------------------------------------------------


def _name(program: Program) -> str:
    if program.is_tap:
        return f"this tap, {program.name}"
    return f"{program.name} {version_of(program.name)}" if program.is_peer else program.name


def _memory(size: int, minimum: int) -> str:
    # Memory below that of the measuring process cannot be measured.
    return f"{'≤ ' if size <= minimum * 1.05 else ''}{size / _MB:,.0f}"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{figure(count / size)} {unit}"
    return f"{figure(count / 1e3)} KB"
