"""The lexicon_schemas stream: the project's data dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mixpanel.auth import ServiceAccount
from ..mixpanel.lexicon import list_schemas
from ..records.reports import OBJECT, TEXT, ReportSchema, Row
from ..settings import SettingsError
from .reports import ReportStream, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator


class LexiconSchemasStream(ReportStream):
    """The Lexicon's descriptions of events, profiles and their properties, from a single request to the app API."""

    name = "lexicon_schemas"
    chunk_name = "response"
    unit = "schemas"
    api = "app"
    record_schema = ReportSchema(
        {"entity_type": TEXT, "name": TEXT, "description": TEXT, "properties": OBJECT, "metadata": OBJECT},
        ("entity_type", "name"),
        flattened=("schemaJson",),
        renamed={
            "entityType": "entity_type",
            "schemaJson_description": "description",
            "schemaJson_properties": "properties",
            "schemaJson_metadata": "metadata",
        },
    )

    def check_before_run(self) -> None:
        """Reject credentials that Mixpanel does not accept for the Lexicon.

        Raises:
            SettingsError: The credentials are not a service account.
        """
        if not isinstance(self.settings.auth, ServiceAccount):
            problem = (
                "lexicon_schemas: the Lexicon requires a service account: set service_account_username, "
                f"service_account_secret and project_id in place of {self.settings.auth.settings_hint}, or deselect it"
            )
            raise SettingsError([problem])

    def fetch(self, limit: int | None = None) -> Iterator[Rows]:  # noqa: ARG002 - always a single request
        """Fetch all schemas."""
        response = list_schemas(self.client, self.retrying)
        rows = list(map(Row, response.content))
        yield Rows(self.name, rows, response.received, response.decompressed_bytes, len(rows))
