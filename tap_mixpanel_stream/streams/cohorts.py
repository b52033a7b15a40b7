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
"""State entry with the ids of the cohorts read so far. Exists until all cohorts are read."""

VERSION = "version"
"""State entry beside `FINISHED` with the table version of these cohorts' records, if they have one."""

SHORT = "short"
"""State entry beside `FINISHED`, true if members of one of these cohorts are missing."""

END_OF_LIST = "end of list"
"""Argument of `CohortMembersStream.move_bookmark` after the last cohort, if a cohort failed."""


class CohortsStream(ReportStream):
    """All saved cohorts, from a single request."""

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

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 - always a single request
        """Fetch the list of cohorts."""
        response = list_cohorts(self.client, self.retrying)
        rows = [Row(cohort.text) for cohort in response.content]
        yield Rows("cohorts", rows, response.received, response.decompressed_bytes, len(rows))


class CohortMembersStream(ReportStream):
    """The members of each cohort, from the Engage endpoint. Their properties are in the stream `profiles`.

    Reading the table can take several runs. A run that ends early stores the finished cohorts in the state, and the
    next run reads the others.
    """

    name = "cohort_members"
    chunk_name = "page"
    unit = "members"
    # The table needs a column that is not part of the key, such as `data_group_id`: target-duckdb 0.8.0 cannot update a
    # table in which all columns are keys.
    record_schema = ReportSchema(
        {"cohort_id": INTEGER, "distinct_id": ID_TEXT, "data_group_id": ID_TEXT},
        ("cohort_id", "distinct_id"),
        has_other=False,
    )

    # Mixpanel lists the cohorts of a deleted group, but they have no members.
    gone_kinds = frozenset({"missing_group"})

    _has_read_all = False
    """Whether this run has read all cohorts in the list."""

    # --- The state ---------------------------------------------------------------------------------------------------

    def finished(self) -> list[int]:
        """Return the ids of the cohorts that this and earlier runs have read, and that this run can skip.

        Raises:
            SettingsError: The state is malformed.
        """
        finished, version = self.state_entry.get(FINISHED, []), self.state_entry.get(VERSION)
        try:
            require_type(finished, FINISHED, list)
            require_type(0 if version is None else version, VERSION, int)
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None
        # If the rows of finished cohorts have no version but later rows do, a target would delete the former.
        return [] if version is None and self.settings.emit_activate_version_messages else finished

    @property
    def refreshed_at(self) -> dt.datetime | None:
        """The start of the run that read the first of the finished cohorts, or of this run if there are none."""
        version = self.state_entry.get(VERSION) if self.is_full_refresh else None
        return super().refreshed_at if version is None else EPOCH + dt.timedelta(milliseconds=version)

    @property
    def incomplete_reason(self) -> str | None:
        """Why this run and the earlier ones did not deliver all members; None if they did."""
        return "a cohort is incomplete" if self.state_entry.get(SHORT) else super().incomplete_reason

    def check_before_run(self) -> None:
        """Check that the state is valid."""
        self.finished()

    def move_bookmark(self, delivered: Any) -> None:
        """Store a finished cohort in the state.

        Args:
            delivered: The cohort's id, and whether members are missing; `END_OF_LIST` to forget the finished cohorts.
        """
        if delivered == END_OF_LIST:
            self.complete()
            return
        cohort, is_short = delivered
        self.stream_state[FINISHED] = [*self.finished(), cohort]
        self.stream_state.pop(VERSION, None)
        if self._stream_version is not None:
            self.stream_state[VERSION] = self._stream_version
        if is_short:
            self.stream_state[SHORT] = True

    def complete(self) -> None:
        """Remove the finished cohorts from the state, so that the next run reads all cohorts."""
        if self._has_read_all:
            for name in (FINISHED, VERSION, SHORT):
                self.stream_state.pop(name, None)

    # --- The members -------------------------------------------------------------------------------------------------

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:
        """Fetch the list of cohorts, then the pages of each cohort."""
        response = list_cohorts(self.client, self.retrying, "cohort_members, list of cohorts")
        if not response.content:
            yield Rows(self.name, [], response.received, response.decompressed_bytes)
        finished = () if limit else self.finished()
        for cohort in response.content:
            if cohort.is_empty or cohort.id in finished:
                continue
            yield from self._fetch_members(cohort, limit)
        self._has_read_all = True
        self.has_earlier_rows = bool(finished)
        if self.failed_items and not limit:
            # The stream fails now. If the state kept the finished cohorts and this one failed in every run, later runs
            # would never read the others again.
            yield Rows(self.name, [], 0, 0, delivered=END_OF_LIST)

    def _fetch_members(self, cohort: Cohort, limit: int | None) -> Iterator[Rows]:
        common_fields = {
            "cohort_id": str(cohort.id).encode(),
            "data_group_id": json.dumps(cohort.data_group_id).encode(),
        }
        page_size = limit or self.settings.profiles_page_size
        pages = fetch_members(self.client, cohort, self.retrying, page_size=page_size, log=self.logger)
        failed_before, is_short = self.failed_items, False
        for page, is_last in _mark_last(self.skipping_failures("cohort", islice(pages, 1 if limit else None))):
            is_short = is_short or page.missing > 0
            yield Rows(
                f"cohort_members of cohort {cohort.id}, page {page.number}",
                [
                    Row(extra_fields={**common_fields, "distinct_id": read_distinct_id(profile)})
                    for profile in page.results
                ],
                page.received,
                page.decompressed_bytes,
                len(page.results),
                # If the cohort failed, this page is the last one fetched but not the last of the cohort.
                (cohort.id, is_short) if is_last and self.failed_items == failed_before else None,
            )


def _mark_last(pages: Iterator[Page]) -> Iterator[tuple[Page, bool]]:
    """Yield each page, and whether it is the last one."""
    previous = None
    for page in pages:
        if previous is not None:
            yield previous, False
        previous = page
    if previous is not None:
        yield previous, True
