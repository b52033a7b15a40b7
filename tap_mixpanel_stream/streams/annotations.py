"""The annotations stream."""

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
    """All annotations, by one request to the app API."""

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

    # Whether annotations before `start_date` are left out.
    _is_cut = False

    @property
    def refreshes(self) -> bool:
        """Return whether this run delivers all annotations."""
        return super().refreshes and not self._is_cut

    def check_start(self) -> None:
        """Refuse credentials that the app API does not take."""
        if isinstance(self.settings.auth, ProjectSecret):
            problem = (
                "annotations: Mixpanel's app API does not take project secrets: set service_account_username, "
                "service_account_secret and project_id, or oauth_token and project_id, or deselect the stream"
            )
            raise SettingsError([problem])

    def fetch(self, few: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 - it is one request anyway
        """Ask for all of them, or from `start_date` on where the plan's history begins later than the first one."""
        start_date = self.settings.start_date
        try:
            listed = list_annotations(self.client, self.retrying)
        except Refused as refused:
            if refused.kind != "history" or start_date is None:
                raise
            listed = list_annotations(self.client, self.retrying, start_date)
            self._is_cut = True
            self.log(
                "the plan's history is limited: annotations before start_date (%s) are not read",
                start_date,
                level=logging.WARNING,
            )
        rows = list(map(Row, listed.content))
        yield Rows("annotations", rows, listed.received, listed.decompressed_bytes, len(rows))
