"""The event_counts stream: Mixpanel's own counts of events, to compare with the loaded events."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from ..mixpanel.event_counts import count_events, list_event_names, name_batches
from ..records.reports import DAY as DAY_COLUMN, INTEGER, TEXT, ReportSchema, Row
from ..replication.state import bookmark_text
from ..replication.windows import DAY, Window, end_instant, first_day
from .day_reports import DayReportStream
from .reports import Rows

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from ..mixpanel.retry import Retrying


NAMES = "event_names"
"""State entry with the names whose counts have been delivered up to the bookmark."""


class EventCountsStream(DayReportStream):
    """The number of events that Mixpanel counts for each name and day."""

    name = "event_counts"
    record_schema = ReportSchema(
        {"date": DAY_COLUMN, "event_name": TEXT, "count": INTEGER},
        ("date", "event_name"),
        has_other=False,
    )

    # --- The bookmark ------------------------------------------------------------------------------------------------

    def _bookmark(self) -> dt.datetime | None:
        return self.instant_in_state("replication_key_value") if self.is_incremental else None

    def _counted_names(self) -> set[str]:
        """Return the names whose counts have been delivered up to the bookmark."""
        names = self.state_entry.get(NAMES, [])
        if not isinstance(names, list):
            raise self.state_error(f"is broken: {NAMES} is not a list")
        if not all(isinstance(name, str) for name in names):
            raise self.state_error(f"is broken: {NAMES} has an entry that is not a string")
        return set(names)

    def move_bookmark(self, delivered: Any) -> None:
        """Move the bookmark forward. A window of the look-back does not move it back.

        Names that were not counted up to the new bookmark are removed from the state. If they are counted again, they
        are treated as new names.

        Args:
            delivered: The end of the delivered period, and the names.
        """
        until, names = delivered
        before = self._bookmark()
        if self.is_incremental and (before is None or until >= before):
            self.stream_state["replication_key"] = self.replication_key
            self.stream_state["replication_key_value"] = bookmark_text(until)
            self.stream_state[NAMES] = sorted(set(names))

    def check_before_run(self) -> None:
        """Check that `start_date` is set and the bookmark is valid and not in the future.

        Also makes the events stream collect event names. All streams are checked before the first one is read.
        """
        self.run.event_names = set()
        self.start_date()
        self.check_not_in_future("replication_key_value", self._bookmark())
        self._counted_names()

    # --- The counts --------------------------------------------------------------------------------------------------

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:
        """Fetch the event names, then the counts of all days."""
        settings = self.settings
        if settings.events_where:
            self.log("events_where applies to the stream events only: event_counts counts all events")
        names = self._names_to_count()
        last = self.last_day()
        if limit is not None:
            yield self._fetch_window(names[:limit], Window(last, last), self.retrying)
            return
        bookmark = self._bookmark()
        first = first_day(bookmark, self.start_date(), settings.lookback_days, settings.zone)
        if not names:
            self.log("Mixpanel lists no event of the last 31 days: there is nothing to count", level=logging.WARNING)
            return
        # Names that are not counted up to the bookmark, such as those that the events stream found in older days.
        new_names = sorted(set(names) - self._counted_names()) if bookmark else []
        start, history_end = self.start_date(), min(first - DAY, last)
        history = Window(start, history_end) if new_names and start <= history_end else None
        window = Window(first, last) if first <= last else None
        self.progress.total = sum(each.days for each in (history, window) if each)
        if history:
            older = self.fetch_in_windows(history, lambda part, retrying: self._fetch_window(new_names, part, retrying))
            for rows in self.deferring_limited_history(history, older):
                yield dataclasses.replace(rows, delivered=None)
            if self.failed_items:
                # The state will list the window's names as counted up to the bookmark. Omit the new ones.
                names = sorted(set(names) - set(new_names))
        if window and names:
            yield from self.fetch_in_windows(window, lambda part, retrying: self._fetch_window(names, part, retrying))
        elif not history:
            self.log("nothing to read: the first day, %s, is after the last day, %s", first, last)

    def _names_to_count(self) -> Sequence[str]:
        """Return the names to count: `event_names` if set, otherwise all known names."""
        if self.settings.event_names:
            return self.settings.event_names
        seen = self.run.event_names or set()
        if not seen and self._bookmark() is None:
            self.log(
                "counting only events of the last 31 days, the names that Mixpanel lists: to count older ones, "
                "read the stream events in the same run, or set event_names",
                level=logging.WARNING,
            )
        known = self._counted_names() if self.is_incremental else set()
        return sorted({*list_event_names(self.client, self.retrying).content, *seen, *known})

    def _fetch_window(self, names: Sequence[str], window: Window, retrying: Retrying) -> Rows:
        """Fetch the counts of all names for a window."""
        source_settings = self.configured_settings("event_names", "start_date", "end_date")
        responses = [
            count_events(self.client, batch, window.first, window.last, retrying, source_settings=source_settings)
            for batch in name_batches(names)
        ]
        rows = [
            Row(
                extra_fields={
                    "date": b'"%b"' % str(each.day).encode(),
                    "event_name": each.name,
                    "count": b"%d" % each.count,
                }
            )
            for counts in responses
            for each in counts.content
        ]
        return Rows(
            f"event_counts {window}",
            rows,
            sum(counts.received for counts in responses),
            sum(counts.decompressed_bytes for counts in responses),
            window.days,
            (end_instant(window, self.settings.zone, responses[0].requested_at), names) if responses else None,
        )
