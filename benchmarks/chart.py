"""Charts of docs/benchmarks.md.

matplotlib is in a separate virtual environment. This module runs itself there:

    .venv-peers/matplotlib/bin/python -m benchmarks.chart comparison < ROWS.json
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .report import progress
from .virtualenvs import ROOT, NotInstalledError, python_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .comparison import Result
    from .scaling import Scaling

    Rows = list[dict[str, Any]]

COMPARISON = ROOT / "docs" / "benchmarks-comparison.png"
SCALING = ROOT / "docs" / "benchmarks-scaling.png"

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
    """Draw the CPU per event of each program."""
    rows = [
        {"name": result.program.name.replace("`", ""), "cpu": result.cpu, "color": _color(result)}
        for result in results
        if not result.failure and result.cpu > 0
    ]
    _draw("comparison", rows)


def scaling(results: Scaling) -> None:
    """Draw CPU per event and memory by the number of events."""
    _draw("scaling", [asdict(step) for step in results.steps])


def _color(result: Result) -> str:
    if result.program.is_tap:
        return _OURS
    return _OTHER if result.program.name.startswith("`") else _PEER


def _draw(kind: str, rows: Rows) -> None:
    try:
        command = [str(python_with("matplotlib")), "-m", "benchmarks.chart", kind]
    except NotInstalledError as failure:
        progress(f"chart {kind}: not updated: {failure}")
        return
    subprocess.run(command, input=json.dumps(rows), text=True, cwd=ROOT, check=True)


# --- Code that runs in the matplotlib environment -------------------------------------------------------------------


def _comparison(plt: Any, rows: Rows) -> None:
    """Draw bars on a logarithmic scale, with the lowest CPU at the bottom."""
    rows.sort(key=lambda row: -row["cpu"])
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.29 * len(rows)), layout="constrained")
    micros = [row["cpu"] * 1e6 for row in rows]
    bars = axes.barh([row["name"] for row in rows], micros, color=[row["color"] for row in rows], height=0.7)
    axes.bar_label(bars, [_label(number) for number in micros], padding=4)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.01)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("CPU per event, µs (logarithmic scale)")
    axes.grid(axis="x", linewidth=0.4)
    axes.set_axisbelow(True)
    kinds = {"this tap": _OURS, "other programs": _PEER, "decompression only": _OTHER}
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=color) for color in kinds.values()], list(kinds))
    figure.savefig(COMPARISON)


def _scaling(plt: Any, rows: Rows) -> None:
    figure, (cpu, memory) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    _lines(cpu, rows, "CPU per event, µs", lambda row: row["cpu"] * 1e6)
    _lines(memory, rows, "peak memory, MB", lambda row: row["memory"] / 1e6)
    cpu.legend(loc="lower right")
    figure.savefig(SCALING)


def _lines(axes: Any, rows: Rows, title: str, value: Callable[[dict[str, Any]], float]) -> None:
    for shape, color in (("normalized", _OURS), ("raw", _PEER)):
        steps = [row for row in rows if row["shape"] == shape]
        axes.plot([row["events"] for row in steps], [value(row) for row in steps], "o-", color=color, label=shape)
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
    """Draw the chart named on the command line from the JSON rows on stdin."""
    import matplotlib as mpl  # noqa: PLC0415 - installed only in the matplotlib environment
    from matplotlib import pyplot as plt  # noqa: PLC0415

    # Write to files, without a display.
    mpl.use("agg")
    charts = {"comparison": _comparison, "scaling": _scaling}
    with plt.rc_context(_STYLE):
        charts[sys.argv[1]](plt, json.load(sys.stdin))


if __name__ == "__main__":
    main()
