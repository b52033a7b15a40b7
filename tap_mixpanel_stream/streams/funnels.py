"""The funnels stream: each funnel day by day, with a bookmark of its own."""

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
"""In the state: the bookmark of each funnel, by its id."""

FUNNEL_IDS = "funnel_ids"
"""In older states: the funnels that share the bookmark `replication_key_value`."""


class FunnelsStream(DayReportStream):
    """Each saved funnel, day by day."""

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
    """By funnel, the instant before which its days are delivered; None until Mixpanel has listed the funnels."""

    # --- The bookmarks -----------------------------------------------------------------------------------------------

    @property
    def bookmark_value(self) -> str | None:
        """The earliest bookmark of a funnel, as the state holds it now."""
        by_funnel: Mapping[str, str] = self.state_before.get(BY_FUNNEL, {})
        return min(by_funnel.values(), default=super().bookmark_value)

    def bookmarks(self, funnel_ids: Sequence[int] = ()) -> dict[int, dt.datetime]:
        """Return the bookmark of each funnel that the state holds.

        Args:
            funnel_ids: The funnels that a bookmark without any names is about.

        Raises:
            SettingsError: The state holds something else.
        """
        if not self.is_incremental:
            return {}
        by_funnel = self.state_before.get(BY_FUNNEL)
        if by_funnel is None:
            shared = self.instant_in_state("replication_key_value")
            known = self.state_before.get(FUNNEL_IDS, funnel_ids)
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
        """Move a funnel's bookmark forward, never back: a window of the look-back ends before it."""
        if self._bookmarks is not None:
            funnel, before = delivered
            self._bookmarks[funnel] = max(before, self._bookmarks.get(funnel, before))
            self._write_bookmarks()

    def complete(self) -> None:
        """Drop the bookmarks of funnels that are no longer there."""
        self._write_bookmarks()

    def _write_bookmarks(self) -> None:
        if self._bookmarks is None or not self.is_incremental:
            return
        for name in ("replication_key_value", FUNNEL_IDS):
            self.stream_state.pop(name, None)
        self.stream_state["replication_key"] = self.replication_key
        self.stream_state[BY_FUNNEL] = {str(funnel): bookmark_text(at) for funnel, at in self._bookmarks.items()}

    def check_start(self) -> None:
        """Refuse a start without a first day, or from a bookmark that is broken or in the future."""
        self.start_date()
        self.refuse_future("replication_key_value", self.instant_in_state("replication_key_value"))
        self.refuse_future(BY_FUNNEL, max(self.bookmarks().values(), default=None))

    # --- The windows -------------------------------------------------------------------------------------------------

    def fetch(self, few: int | None = None) -> Iterator[Rows]:
        """Ask for the list, then for one funnel after another.

        The funnels that are furthest behind come first, so that runs with a small quota bring all of them forward. A
        funnel without a bookmark is read from `start_date`: Mixpanel knows its days from before it was saved, too.
        """
        settings = self.settings
        funnels = list_funnels(self.client, self.retrying).content
        last = self.last_day()
        if few is not None:
            for funnel in funnels[:1]:
                yield self._window(funnel, Window(last, last), self.retrying)
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
            yield from self.skipping_failures("funnel", self._funnel(funnel, window))

    def _keep_bookmarks(self, funnels: Sequence[Funnel]) -> Mapping[int, dt.datetime]:
        """Return the bookmarks of the funnels that there are, and name the others."""
        ids = [funnel.id for funnel in funnels]
        before = self.bookmarks(ids)
        for funnel in sorted(before.keys() - set(ids)):
            self.log(
                "funnel %d of the state is no longer in Mixpanel. Skipping this funnel", funnel, level=logging.WARNING
            )
        self._bookmarks = {funnel: at for funnel, at in before.items() if funnel in ids}
        return dict(self._bookmarks)

    def _funnel(self, funnel: Funnel, window: Window) -> Iterator[Rows]:
        return self.in_windows(window, lambda part, retrying: self._window(funnel, part, retrying))

    def _window(self, funnel: Funnel, window: Window, retrying: Retrying) -> Rows:
        source_settings = self.set_settings("start_date", "end_date")
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
