"""Tables in Markdown, and what stands in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Rows that are short are filled up."""
    lines = [head, ["---"] * len(head), *([*row, *[""] * (len(head) - len(row))] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    """Any text, so that it stays in its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def figure(number: float) -> str:
    """A figure, as exact as it is worth."""
    if isinstance(number, int):
        return f"{number:,}"
    decimals = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2  # noqa: PLR2004
    return f"{number:,.{decimals}f}"


@dataclass(frozen=True)
class Goal:
    """What is aimed at.

    Attributes:
        name: What it is about.
        most: What it may be.
        measured: What it is.
    """

    name: str
    most: float
    measured: float

    @property
    def verdict(self) -> str:
        """Whether it holds, and by how much not."""
        if self.measured <= self.most:
            return "holds"
        return f"**does not hold**, {self.measured / self.most - 1:.0%} over" if self.most else "**does not hold**"


def goals(*aims: Goal) -> str:
    """The table of what is aimed at."""
    rows = [[aim.name, figure(aim.most), figure(aim.measured), aim.verdict] for aim in aims]
    return table(["target", "at most", "measured", ""], rows)
