"""The insights stream: saved Insights reports, with one record for each number."""

from __future__ import annotations

import json
import logging
from itertools import islice
from typing import TYPE_CHECKING

from ..mixpanel.insights import fetch_insights_report
from ..records.reports import INTEGER, NUMBER, OBJECT, TEXT, ReportSchema, Row
from .reports import SKIPPED_KINDS, ReportStream, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..settings import InsightsReport


class InsightsStream(ReportStream):
    """The numbers of the saved reports in `insights_reports`, with one request for each report."""

    name = "insights"
    chunk_name = "report"
    unit = "reports"
    # A single report can be private.
    skipped_kinds = SKIPPED_KINDS | {"access"}
    record_schema = ReportSchema(
        {
            "report_id": INTEGER,
            "cell_id": TEXT,
            "report_name": TEXT,
            "date": TEXT,
            "dimensions": OBJECT,
            "value": NUMBER,
        },
        ("report_id", "cell_id"),
    )

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:
        """Fetch each report."""
        reports = self.settings.insights_reports
        if not reports:
            self.log("insights_reports is not set: there is no report to read", level=logging.WARNING)
        self.progress.total = len(reports)
        for report in islice(reports, 1 if limit else None):
            yield from self.skipping_failures("report", self._report(report))

    def _report(self, report: InsightsReport) -> Iterator[Rows]:
        fetched = fetch_insights_report(self.client, report.bookmark_id, self.retrying)
        known = {"report_id": b"%d" % report.bookmark_id, "report_name": json.dumps(report.name).encode()}
        rows = [
            Row(
                known={
                    **known,
                    "cell_id": b'"%b"' % cell.id.encode(),
                    "date": json.dumps(cell.date).encode(),
                    "dimensions": cell.dimensions,
                    "value": cell.value,
                }
            )
            for cell in fetched.content
        ]
        yield Rows(
            f"insights, report {report.bookmark_id}", rows, fetched.received, fetched.decompressed_bytes, extent=1
        )
