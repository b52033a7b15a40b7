"""Markdown tables and the format of their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Short rows are padded with empty cells."""
    lines = [head, ["---"] * len(head), *([*row, *[""] * (len(head) - len(row))] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    """Escape text for a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def figure(number: float) -> str:
    """Format a number: integers in full, others with about three significant digits."""
    if isinstance(number, int):
        return f"{number:,}"
    decimals = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2  # noqa: PLR2004
    return f"{number:,.{decimals}f}"


@dataclass(frozen=True)
class Goal:
    """A goal of the tap's performance.

    Attributes:
        name: Name of the figure.
        limit: Maximum value that meets the goal.
        measured: Measured value.
    """

    name: str
    limit: float
    measured: float

    @property
    def verdict(self) -> str:
        """Whether the goal is met, or by how much it is missed."""
        if self.measured <= self.limit:
            return "met"
        return f"**missed**, {self.measured / self.limit - 1:.0%} over" if self.limit else "**missed**"


def goal_table(*goals: Goal) -> str:
    """Return a table of goals."""
    rows = [[goal.name, figure(goal.limit), figure(goal.measured), goal.verdict] for goal in goals]
    return table(["goal", "at most", "measured", ""], rows)
