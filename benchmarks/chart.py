"""The page's pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt

from .environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from .growth import Growth, Step
    from .races import Result

RACES = ROOT / "docs" / "benchmarks-races.png"
GROWTH = ROOT / "docs" / "benchmarks-growth.png"

# Into files, whatever screen there is.
mpl.use("agg")

_OURS, _PEER, _OTHER = "#2f6db5", "#c2703d", "#8a8f98"
_STYLE = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
}


def races(results: Sequence[Result], path: Path = RACES) -> None:
    """Draw what an event costs each contender: bars on a logarithmic scale, the cheapest on top."""
    shown = sorted((result for result in results if not result.failure and result.cpu > 0), key=lambda each: -each.cpu)
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8, 0.9 + 0.29 * len(shown)), layout="constrained")
        bars = axes.barh(
            [result.contender.name.replace("`", "") for result in shown],
            [result.cpu * 1e6 for result in shown],
            color=[_colour(result) for result in shown],
            height=0.7,
        )
        axes.bar_label(bars, [_label(result.cpu * 1e6) for result in shown], padding=4)
        axes.set_xscale("log")
        axes.margins(x=0.12, y=0.01)
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel("CPU of one event, µs, on a logarithmic scale")
        axes.grid(axis="x", linewidth=0.4)
        axes.set_axisbelow(True)
        kinds = (("this tap", _OURS), ("other programs", _PEER), ("unpacking alone", _OTHER))
        axes.legend([plt.Rectangle((0, 0), 1, 1, color=colour) for _, colour in kinds], [name for name, _ in kinds])
        figure.savefig(path)
        plt.close(figure)


def growth(grown: Growth, path: Path = GROWTH) -> None:
    """Draw cost and memory as the events become more: flat lines are what is wanted."""
    with plt.rc_context(_STYLE):
        figure, (cpu, memory) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
        _lines(cpu, grown, "CPU of one event, µs", lambda step: step.cpu * 1e6)
        _lines(memory, grown, "memory at its peak, MB", lambda step: step.memory / 1e6)
        cpu.legend(loc="lower right")
        figure.savefig(path)
        plt.close(figure)


def _lines(axes: Axes, grown: Growth, title: str, value: Callable[[Step], float]) -> None:
    for shape, colour in (("normalized", _OURS), ("raw", _PEER)):
        steps = [step for step in grown.steps if step.shape == shape]
        axes.plot([step.events for step in steps], [value(step) for step in steps], "o-", color=colour, label=shape)
    axes.set_title(title)
    axes.set_xscale("log")
    axes.set_xticks(sorted({step.events for step in grown.steps}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, 1.2 * max(map(value, grown.steps)))
    axes.set_xlabel("events")
    axes.grid(linewidth=0.4)


def _colour(result: Result) -> str:
    if result.contender.is_ours:
        return _OURS
    return _OTHER if result.contender.name.startswith("`") else _PEER


def _label(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"  # noqa: PLR2004
