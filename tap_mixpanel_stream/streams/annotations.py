"""The annotations stream: notes that users add to charts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..mixpanel.annotations import list_annotations
from ..mixpanel.auth import ProjectSecret
from ..mixpanel.errors import Refused
from ..records.reports import INTEGER, OBJECTS, TEXT, ReportSchema, Row
from ..settings import SettingsError
from .reports import ReportStream, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class AnnotationsStream(ReportStream):
    """All annotations, from a single request to the app API."""

    name = "annotations"
    chunk_name = "response"
    unit = "annotations"
    api = "app"
    record_schema = ReportSchema(
        {
            "id": INTEGER,
            "date": TEXT,
            "description": TEXT,
            "user_id": INTEGER,
            "user_first_name": TEXT,
            "user_last_name": TEXT,
            "tags": OBJECTS,
            "project_id": INTEGER,
        },
        ("id",),
        flattened=("user",),
    )

    _starts_at_start_date = False
    """Whether the run reads only annotations from `start_date` on."""

    @property
    def is_full_refresh(self) -> bool:
        """Whether this run delivers all annotations."""
        return super().is_full_refresh and not self._starts_at_start_date

    def check_before_run(self) -> None:
        """Reject credentials that the app API does not accept.

        Raises:
            SettingsError: The credentials are a project secret.
        """
        if isinstance(self.settings.auth, ProjectSecret):
            problem = (
                "annotations: Mixpanel's app API does not accept project secrets: set service_account_username, "
                "service_account_secret and project_id, or oauth_token and project_id, or deselect the stream"
            )
            raise SettingsError([problem])

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 - always a single request
        """Fetch all annotations, or those from `start_date` on if the plan's history does not include all."""
        start_date = self.settings.start_date
        try:
            response = list_annotations(self.client, self.retrying)
        except Refused as refused:
            if refused.kind != "history" or start_date is None:
                raise
            response = list_annotations(self.client, self.retrying, start_date)
            self._starts_at_start_date = True
            self.log(
                "the plan's history is limited: annotations before start_date (%s) are not read",
                start_date,
                level=logging.WARNING,
            )
        rows = list(map(Row, response.content))
        yield Rows("annotations", rows, response.received, response.decompressed_bytes, len(rows))
