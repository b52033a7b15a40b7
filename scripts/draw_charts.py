"""Draw docs/daily-active-users.svg and docs/funnel.svg from the tables that `make demo` builds.

    .venv-peers/matplotlib/bin/python scripts/draw_charts.py

`make benchmark` creates the environment with matplotlib. The tables are read with the Python of the demo's environment,
which has DuckDB.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
DUCKDB = ROOT / ".venv-targets" / "duckdb" / "bin" / "python"
READ = (
    "import duckdb, json, sys; "
    "database = duckdb.connect(sys.argv[1], read_only=True); "
    "print(json.dumps(database.sql(sys.argv[2]).fetchall(), default=str))"
)
# Colors that are readable on light and dark pages.
INK, BAR, LINE = "#6e7781", "#3f6fd1", "#d1703f"


def rows(query: str) -> list[list[Any]]:
    """Run a query on the demo's database and return its rows."""
    command: list[str | Path] = [DUCKDB, "-c", READ, ROOT / "output" / "demo" / "demo.duckdb", query]
    found: list[list[Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def axes(title: str, height: float) -> Any:
    """Return empty axes in the common style of the charts."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "docs", "text.color": INK, "axes.edgecolor": INK})
    _, plot = plt.subplots(figsize=(8, height))
    plot.set_title(title, loc="left", color=INK)
    plot.spines[["top", "right"]].set_visible(False)
    plot.tick_params(colors=INK)
    return plot


def save(name: str) -> None:
    """Write the chart to docs/, with a transparent background and without a date."""
    plt.savefig(ROOT / "docs" / f"{name}.svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close()


def draw() -> None:
    """Draw both charts."""
    days = rows("select day, active_users, new_users from analytics.daily_active_users order by day")
    plot = axes("Daily active users and new users", 3)
    labels = [day[5:] for day, _, _ in days]
    plot.bar(labels, [active for _, active, _ in days], color=BAR)
    plot.plot(labels, [new for _, _, new in days], color=LINE)
    plot.set_xticks(range(0, len(days), 5))
    save("daily-active-users")
    steps = rows("select event_name, people, of_first from analytics.funnel order by step desc")
    plot = axes("Funnel: people who reached each step", 1.8)
    bars = plot.barh([name for name, _, _ in steps], [people for _, people, _ in steps], color=BAR)
    plot.bar_label(bars, [f"{people} ({of_first:.0%})" for _, people, of_first in steps], color=INK, padding=4)
    plot.spines["bottom"].set_visible(False)
    plot.set_xticks([])
    save("funnel")


if __name__ == "__main__":
    draw()
