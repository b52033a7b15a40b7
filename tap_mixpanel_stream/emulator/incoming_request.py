"""Incoming requests: find the endpoint of a path, and parse the parameters in the URL and the body."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from .error_responses import ErrorResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .error_responses import Api

_FORM = "application/x-www-form-urlencoded"
_PROJECT = frozenset({"project_id"})
# mixpanel-headless, a client by Mixpanel, sends its name as `query_origin`.
_QUERY_API = _PROJECT | {"workspace_id", "query_origin"}


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of the Mixpanel API.

    Attributes:
        kind: Kind of request, one of `faults.REQUEST_KINDS`.
        methods: HTTP methods that the endpoint accepts.
        parameters: Parameters that the endpoint accepts. A request with any other parameter gets 400.
    """

    kind: str
    methods: frozenset[str]
    parameters: frozenset[str]

    def check(self, parameters: Mapping[str, str]) -> None:
        """Check the names of the parameters.

        Raises:
            ErrorResponse: 400 with the first unknown parameter.
        """
        unknown = sorted(parameters.keys() - self.parameters)
        if unknown:
            raise ErrorResponse(400, f"Invalid parameter: unknown parameter {unknown[0]!r}")


UNKNOWN = Endpoint("unknown", frozenset(), frozenset())
"""The endpoint of paths that do not exist."""

_GET, _GET_OR_POST = frozenset({"GET"}), frozenset({"GET", "POST"})

_EXPORT = Endpoint(
    "export", _GET, _PROJECT | {"from_date", "to_date", "event", "where", "limit", "time_in_ms", "workspace_id"}
)

_QUERY: Mapping[str, Endpoint] = {
    "engage": Endpoint(
        "engage",
        _GET_OR_POST,
        _QUERY_API
        | {"where", "output_properties", "session_id", "page", "page_size", "distinct_id", "distinct_ids"}
        | {"data_group_id", "filter_by_cohort", "include_all_users", "behaviors", "as_of_timestamp"},
    ),
    "cohorts/list": Endpoint("cohorts", _GET_OR_POST, _QUERY_API),
    "funnels": Endpoint("funnels", _GET, _QUERY_API | {"funnel_id", "from_date", "to_date", "unit"}),
    "funnels/list": Endpoint("funnels", _GET, _QUERY_API),
    "events": Endpoint(
        "event_counts", _GET, _QUERY_API | {"event", "type", "unit", "interval", "from_date", "to_date", "format"}
    ),
    "events/names": Endpoint("event_counts", _GET, _QUERY_API | {"type", "limit"}),
    "insights": Endpoint("insights", _GET, _QUERY_API | {"bookmark_id"}),
}
"""Endpoints of the query API, by the path after `/api/query/` or the legacy `/api/2.0/`."""

_APP: Mapping[str, Endpoint] = {
    "annotations": Endpoint("annotations", _GET, frozenset({"fromDate", "toDate"})),
    "annotations/tags": Endpoint("annotations", _GET, frozenset()),
    "schemas": Endpoint("schemas", _GET, frozenset()),
}
"""Endpoints of the app API, by the path after `/api/app/projects/{project_id}/`."""

_APP_PATH = re.compile(r"/api/app/projects/(?P<project>[^/]+)/(?P<rest>.+)")
_QUERY_PATH = re.compile(r"/api/(?:query|2\.0)/(?P<rest>.+)")


@dataclass
class ReceivedRequest:
    """A request that the emulator received.

    Attributes:
        endpoint: Endpoint of the path.
        number: Number of the request among those of the same kind, from 1.
        method: HTTP method.
        path: Path without the query string.
        query: Parameters in the URL.
        form: Parameters in the body, which is a form or a JSON object.
        headers: Headers by lower-case name.
        faults: Names of the faults injected into the response.
        status: Status of the response; 0 until it is sent.
        arrived: Arrival time as a Unix timestamp in seconds.
    """

    endpoint: Endpoint
    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    status: int = 0
    arrived: float = field(default_factory=time.time)

    @property
    def kind(self) -> str:
        """One of `faults.REQUEST_KINDS`, or `unknown` for a path that does not exist."""
        return self.endpoint.kind

    @property
    def parameters(self) -> dict[str, str]:
        """All parameters. Those in the body override those in the URL."""
        return {**self.query, **self.form}

    @property
    def api(self) -> Api:
        """The API that the endpoint belongs to."""
        if self.kind == "export":
            return "data"
        return "query" if self.path_project is None else "app"

    @property
    def has_date_range(self) -> bool:
        """Whether the endpoint has a parameter for the first day."""
        return bool(self.endpoint.parameters & {"from_date", "fromDate"})

    @property
    def path_project(self) -> str | None:
        """The project id in a path of the app API; None for the other APIs."""
        match = _APP_PATH.fullmatch(self.path)
        return match["project"] if match else None


def find_endpoint(method: str, path: str) -> Endpoint:
    """Return the endpoint of a method and a path. A trailing slash is ignored."""
    path = path.rstrip("/")
    if path == "/api/2.0/export":
        found: Endpoint | None = _EXPORT
    elif app := _APP_PATH.fullmatch(path):
        found = _APP.get(app["rest"])
    elif query := _QUERY_PATH.fullmatch(path):
        found = _QUERY.get(query["rest"])
    else:
        found = None
    return found if found is not None and method in found.methods else UNKNOWN


def parse_query(query: str) -> dict[str, str]:
    """Parse the parameters in the query string of a URL."""
    return dict(parse_qsl(query, keep_blank_values=True))


def parse_body(body: bytes, content_type: str) -> dict[str, str]:
    """Parse the parameters in the body of a request.

    A JSON value other than a string becomes its JSON text, as it would be in a form. Null values are omitted.

    Args:
        body: The body, which may be empty.
        content_type: Value of the `Content-Type` header. If empty, the body is parsed as a form.

    Raises:
        ErrorResponse: 400 if the body is not a form or a JSON object.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body or kind in {"", _FORM}:
        return parse_query(body.decode(errors="replace"))
    if kind != "application/json":
        raise ErrorResponse(400, f"Unsupported Content-Type: {kind}")
    try:
        values = json.loads(body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ErrorResponse(400, "Invalid request body: it must be a JSON object")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
