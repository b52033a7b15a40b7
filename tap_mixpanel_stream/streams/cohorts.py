"""The cohorts and cohort_members streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..mixpanel.cohorts import distinct_id, list_cohorts, members
from ..records.flat import ID_TEXT, INTEGER, TEXT, FlatShape, Row
from .flat import FlatStream, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class CohortsStream(FlatStream):
    """All saved cohorts, by one request."""

    name = "cohorts"
    portion_name = "answer"
    unit = "cohorts"
    shape = FlatShape(
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
        yield Rows("cohorts", rows, listed.received, listed.unpacked, len(rows))


class CohortMembersStream(FlatStream):
    """Who is in each cohort, by the Engage query; the members' own properties are in the profiles."""

    name = "cohort_members"
    portion_name = "page"
    unit = "members"
    # A table that is all key cannot be updated by some targets: target-duckdb 0.8.0 fails on it.
    shape = FlatShape(
        {"cohort_id": INTEGER, "distinct_id": ID_TEXT, "data_group_id": ID_TEXT},
        ("cohort_id", "distinct_id"),
        is_open=False,
    )

    def fetch(self, few: int | None = None) -> Iterator[Rows]:
        """Ask for the list, then for the pages of one cohort after another."""
        listed = list_cohorts(self.client, self.retrying, "cohort_members, the list of cohorts")
        if not listed.content:
            yield Rows("cohort_members", [], listed.received, listed.unpacked)
        cohorts = listed.content if few is None else listed.content[:1]
        for cohort in cohorts:
            known = {
                "cohort_id": str(cohort.id).encode(),
                "data_group_id": json.dumps(cohort.data_group_id).encode(),
            }
            page_size = few or self.settings.profiles_page_size
            for page in members(self.client, cohort, self.retrying, page_size=page_size, log=self.logger):
                what = f"cohort_members of cohort {cohort.id}, page {page.number}"
                rows = [Row(known={**known, "distinct_id": distinct_id(profile)}) for profile in page.results]
                yield Rows(what, rows, page.received, page.unpacked, len(rows))
