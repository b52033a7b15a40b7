"""A tap for events and profiles with `RESTStream`, `iter_lines` and `json.loads`. It requests all days at once."""

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


class MinimalStream(RESTStream[Any]):
    """The common base of both streams."""

    @property
    def authenticator(self) -> HTTPBasicAuth:
        """Basic authentication with a service account."""
        return HTTPBasicAuth(self.config["service_account_username"], self.config["service_account_secret"])

    @property
    def http_headers(self) -> dict[str, str]:
        """The headers of all requests."""
        return {"Accept-Encoding": "gzip"}


class Events(MinimalStream):
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
        """The base URL of the raw export."""
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
        """Return the project id and the days."""
        return {
            "project_id": self.config["project_id"],
            "from_date": self.config["start_date"],
            "to_date": self.config["end_date"],
        }

    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        """Yield one event per line."""
        for line in response.iter_lines():
            yield json.loads(line)

    def post_process(self, row: dict[str, Any], context: Context | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Move properties to columns."""
        properties = row["properties"]
        return {
            "event_name": row["event"],
            "event_time": datetime.fromtimestamp(properties.pop("time"), UTC).isoformat(),
            "distinct_id": str(properties.pop("distinct_id", "")),
            "insert_id": properties.pop("$insert_id", ""),
            "properties": properties,
        }


class Pages(BaseAPIPaginator[str | None]):
    """A paginator for engage, which requests pages by number and session id."""

    def get_next(self, response: requests.Response) -> str | None:
        """Return the parameters of the next page; None after the last page."""
        page = response.json()
        if len(page["results"]) < page["page_size"]:
            return None
        return urlencode({"session_id": page["session_id"], "page": page["page"] + 1})


class Profiles(MinimalStream):
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
        """The base URL of the query API."""
        return str(self.config["api_url"])

    def get_url_params(self, context: Context | None, next_page_token: Any | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the project id."""
        return {"project_id": self.config["project_id"]}

    def get_new_paginator(self) -> Pages:
        """Return the paginator of a query."""
        return Pages(None)

    def prepare_request_payload(self, context: Context | None, next_page_token: str | None) -> dict[str, Any]:  # noqa: ARG002
        """Return the page size and the parameters of the page."""
        return {"page_size": 5000, **dict(parse_qsl(next_page_token or ""))}

    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        """Yield the profiles of a page."""
        yield from response.json()["results"]

    def post_process(self, row: dict[str, Any], context: Context | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Move properties to columns."""
        properties = row["$properties"]
        return {
            "distinct_id": str(row["$distinct_id"]),
            "last_seen": properties.pop("$last_seen", None),
            "properties": properties,
        }


class MinimalTap(Tap):
    """A minimal tap for events or profiles."""

    name = "minimal-tap"
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

    def discover_streams(self) -> list[MinimalStream]:
        """Return the stream named in the setting `stream`."""
        return [(Profiles if self.config.get("stream") == "profiles" else Events)(self)]


class MinimalTapWithMsgSpec(MinimalTap):
    """The minimal tap with the SDK's msgspec writer, which is faster."""

    message_writer_class = MsgSpecWriter
