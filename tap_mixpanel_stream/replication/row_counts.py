"""Row counts of the look-back's days in the state: fewer rows than the previous run saw are worth a warning.

    {"rows": {"2024-01-15": 1204, "2024-01-16": 998}}

An export that ends too early, between two lines, looks like that of a quieter day. The next run reads the days of the
look-back again, so it can tell. The state holds these days only, and none without rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from .state import parse_day, typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .windows import Window

MERGED = 100
"""One row in so many may disappear: Mixpanel merges duplicates hours to days after it received them."""


@dataclass
class RowCounts:
    """The row counts of the days that the next run reads again.

    Attributes:
        first: The first of these days.
        before: Rows by day, as the previous run saw them.
        now: Rows by day, as this run has delivered them.
    """

    first: date
    before: Mapping[date, int]
    now: dict[date, int] = field(default_factory=dict)

    @classmethod
    def read(cls, state: Mapping[str, Any], last: date, lookback_days: int) -> RowCounts:
        """Read the row counts of the previous run.

        Args:
            state: The stream's entry in the state.
            last: The last day of this run.
            lookback_days: Days before it that the next run reads again.

        Raises:
            ValueError: The state holds something else.
        """
        first = date.fromordinal(max(1, last.toordinal() - lookback_days))
        before = typed(state.get("rows", {}), "rows", dict)
        return cls(
            first, {parse_day(day, "a day of rows"): typed(rows, f"rows.{day}", int) for day, rows in before.items()}
        )

    def needs(self, window: Window) -> bool:
        """Return whether the rows of a window's days have to be counted."""
        return window.last >= self.first or self.had_rows(window)

    def had_rows(self, window: Window) -> bool:
        """Return whether the previous run saw rows of a window's days."""
        return any(window.first <= day <= window.last for day in self.before)

    def add(self, window: Window, rows: Mapping[date, int]) -> list[str]:
        """Add the rows of a window that is delivered.

        Returns:
            The days of which the previous run saw more, each with both counts.
        """
        counted = {day: rows.get(day, 0) for day in window.dates() if day >= self.first or day in self.before}
        self.now |= counted
        return [
            f"{day} ({now:,} of {before:,})"
            for day, now in counted.items()
            if now < (before := self.before.get(day, 0)) - before // MERGED
        ]

    def as_state(self) -> dict[str, int]:
        """Return the row counts to leave to the next run."""
        known = {**self.before, **self.now}
        return {day.isoformat(): known[day] for day in sorted(known) if day >= self.first and known[day]}
