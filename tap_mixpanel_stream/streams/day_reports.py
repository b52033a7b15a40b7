"""Reports by day: what funnels and event counts share."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from typing import TYPE_CHECKING

from ..mixpanel.errors import TooLarge, Transient
from ..replication.windows import Window
from .reports import ReportStream, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..mixpanel.retry import Retrying

MAX_DAYS = 366
"""Days of a request. Mixpanel's docs name no limit, and years in one request were seen to work."""

FEW_DAYS = 60
"""Days of a request that is retried as often as any. A longer one is tried twice and then halved."""


class DayReportStream(ReportStream):
    """A report that is read day by day, from `start_date` or a bookmark less the look-back."""

    chunk_name = "window"
    unit = "days"
    replication_key = "date"
    refreshes = False
    """A run delivers a range of days, so the rows of other days are not deleted, even with FULL_TABLE."""

    _days_at_once = MAX_DAYS
    """Days of the next request. Once halved, it stays so for the rest of the run."""

    def in_windows(self, window: Window, fetch: Callable[[Window, Retrying], Rows]) -> Iterator[Rows]:
        """Fetch the days of a window, as many at a time as Mixpanel gives.

        Args:
            window: The days.
            fetch: Fetches some of them.
        """
        first = window.first
        while True:
            days = min(self._days_at_once, (window.last - first).days + 1)
            window_days = Window(first, first + dt.timedelta(days=days - 1))
            retrying = self.retrying
            if days > FEW_DAYS:
                retrying = dataclasses.replace(retrying, max_retries=min(1, retrying.max_retries))
            try:
                rows = fetch(window_days, retrying)
            except (Transient, TooLarge) as error:
                if days <= FEW_DAYS:
                    raise
                self._days_at_once = days // 2
                self.log("%s. Requesting %d days at a time", error, self._days_at_once, level=logging.WARNING)
                continue
            yield rows
            if window_days.last == window.last:
                return
            first = window_days.last + dt.timedelta(days=1)
