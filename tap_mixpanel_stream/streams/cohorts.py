"""The cohorts and cohort_members streams."""

from __future__ import annotations

import datetime as dt
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..mixpanel.cohorts import fetch_members, list_cohorts, read_distinct_id
from ..records.reports import ID_TEXT, INTEGER, TEXT, ReportSchema, Row
from ..replication.state import require_type
from .base import EPOCH
from .reports import ReportStream, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..mixpanel.cohorts import Cohort
    from ..mixpanel.engage import Page

FINISHED = "finished"
"""In the state until all cohorts are read: the ids of those that are."""

VERSION = "version"
"""In the state beside `FINISHED`: the version of their records, if they have one."""

SHORT = "short"
"""In the state beside `FINISHED`: true if members of one of them did not come."""


class CohortsStream(ReportStream):
    """All saved cohorts, by one request."""

    name = "cohorts"
    chunk_name = "response"
    unit = "cohorts"
    record_schema = ReportSchema(
        {
            "id": INTEGER,
            "name": TEXT,
            "description": TEXT,
            "count": INTEGER,
            "is_visible": INTEGER,
            "created": TEXT,
            "project_id": INTEGER,
            "data_group_id": ID_TEXT,
        },
        ("id",),
    )

    def fetch(self, few: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 - it is one request anyway
        """Ask for the list."""
        listed = list_cohorts(self.client, self.retrying)
        rows = [Row(cohort.text) for cohort in listed.content]
        yield Rows("cohorts", rows, listed.received, listed.decompressed_bytes, len(rows))


class CohortMembersStream(ReportStream):
    """Who is in each cohort, by the Engage query; the members' own properties are in the profiles.

    The table can take several runs: a run that ends early leaves the finished cohorts in the state, and the next one
    reads the others.
    """

    name = "cohort_members"
    chunk_name = "page"
    unit = "members"
    # A table that is all key cannot be updated by some targets: target-duckdb 0.8.0 fails on it.
    record_schema = ReportSchema(
        {"cohort_id": INTEGER, "distinct_id": ID_TEXT, "data_group_id": ID_TEXT},
        ("cohort_id", "distinct_id"),
        has_other=False,
    )

    _is_whole = False
    """Whether this run has come to the end of the list."""

    # --- The state ---------------------------------------------------------------------------------------------------

    def finished(self) -> list[int]:
        """Return the cohorts that need not be read again before all others are.

        Raises:
            SettingsError: The state holds something else.
        """
        finished, version = self.state_before.get(FINISHED, []), self.state_before.get(VERSION)
        try:
            require_type(finished, FINISHED, list)
            require_type(0 if version is None else version, VERSION, int)
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None
        # A target would drop their rows if they have no version, and the others do.
        return [] if version is None and self.settings.emit_activate_version_messages else finished

    @property
    def refreshed_at(self) -> dt.datetime | None:
        """When the run began that read the first of the cohorts."""
        version = self.state_before.get(VERSION) if self.refreshes else None
        return super().refreshed_at if version is None else EPOCH + dt.timedelta(milliseconds=version)

    @property
    def gap(self) -> str | None:
        """Return why this run, and those before it, did not deliver all members; None if they did."""
        return "a cohort is incomplete" if self.state_before.get(SHORT) else super().gap

    def check_start(self) -> None:
        """Refuse a broken state."""
        self.finished()

    def move_bookmark(self, delivered: Any) -> None:
        """Note that a cohort is finished."""
        cohort, is_short = delivered
        self.stream_state[FINISHED] = [*self.finished(), cohort]
        self.stream_state.pop(VERSION, None)
        if self._stream_version is not None:
            self.stream_state[VERSION] = self._stream_version
        if is_short:
            self.stream_state[SHORT] = True

    def complete(self) -> None:
        """Forget the finished cohorts, so that the next run reads all of them."""
        if self._is_whole:
            for name in (FINISHED, VERSION, SHORT):
                self.stream_state.pop(name, None)

    # --- The members -------------------------------------------------------------------------------------------------

    def fetch(self, few: int | None = None) -> Iterator[Rows]:
        """Ask for the list, then for the pages of one cohort after another."""
        listed = list_cohorts(self.client, self.retrying, "cohort_members, the list of cohorts")
        if not listed.content:
            yield Rows(self.name, [], listed.received, listed.decompressed_bytes)
        finished = () if few else self.finished()
        for cohort in listed.content:
            if cohort.is_empty or cohort.id in finished:
                continue
            yield from self._members(cohort, few)
        self._is_whole = True
        self.has_earlier_rows = bool(finished)

    def _members(self, cohort: Cohort, few: int | None) -> Iterator[Rows]:
        known = {"cohort_id": str(cohort.id).encode(), "data_group_id": json.dumps(cohort.data_group_id).encode()}
        page_size = few or self.settings.profiles_page_size
        pages = fetch_members(self.client, cohort, self.retrying, page_size=page_size, log=self.logger)
        failed_before, is_short = self.failed_items, False
        for page, is_last in _mark_last(self.skipping_failures("cohort", islice(pages, 1 if few else None))):
            is_short = is_short or page.missing > 0
            yield Rows(
                f"cohort_members of cohort {cohort.id}, page {page.number}",
                [Row(known={**known, "distinct_id": read_distinct_id(profile)}) for profile in page.results],
                page.received,
                page.decompressed_bytes,
                len(page.results),
                # A cohort that fails after some pages ends with one that looks like its last.
                (cohort.id, is_short) if is_last and self.failed_items == failed_before else None,
            )


def _mark_last(pages: Iterator[Page]) -> Iterator[tuple[Page, bool]]:
    """Yield each page with whether it is the last one."""
    before = None
    for page in pages:
        if before is not None:
            yield before, False
        before = page
    if before is not None:
        yield before, True
