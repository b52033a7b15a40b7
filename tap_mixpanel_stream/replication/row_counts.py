"""Row counts in the state, to warn if a day now has fewer rows than in the previous run.

    {"rows": {"2024-01-15": 1204, "2024-01-16": 998}}

An export that is truncated between two lines looks complete. The next run reads the look-back days again and can detect
this by comparing the counts. The state contains only the look-back days, and only those with rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from .state import parse_day, require_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .windows import Window

TOLERANCE_DIVISOR = 100
"""One row in this many may disappear: Mixpanel merges duplicates hours or days after it received them."""


@dataclass
class RowCounts:
    """The row counts of the days that the next run reads again.

    Attributes:
        first: The first of these days.
        previous: The number of rows by day in the previous run.
        current: The number of rows by day that this run has delivered.
    """

    first: date
    previous: Mapping[date, int]
    current: dict[date, int] = field(default_factory=dict)

    @classmethod
    def read(cls, state: Mapping[str, Any], last: date, lookback_days: int) -> RowCounts:
        """Read the row counts of the previous run.

        Args:
            state: The stream's entry in the state.
            last: The last day of this run.
            lookback_days: The number of days before `last` that the next run reads again.

        Raises:
            ValueError: The row counts in the state are malformed.
        """
        first = date.fromordinal(max(1, last.toordinal() - lookback_days))
        rows = require_type(state.get("rows", {}), "rows", dict)
        return cls(
            first,
            {parse_day(day, "a day of rows"): require_type(count, f"rows.{day}", int) for day, count in rows.items()},
        )

    def is_counted(self, window: Window) -> bool:
        """Return whether to count the rows of a window by day."""
        return window.last >= self.first or self.had_rows(window)

    def had_rows(self, window: Window) -> bool:
        """Return whether a day of the window had rows in the previous run."""
        return any(window.first <= day <= window.last for day in self.previous)

    def add(self, window: Window, rows: Mapping[date, int]) -> list[str]:
        """Add the row counts of a delivered window.

        Args:
            window: The window.
            rows: The number of rows by day. Days without rows can be missing.

        Returns:
            The days that had more rows in the previous run, as text with both counts.
        """
        counted = {day: rows.get(day, 0) for day in window.dates() if day >= self.first or day in self.previous}
        self.current |= counted
        return [
            f"{day} ({count:,} of {previous:,})"
            for day, count in counted.items()
            if count < (previous := self.previous.get(day, 0)) - previous // TOLERANCE_DIVISOR
        ]

    def as_state(self) -> dict[str, int]:
        """Return the row counts for the state."""
        known = {**self.previous, **self.current}
        return {day.isoformat(): known[day] for day in sorted(known) if day >= self.first and known[day]}
