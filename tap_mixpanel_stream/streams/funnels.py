"""The funnels stream: the numbers of each funnel by day. Each funnel has its own bookmark."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..mixpanel.funnels import fetch_funnel_days, list_funnels
from ..records.reports import DAY, INTEGER, OBJECTS, TEXT, ReportSchema, Row
from ..replication.state import bookmark_text, parse_bookmark, require_type, shown
from ..replication.windows import Window, end_instant, first_day
from .base import EPOCH
from .day_reports import DayReportStream
from .reports import Rows

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from ..mixpanel.funnels import Funnel
    from ..mixpanel.retry import Retrying

BY_FUNNEL = "by_funnel"
"""State entry with the bookmark of each funnel, by funnel id."""

FUNNEL_IDS = "funnel_ids"
"""Entry in older states with the funnels that share the bookmark `replication_key_value`."""


class FunnelsStream(DayReportStream):
    """The numbers of each saved funnel by day."""

    name = "funnels"
    record_schema = ReportSchema(
        {
            "funnel_id": INTEGER,
            "date": DAY,
            "name": TEXT,
            "steps": OBJECTS,
            "analysis_starting_amount": INTEGER,
            "analysis_completion": INTEGER,
            "analysis_steps": INTEGER,
            "analysis_worst": INTEGER,
        },
        ("funnel_id", "date"),
        flattened=("analysis",),
    )

    _bookmarks: dict[int, dt.datetime] | None = None
    """By funnel, the instant before which its days have been delivered; None until the list of funnels is fetched."""

    # --- The bookmarks -----------------------------------------------------------------------------------------------

    @property
    def bookmark_value(self) -> str | None:
        """The earliest bookmark of all funnels in the current state."""
        by_funnel: Mapping[str, str] = self.state_entry.get(BY_FUNNEL, {})
        return min(by_funnel.values(), default=super().bookmark_value)

    def bookmarks(self, funnel_ids: Sequence[int] = ()) -> dict[int, dt.datetime]:
        """Return the bookmarks in the state by funnel id.

        Args:
            funnel_ids: The funnels to which a shared bookmark without funnel ids applies.

        Raises:
            SettingsError: The state is malformed.
        """
        by_funnel = self.state_entry.get(BY_FUNNEL)
        if by_funnel is None:
            shared = self.instant_in_state("replication_key_value")
            known = self.state_entry.get(FUNNEL_IDS, funnel_ids)
            if not isinstance(known, list | tuple):
                raise self.state_error(f"is broken: {FUNNEL_IDS} is {shown(known)}, not a list")
            return {} if shared is None else dict.fromkeys(known, shared)
        try:
            return {
                _funnel_id(funnel): parse_bookmark(text, f"{BY_FUNNEL}.{funnel}")
                for funnel, text in require_type(by_funnel, BY_FUNNEL, dict).items()
            }
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None

    def move_bookmark(self, delivered: Any) -> None:
        """Move a funnel's bookmark forward. A window of the look-back does not move it back.

        Args:
            delivered: The funnel's id, and the end of the delivered period.
        """
        if self._bookmarks is not None:
            funnel, before = delivered
            self._bookmarks[funnel] = max(before, self._bookmarks.get(funnel, before))
            self._write_bookmarks()

    def complete(self) -> None:
        """Remove the bookmarks of funnels that no longer exist."""
        self._write_bookmarks()

    def _write_bookmarks(self) -> None:
        if self._bookmarks is None or not self.is_incremental:
            return
        for name in ("replication_key_value", FUNNEL_IDS):
            self.stream_state.pop(name, None)
        self.stream_state["replication_key"] = self.replication_key
        self.stream_state[BY_FUNNEL] = {str(funnel): bookmark_text(at) for funnel, at in self._bookmarks.items()}

    def check_before_run(self) -> None:
        """Check that `start_date` is set and the bookmarks are valid and not in the future."""
        self.start_date()
        self.check_not_in_future("replication_key_value", self.instant_in_state("replication_key_value"))
        self.check_not_in_future(BY_FUNNEL, max(self.bookmarks().values(), default=None))

    # --- The windows -------------------------------------------------------------------------------------------------

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:
        """Fetch the list of funnels, then the days of each funnel.

        The funnels with the oldest bookmarks come first, so that with a small quota all funnels advance over several
        runs. A funnel without a bookmark is read from `start_date`: Mixpanel also returns days before it was saved.
        """
        settings = self.settings
        funnels = list_funnels(self.client, self.retrying).content
        last = self.last_day()
        if limit is not None:
            for funnel in funnels:
                yield from self.skipping_failures("funnel", self._fetch_funnel(funnel, Window(last, last)))
            return
        bookmarks = self._keep_bookmarks(funnels)
        windows = []
        for funnel in sorted(funnels, key=lambda funnel: bookmarks.get(funnel.id, EPOCH)):
            first = first_day(bookmarks.get(funnel.id), self.start_date(), settings.lookback_days, settings.zone)
            if first > last:
                self.log("funnel %d: the first day, %s, is after the last day, %s", funnel.id, first, last)
            else:
                windows.append((funnel, Window(first, last)))
        self.progress.total = sum(window.days for _, window in windows)
        for funnel, window in windows:
            rows = self.skipping_failures("funnel", self._fetch_funnel(funnel, window))
            yield from self.deferring_limited_history(window, rows)

    def _keep_bookmarks(self, funnels: Sequence[Funnel]) -> Mapping[int, dt.datetime]:
        """Keep and return the bookmarks of existing funnels. Warn about bookmarks of other funnels."""
        ids = [funnel.id for funnel in funnels]
        before = self.bookmarks(ids) if self.is_incremental else {}
        for funnel in sorted(before.keys() - set(ids)):
            self.log(
                "funnel %d of the state is no longer in Mixpanel. Skipping this funnel", funnel, level=logging.WARNING
            )
        self._bookmarks = {funnel: at for funnel, at in before.items() if funnel in ids}
        return dict(self._bookmarks)

    def _fetch_funnel(self, funnel: Funnel, window: Window) -> Iterator[Rows]:
        return self.fetch_in_windows(window, lambda part, retrying: self._fetch_window(funnel, part, retrying))

    def _fetch_window(self, funnel: Funnel, window: Window, retrying: Retrying) -> Rows:
        source_settings = self.configured_settings("start_date", "end_date")
        days = fetch_funnel_days(
            self.client, funnel, window.first, window.last, retrying, source_settings=source_settings
        )
        rows = [
            Row(text, {"funnel_id": str(funnel.id).encode(), "date": b'"%b"' % str(day).encode(), "name": funnel.name})
            for day, text in days.content.items()
        ]
        delivered = (funnel.id, end_instant(window, self.settings.zone, days.requested_at))
        return Rows(
            f"funnels {window} of funnel {funnel.id}",
            rows,
            days.received,
            days.decompressed_bytes,
            window.days,
            delivered,
        )


def _funnel_id(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{BY_FUNNEL} has the key {shown(text)}, which is not a funnel ID")
    return int(text)
