"""Events and profiles by `RESTStream`, `iter_lines` and `json.loads`, one window for all days."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from requests.auth import HTTPBasicAuth
from singer_sdk import RESTStream, Tap, typing as th
from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.pagination import BaseAPIPaginator

if TYPE_CHECKING:
    from collections.abc import Iterable

    import requests
    from singer_sdk.helpers.types import Context


class ObviousStream(RESTStream[Any]):
    """What both streams share."""

    @property
    def authenticator(self) -> HTTPBasicAuth:
        """A service account's name and secret."""
        return HTTPBasicAuth(self.config["service_account_username"], self.config["service_account_secret"])

    @property
    def http_headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Accept-Encoding": "gzip"}


class Events(ObviousStream):
    """All events, normalized."""

    name = "events"
    path = "/export"
    primary_keys = ("event_name", "event_time", "insert_id")
    replication_key = None
    schema = th.PropertiesList(
        th.Property("event_name", th.StringType),
        th.Property("event_time", th.DateTimeType),
        th.Property("distinct_id", th.StringType),
        th.Property("insert_id", th.StringType),
        th.Property("properties", th.ObjectType(additional_properties=True)),
    ).to_dict()

    @property
    def url_base(self) -> str:
        """Where the raw export is."""
        return str(self.config["data_api_url"])

    def _request(
        self,
        prepared_request: requests.PreparedRequest,
        context: Context | None,  # noqa: ARG002
    ) -> requests.Response:
        response = self.requests_session.send(prepared_request, stream=True, timeout=self.timeout)
        self.validate_response(response)
        return response

    def get_url_params(self, context: Context | None, next_page_token: Any | None) -> dict[str, Any]:  # noqa: ARG002
        """The days to ask for."""
        return {
            "project_id": self.config["project_id"],
            "from_date": self.config["start_date"],
            "to_date": self.config["end_date"],
        }

    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        """Read line by line."""
        for line in response.iter_lines():
            yield json.loads(line)

    def post_process(self, row: dict[str, Any], context: Context | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Take the columns out of the properties."""
        properties = row["properties"]
        return {
            "event_name": row["event"],
            "event_time": datetime.fromtimestamp(properties.pop("time"), UTC).isoformat(),
            "distinct_id": str(properties.pop("distinct_id", "")),
            "insert_id": properties.pop("$insert_id", ""),
            "properties": properties,
        }


class Pages(BaseAPIPaginator[str | None]):
    """The pages of one query, each asked for by its number and the session's id."""

    def get_next(self, response: requests.Response) -> str | None:
        """What asks for the page after this one; None after the last."""
        page = response.json()
        if len(page["results"]) < page["page_size"]:
            return None
        return urlencode({"session_id": page["session_id"], "page": page["page"] + 1})


class Profiles(ObviousStream):
    """All user profiles."""

    name = "profiles"
    path = "/query/engage"
    http_method = "POST"
    payload_as_json = False
    primary_keys = ("distinct_id",)
    replication_key = None
    records_jsonpath = "$.results[*]"
    schema = th.PropertiesList(
        th.Property("distinct_id", th.StringType),
        th.Property("last_seen", th.StringType),
        th.Property("properties", th.ObjectType(additional_properties=True)),
    ).to_dict()

    @property
    def url_base(self) -> str:
        """Where the query API is."""
        return str(self.config["api_url"])

    def get_url_params(self, context: Context | None, next_page_token: Any | None) -> dict[str, Any]:  # noqa: ARG002
        """The project."""
        return {"project_id": self.config["project_id"]}

    def get_new_paginator(self) -> Pages:
        """Return the pages of one query."""
        return Pages(None)

    def prepare_request_payload(self, context: Context | None, next_page_token: str | None) -> dict[str, Any]:  # noqa: ARG002
        """Say which page."""
        return {"page_size": 5000, **dict(parse_qsl(next_page_token or ""))}

    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        """Read a page."""
        yield from response.json()["results"]

    def post_process(self, row: dict[str, Any], context: Context | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Take the columns out of the properties."""
        properties = row["$properties"]
        return {
            "distinct_id": str(row["$distinct_id"]),
            "last_seen": properties.pop("$last_seen", None),
            "properties": properties,
        }


class ObviousTap(Tap):
    """Events and profiles."""

    name = "obvious-tap"
    config_jsonschema = th.PropertiesList(
        *(
            th.Property(name, th.StringType, required=True)
            for name in (
                "project_id",
                "service_account_username",
                "service_account_secret",
                "data_api_url",
                "api_url",
                "start_date",
                "end_date",
            )
        ),
        th.Property("stream", th.StringType, required=True),
    ).to_dict()

    def discover_streams(self) -> list[ObviousStream]:
        """The one stream that is asked for."""
        return [(Profiles if self.config.get("stream") == "profiles" else Events)(self)]


class ObviousTapWithMsgSpec(ObviousTap):
    """The same, with the SDK's faster writer."""

    message_writer_class = MsgSpecWriter
