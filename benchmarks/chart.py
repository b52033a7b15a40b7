"""The page's pictures. matplotlib draws them in an environment of its own, so that the tap's environment stays small.

PYTHON_WITH_MATPLOTLIB -m benchmarks.chart comparison < DATA.json
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .environments import ROOT, NotInstalledError, python_with
from .report import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .comparison import Result
    from .growth import Growth

    Rows = list[dict[str, Any]]

COMPARISON = ROOT / "docs" / "benchmarks-comparison.png"
GROWTH = ROOT / "docs" / "benchmarks-growth.png"

_OURS, _PEER, _OTHER = "#2f6db5", "#c2703d", "#8a8f98"
_STYLE = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
}


def comparison(results: Sequence[Result]) -> None:
    """Draw the CPU of an event for each program."""
    rows = [
        {"name": result.program.name.replace("`", ""), "cpu": result.cpu, "colour": _colour(result)}
        for result in results
        if not result.failure and result.cpu > 0
    ]
    _draw("comparison", rows)


def growth(grown: Growth) -> None:
    """Draw CPU and memory against the number of events. Flat lines are the aim."""
    _draw("growth", [asdict(step) for step in grown.steps])


def _colour(result: Result) -> str:
    if result.program.is_ours:
        return _OURS
    return _OTHER if result.program.name.startswith("`") else _PEER


def _draw(kind: str, rows: Rows) -> None:
    try:
        command = [str(python_with("matplotlib")), "-m", "benchmarks.chart", kind]
    except NotInstalledError as failure:
        progress(f"the old picture stays: {failure}")
        return
    subprocess.run(command, input=json.dumps(rows), text=True, cwd=ROOT, check=True)


# --- With matplotlib -------------------------------------------------------------------------------------------------


def _comparison(plt: Any, rows: Rows) -> None:
    """Bars on a logarithmic scale, the cheapest at the bottom."""
    rows.sort(key=lambda row: -row["cpu"])
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.29 * len(rows)), layout="constrained")
    micros = [row["cpu"] * 1e6 for row in rows]
    bars = axes.barh([row["name"] for row in rows], micros, color=[row["colour"] for row in rows], height=0.7)
    axes.bar_label(bars, [_label(number) for number in micros], padding=4)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.01)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("CPU of one event, µs, on a logarithmic scale")
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    kinds = {"this tap": _OURS, "other programs": _PEER, "decompression alone": _OTHER}
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=colour) for colour in kinds.values()], list(kinds))
    figure.savefig(COMPARISON)


def _growth(plt: Any, rows: Rows) -> None:
    figure, (cpu, memory) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    _lines(cpu, rows, "CPU of one event, µs", lambda row: row["cpu"] * 1e6)
    _lines(memory, rows, "peak memory, MB", lambda row: row["memory"] / 1e6)
    cpu.legend(loc="lower right")
    figure.savefig(GROWTH)


def _lines(axes: Any, rows: Rows, title: str, value: Callable[[dict[str, Any]], float]) -> None:
    for shape, colour in (("normalized", _OURS), ("raw", _PEER)):
        steps = [row for row in rows if row["shape"] == shape]
        axes.plot([row["events"] for row in steps], [value(row) for row in steps], "o-", color=colour, label=shape)
    axes.set_title(title)
    axes.set_xscale("log")
    axes.set_xticks(sorted({row["events"] for row in rows}))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, 1.2 * max(map(value, rows)))
    axes.set_xlabel("events")
    axes.grid(linewidth=0.4)


def _label(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"  # noqa: PLR2004


def main() -> None:
    """Draw the picture named on the command line from the rows on stdin."""
    import matplotlib as mpl  # noqa: PLC0415 - only in matplotlib's own environment
    from matplotlib import pyplot as plt  # noqa: PLC0415

    # Into files, whatever screen there is.
    mpl.use("agg")
    pictures = {"comparison": _comparison, "growth": _growth}
    with plt.rc_context(_STYLE):
        pictures[sys.argv[1]](plt, json.load(sys.stdin))


if __name__ == "__main__":
    main()
