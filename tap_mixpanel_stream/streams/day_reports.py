"""The base class of reports by day: funnels and event counts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from typing import TYPE_CHECKING

from ..mixpanel.errors import Refused, TooLarge, Transient
from ..replication.windows import Window
from .reports import ReportStream, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..mixpanel.retry import Retrying

MAX_DAYS = 366
"""Maximum number of days of a request. Mixpanel's docs state no limit, and others have requested years at once."""

SMALL_WINDOW_DAYS = 60
"""A request for at most this many days has all its retries. A longer one is tried twice and then halved."""


class DayReportStream(ReportStream):
    """A report with numbers for each day, read from `start_date` or from the bookmark minus the look-back."""

    chunk_name = "window"
    unit = "days"
    replication_key = "date"
    is_full_refresh = False
    """A run delivers a range of days, so the rows of other days are not deleted, even with FULL_TABLE."""

    _days_at_once = MAX_DAYS
    """Number of days of the next request. Once halved, it stays halved for the rest of the run."""

    _rejected_day: dt.date | None = None
    """The latest first day that Mixpanel rejected in this run because it is before the plan's history."""

    def fetch_in_windows(self, window: Window, fetch: Callable[[Window, Retrying], Rows]) -> Iterator[Rows]:
        """Fetch the days of a window in smaller windows, so that Mixpanel can answer each of them.

        Args:
            window: The days.
            fetch: Fetches one of the smaller windows.
        """
        first = window.first
        while True:
            days = min(self._days_at_once, (window.last - first).days + 1)
            part = Window(first, first + dt.timedelta(days=days - 1))
            retrying = self.retrying
            if days > SMALL_WINDOW_DAYS:
                retrying = dataclasses.replace(retrying, max_retries=min(1, retrying.max_retries))
            try:
                rows = fetch(part, retrying)
            except (Transient, TooLarge) as error:
                if days <= SMALL_WINDOW_DAYS:
                    raise
                self._days_at_once = days // 2
                self.log("%s. Requesting %d days at a time", error, self._days_at_once, level=logging.WARNING)
                continue
            yield rows
            if part.last == window.last:
                return
            first = part.last + dt.timedelta(days=1)

    def deferring_limited_history(self, window: Window, rows: Iterator[Rows]) -> Iterator[Rows]:
        """Yield the rows of a window. If the window begins before the plan's history, let the stream fail at its end.

        A new funnel or event must not keep the known ones from being read.

        Args:
            window: The days. Nothing is fetched if Mixpanel has rejected their first day before.
            rows: Fetches the rows.
        """
        if self._rejected_day and window.first <= self._rejected_day:
            return
        try:
            yield from rows
        except Refused as refused:
            if refused.kind != "history":
                raise
            self._rejected_day = window.first
            self._failures.append(refused)
            self.log("%s. Reading the others; the stream will fail at its end", refused, level=logging.WARNING)
