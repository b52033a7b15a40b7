"""The funnels stream: windows of days, each delivered for all funnels or not at all."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ..mixpanel.funnels import funnel_days, list_funnels, windows
from ..mixpanel.windows import Window, bookmark_text, end_instant, first_day, last_day
from ..records.flat import DAY, INTEGER, OBJECTS, TEXT, FlatShape, Row
from ..settings import SettingsError
from .flat import FlatStream, Rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ..mixpanel.funnels import Funnel

# In the state: the funnels whose days are delivered up to the bookmark.
KNOWN = "funnel_ids"


class FunnelsStream(FlatStream):
    """Each saved funnel, day by day."""

    name = "funnels"
    portion_name = "window"
    unit = "days"
    replication_key = "date"
    shape = FlatShape(
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
        lifted=("analysis",),
    )

    # Of this run: the funnels whose days are read up to where those of all are.
    _up_to_date: Sequence[int] = ()

    # --- The bookmark ------------------------------------------------------------------------------------------------

    def bookmark(self) -> dt.datetime | None:
        """The instant before which everything is delivered, None where everything is to be read.

        Raises:
            SettingsError: The state holds something else.
        """
        return self.instant_in_state("replication_key_value") if self._is_incremental else None

    def move_bookmark(self, delivered_before: dt.datetime) -> None:
        """Move the bookmark forward, never back: a window of the look-back ends before it."""
        if not self._is_incremental:
            return
        bookmark = self.bookmark()
        if bookmark is None or delivered_before > bookmark:
            self.stream_state["replication_key"] = self.replication_key
            self.stream_state["replication_key_value"] = bookmark_text(delivered_before)
        self.stream_state[KNOWN] = self._up_to_date

    def check_start(self) -> None:
        """Refuse a start without a first day, or from a state that is none."""
        self.start_date()
        self.bookmark()
        self._known()

    def start_date(self) -> dt.date:
        """The first day to ask for.

        Raises:
            SettingsError: It is not set.
        """
        if self.settings.start_date is None:
            raise SettingsError(["start_date is missing: set it to the first day of funnels to read"])
        return self.settings.start_date

    @property
    def _is_incremental(self) -> bool:
        return self.replication_method == "INCREMENTAL"

    def _known(self) -> Collection[int]:
        known = self.state_before.get(KNOWN, [])
        if not isinstance(known, list):
            raise SettingsError([f"--state: {KNOWN} of {self.name} is no list"])
        return known

    # --- The windows -------------------------------------------------------------------------------------------------

    def fetch(self, few: int | None = None) -> Iterator[Rows]:
        """Ask for the list, then for all funnels of one window after another.

        A funnel that is new to the state is first read from `start_date` up to the look-back: Mixpanel knows its days
        from before it was saved, too.
        """
        settings = self.settings
        funnels = list_funnels(self.client, self.retrying).content
        first = first_day(self.bookmark(), self.start_date(), settings.lookback_days, settings.zone)
        last = last_day(settings.end_date, self.clock.now(), settings.zone)
        if few is not None:
            yield self._window(Window(last, last), funnels[:1])
            return
        if first > last:
            self.log("nothing to ask for: the first day, %s, comes after the last, %s", first, last)
            return
        known = self._known()
        unknown = [funnel for funnel in funnels if funnel.id not in known]
        if unknown and first > self.start_date():
            for window in windows(self.start_date(), first - dt.timedelta(days=1)):
                yield self._window(window, unknown, moves_bookmark=False)
        self._up_to_date = [funnel.id for funnel in funnels]
        for window in windows(first, last):
            yield self._window(window, funnels)

    def _window(self, window: Window, funnels: Sequence[Funnel], *, moves_bookmark: bool = True) -> Rows:
        asked_at = self.clock.now()
        rows = Rows(f"funnels {window}", [], 0, 0, window.days)
        for funnel in funnels:
            days = funnel_days(self.client, funnel, window, self.retrying)
            rows.rows += [
                Row(
                    text,
                    {"funnel_id": str(funnel.id).encode(), "date": b'"%b"' % str(day).encode(), "name": funnel.name},
                )
                for day, text in days.content.items()
            ]
            rows.received += days.received
            rows.unpacked += days.unpacked
        if moves_bookmark:
            rows.delivered_before = end_instant(window, self.settings.zone, asked_at)
        return rows
