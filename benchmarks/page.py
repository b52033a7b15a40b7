"""The page: each part's tables, between marks of its own in docs/benchmarks.md, and a few rows in the README.

Each part says by itself when and where it was measured, so that a part can be measured again alone.
"""

from __future__ import annotations

import re
from math import nan
from typing import TYPE_CHECKING

from .asking import PROJECTS, bytes_a_day
from .data import NO_INSERT_ID
from .environments import ROOT, version_of
from .fidelity import CUTS, ODD_VALUES
from .tables import Goal, cell, figure, goals, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .asking import Case
    from .circumstances import Circumstances
    from .comparison import Result
    from .fidelity import Differences
    from .growth import Growth, Step
    from .pipelines import Load
    from .programs import Program
    from .stages import Stage

PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"

# Which of the tap's own ways the README shows.
_IN_README = ("raw", "normalized", "normalized, batch files packed by gzip", "normalized, a stream map")
_MICRO = 1e6
_MB = 1e6


# --- Files -----------------------------------------------------------------------------------------------------------


def write(path: Path, part: str, text: str) -> None:
    """Put a part into its place in a file.

    Raises:
        ValueError: The file has no such place.
    """
    whole = path.read_text(encoding="utf-8")
    begin, end = between_marks(whole, part)
    path.write_text(f"{whole[:begin]}\n{text}\n\n{whole[end:]}", encoding="utf-8")


def between_marks(text: str, part: str) -> tuple[int, int]:
    """Where a part's place is: from after one mark's line to before the other's.

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
    """A table for events, one for profiles, one for events in long windows, and one for layouts of a line."""
    events, profiles, long_windows, *each_layout = groups
    layouts = [result for group in each_layout for result in group if result.program.is_ours]
    by_name = {result.program.name: result for result in events if result.program.is_ours}
    raw, normalized = (by_name[name].cpu_times_gzip for name in ("raw", "normalized"))
    by_two = next(each for each in long_windows if each.program.name == "normalized, 2 worker processes")
    return "\n\n".join(
        [
            _table_of("event", "What one event takes:", events),
            _table_of("profile", "What one profile takes:", profiles),
            _table_of("event", "What one event takes in windows of 100 days, three of them under way:", long_windows),
            _table_of("event", "What one normalized event takes in other layouts of a line:", layouts),
            goals(
                Goal("CPU of raw events, as a multiple of `gzip -dc`", 0.9, raw),
                Goal("CPU of normalized events, as a multiple of `gzip -dc`", 2.0, normalized),
                *(
                    Goal(f"the same, {result.program.name}", 2.0, result.cpu_times_gzip)
                    for result in layouts
                    if not result.failure and result.program.layout != NO_INSERT_ID
                ),
                Goal("time of normalized events by 2 worker processes, likewise", 1.1, by_two.wall_times_gzip),
            ),
        ]
    )


def _table_of(what: str, title: str, group: Sequence[Result]) -> str:
    head = [
        *("", f"{what}s", "rounds", "CPU, µs", "times `gzip -dc`", "time, µs", "times `gzip -dc`"),
        *("memory, MB", "all processes", "start-up, ms"),
    ]
    return f"{title}\n\n" + table(head, [_row(result) for result in group])


def _row(result: Result) -> list[str]:
    if result.failure:
        return [_name(result.program), cell(f"did not run: {result.failure}")]
    return [
        _name(result.program),
        figure(result.program.size.large),
        figure(len(result.paces)),
        figure(result.cpu * _MICRO),
        figure(result.cpu_times_gzip),
        figure(result.wall * _MICRO),
        figure(result.wall_times_gzip),
        _memory(result.memory, result.least_memory),
        _memory(result.together, result.least_memory),
        f"{result.start * 1000:.0f}" if result.program.is_singer else "",
    ]


def readme(results: Sequence[Result], circumstances: Circumstances, event_bytes: float) -> str:
    """The table of the README, from the comparison over events."""
    rows = [
        [
            _name(result.program),
            figure(result.cpu * _MICRO),
            figure(result.cpu_times_gzip),
            _memory(result.memory, result.least_memory),
        ]
        for result in results
        if not result.failure and (not result.program.is_ours or result.program.name in _IN_README)
    ]
    return "\n\n".join(
        [
            f"A million events, {figure(event_bytes * 1e6 / 1e9)} GB decompressed:",
            table(["", "CPU, s", "times `gzip -dc`", "memory, MB"], rows),
            circumstances.brief(),
        ]
    )


def fidelity(checked: Sequence[Differences]) -> str:
    """What came out, compared with what went in."""
    done = [each for each in checked if not each.failure]
    own = [each for each in done if each.program.is_ours]
    names = [_name(each.program) for each in done]
    head = [
        "",
        "events",
        "lost",
        "doubled",
        "names",
        "changed",
        "values",
        "now text",
        "altered",
        "left out",
        "times moved",
    ]
    return "\n\n".join(
        [
            "A day of the usual events:",
            table(head, [[_name(each.program), *map(figure, _counts(each))] for each in done]),
            "\n".join(f"- {_name(each.program)}: {_note(each)}" for each in checked),
            "What becomes of values that are hard to keep:",
            table(["", *names], [[cell(odd), *(cell(each.odd[odd]) for each in done)] for odd in ODD_VALUES]),
            "What becomes of a first answer, with status 200, that breaks off half-way:",
            table(["", *names], [[cell(cut), *(cell(each.cuts[cut]) for each in done)] for cut in CUTS]),
            goals(
                Goal("events that this tap loses or doubles", 0, sum(each.dropped + each.doubled for each in own)),
                Goal("values that it alters or leaves out", 0, sum(each.changes for each in own)),
                Goal("broken answers that it takes for whole", 0, sum(each.fooled for each in own)),
            ),
        ]
    )


def pipelines(loads: Sequence[Load]) -> str:
    """A table of whole pipelines."""
    head = ["", "events a second", "time, s", "CPU of the tap, s", "CPU of the target or loader, s"]
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
        *(found.events, found.dropped, found.doubled, found.names, len(found.renamed)),
        *(found.values, found.as_text, found.altered, found.left_out, found.shifted),
    )


def _note(found: Differences) -> str:
    """Say in words what the comparison found."""
    if found.failure:
        return f"did not run: {found.failure}."
    sentences = []
    if found.dropped or found.doubled:
        sentences.append(f"{found.dropped:,} events are lost and {found.doubled:,} doubled.")
    else:
        sentences.append("All events came, each as often as it was sent.")
    if found.renamed:
        name, now = next(iter(found.renamed.items()))
        sentences.append(f"{len(found.renamed)} of {found.names} names changed (`{name}` is `{now}`).")
    for kind, words in (
        ("as_text", "became text"),
        ("altered", "became others"),
        ("left_out", "were left out"),
        ("shifted", "became other instants"),
    ):
        if count := getattr(found, kind):
            name, before, after = found.examples[kind]
            example = f"`{name}` was `{before}`" + (f" and is `{after}`" if after else "")
            sentences.append(f"{count:,} of {found.values:,} values {words} ({example}).")
    if not found.as_text + found.changes:
        sentences.append("Every value is what it was.")
    if found.fooled:
        sentences.append(
            f"{found.fooled} of {len(CUTS)} truncated responses ended in rows missing or doubled without an error."
        )
    return " ".join(sentences)


def growth(grown: Growth) -> str:
    """More and more events, and longer and longer windows."""
    head = ["", "events", "MB decompressed", "windows", "CPU of an event, µs", "memory, MB"]
    aims = []
    for shape in dict.fromkeys(step.shape for step in grown.steps):
        steps, windows = (
            [step for step in all_steps if step.shape == shape] for all_steps in (grown.steps, grown.windows)
        )
        aims += [
            # The first size is too small to say much.
            Goal(f"{shape}: CPU of an event, the most through the least", 1.1, _spread(step.cpu for step in steps[1:])),
            Goal(f"{shape}: memory, the most through the least", 1.1, _spread(step.memory for step in steps[1:])),
            Goal(f"{shape}: memory of the large window through that of the small", 1.1, _last_through_first(windows)),
        ]
    return "\n\n".join(
        [
            "More and more events:",
            table(head, _steps(grown.steps, grown.event_bytes)),
            "One window:",
            table(head, _steps(grown.windows, grown.event_bytes)),
            goals(*aims),
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
    least, *_, most = sorted([*figures] * 2)
    # Over very little, a run can take less than the one that is taken off it.
    return most / least if least > 0 else nan


def _last_through_first(steps: Sequence[Step]) -> float:
    return steps[-1].memory / steps[0].memory


def asking(cases: Sequence[Case]) -> str:
    """Requests, and the hours that they take."""
    head = ["project", "events a day", "a day", "years", "windows", "requests", "hours", "largest window", "known by"]
    rows = [
        [
            case.project,
            figure(PROJECTS[case.project]),
            _size(bytes_a_day(case.project)),
            figure(case.years),
            case.windows,
            figure(case.asked.requests),
            f"{case.asked.hours:.1f}",
            _size(case.asked.largest),
            "sizes" if case.read is None else "reading",
        ]
        for case in cases
    ]
    apart = max(abs(case.read.requests - case.by_plan.requests) for case in cases if case.read is not None)
    small = [case.asked.requests for case in cases if (case.project, case.windows) == ("small", "adaptive")]
    aims = goals(
        Goal("requests for three years of the small project, adaptive", 40, small[-1]),
        Goal("requests by which reading and sizes disagree", 1, apart),
    )
    return f"{table(head, rows)}\n\n{aims}"


def stages(timed: Sequence[Stage]) -> str:
    """Where the time goes."""
    rows = []
    before: dict[str, float] = {}
    for stage in timed:
        # The shapes part where the stages are no longer alike.
        last = before.get(stage.shape, before.get("", 0.0))
        before[stage.shape] = stage.times_gzip
        so_far = [figure(stage.cpu * _MICRO), figure(stage.times_gzip)]
        rows.append([stage.shape or "both", stage.name, *so_far, figure(stage.times_gzip - last)])
    return table(["", "stage", "CPU so far, µs an event", "times `gzip -dc` so far", "this stage alone"], rows)


# --- Words -----------------------------------------------------------------------------------------------------------


def _name(program: Program) -> str:
    if program.is_ours:
        return f"this tap, {program.name}"
    return f"{program.name} {version_of(program.name)}" if program.is_peer else program.name


def _memory(held: int, least: int) -> str:
    # What the measuring process itself holds is the least that can be seen.
    return f"{'≤ ' if held <= least * 1.05 else ''}{held / _MB:,.0f}"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{figure(count / size)} {unit}"
    return f"{figure(count / 1e3)} KB"
