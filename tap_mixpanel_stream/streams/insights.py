"""The insights stream: saved Insights reports, with one record for each number."""

from __future__ import annotations

import json
import logging
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
    probes_every_item = True
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

    @property
    def nothing_to_read(self) -> str | None:
        """Why the stream sends no request; None if it sends any."""
        return None if self.settings.insights_reports else "insights_reports is not set: there is no report to read"

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 - a report is a single request
        """Fetch each report."""
        if self.nothing_to_read:
            self.log(self.nothing_to_read, level=logging.WARNING)
        reports = self.settings.insights_reports
        self.progress.total = len(reports)
        for report in reports:
            yield from self.skipping_failures("report", self._fetch_report(report))

    def _fetch_report(self, report: InsightsReport) -> Iterator[Rows]:
        response = fetch_insights_report(self.client, report.bookmark_id, self.retrying)
        common_fields = {"report_id": b"%d" % report.bookmark_id, "report_name": json.dumps(report.name).encode()}
        rows = [
            Row(
                extra_fields={
                    **common_fields,
                    "cell_id": b'"%b"' % cell.id.encode(),
                    "date": json.dumps(cell.date).encode(),
                    "dimensions": cell.dimensions,
                    "value": cell.value,
                }
            )
            for cell in response.content
        ]
        yield Rows(
            f"insights, report {report.bookmark_id}", rows, response.received, response.decompressed_bytes, extent=1
        )
