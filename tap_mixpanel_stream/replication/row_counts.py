"""How many rows the days of the look-back had: fewer than the run before saw is worth a warning.

    {"rows": {"2024-01-15": 1204, "2024-01-16": 998}}

An export that ends too early, between two lines, looks like that of a quieter day. The days of the look-back are read
again by the next run, so it can tell. Only these days are kept in the state, and none without rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from .state import days_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .windows import Window

MERGED = 100
"""One row in so many may go: Mixpanel merges duplicates hours to days after it received them."""


@dataclass
class RowCounts:
    """The rows of days that the next run reads again.

    Attributes:
        first: The first of these days.
        before: Rows by day, as the run before saw them.
        now: Rows by day, as this run has delivered them.
    """

    first: date
    before: Mapping[date, int]
    now: dict[date, int] = field(default_factory=dict)

    @classmethod
    def read(cls, state: Mapping[str, Any], last: date, lookback_days: int) -> RowCounts:
        """Read what the run before left in a stream's part of the state.

        Args:
            state: That part.
            last: The last day of the run.
            lookback_days: Days before it that the next run reads again.

        Raises:
            ValueError: It holds something else.
            TypeError: Likewise.
            AttributeError: Likewise.
        """
        first = date.fromordinal(max(1, last.toordinal() - lookback_days))
        return cls(first, {date.fromisoformat(day): int(rows) for day, rows in state.get("rows", {}).items()})

    def wants(self, window: Window) -> bool:
        """Whether the rows of a window's days have to be counted."""
        return window.last >= self.first or self.had_rows(window)

    def had_rows(self, window: Window) -> bool:
        """Whether the run before saw rows of a window's days."""
        return any(window.first <= day <= window.last for day in self.before)

    def add(self, window: Window, rows: Mapping[date, int]) -> list[str]:
        """Take in the rows of a window that is delivered.

        Returns:
            The days that had more when the run before read them, each with both numbers.
        """
        counted = {day: rows.get(day, 0) for day in days_of(window) if day >= self.first or day in self.before}
        self.now |= counted
        return [
            f"{day} ({now:,} of {before:,})"
            for day, now in counted.items()
            if now < (before := self.before.get(day, 0)) - before // MERGED
        ]

    def as_state(self) -> dict[str, int]:
        """What to leave to the next run."""
        known = {**self.before, **self.now}
        return {day.isoformat(): known[day] for day in sorted(known) if day >= self.first and known[day]}
