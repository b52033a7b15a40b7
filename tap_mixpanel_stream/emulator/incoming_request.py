"""A request: the endpoint that its path leads to, and its parameters wherever they stand."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from .error_responses import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .error_responses import Api

_FORM = "application/x-www-form-urlencoded"
_PROJECT = frozenset({"project_id"})
# Mixpanel's own mixpanel-headless names itself in `query_origin`.
_QUERY_API = _PROJECT | {"workspace_id", "query_origin"}


@dataclass(frozen=True)
class Endpoint:
    """One of Mixpanel's endpoints.

    Attributes:
        kind: The kind of request, as faults name it.
        methods: The HTTP methods it takes.
        parameters: The parameters it knows; any other is refused.
    """

    kind: str
    methods: frozenset[str]
    parameters: frozenset[str]

    def check(self, parameters: Mapping[str, str]) -> None:
        """Refuse parameters that the endpoint does not know.

        Raises:
            Refusal: 400, it names the first of them.
        """
        unknown = sorted(parameters.keys() - self.parameters)
        if unknown:
            raise Refusal(400, f"Invalid parameter: unknown parameter {unknown[0]!r}")


UNKNOWN = Endpoint("unknown", frozenset(), frozenset())
"""A path that Mixpanel does not have."""

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
"""The query API, by the path under `/api/query/`, or under the older `/api/2.0/`."""

_APP: Mapping[str, Endpoint] = {
    "annotations": Endpoint("annotations", _GET, frozenset({"fromDate", "toDate"})),
    "annotations/tags": Endpoint("annotations", _GET, frozenset()),
    "schemas": Endpoint("schemas", _GET, frozenset()),
}
"""The app API, by the path under `/api/app/projects/{project_id}/`."""

_APP_PATH = re.compile(r"/api/app/projects/(?P<project>[^/]+)/(?P<rest>.+)")
_QUERY_PATH = re.compile(r"/api/(?:query|2\.0)/(?P<rest>.+)")


@dataclass
class SeenRequest:
    """A request as it arrived.

    Attributes:
        endpoint: Where its path leads.
        number: Its number among those of its kind, from 1.
        method: The HTTP method.
        path: The path, without the query.
        query: The parameters in the URL.
        form: The parameters in the body, which can be a form or a JSON object.
        headers: The headers, by their names in lower case.
        faults: The names of the faults that struck it.
        status: The status it was answered with; 0 while it is not.
        arrived: When it arrived, in seconds of `time.time()`.
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
        """One of `faults.KINDS`; `unknown` for a path that Mixpanel does not have."""
        return self.endpoint.kind

    @property
    def parameters(self) -> dict[str, str]:
        """All parameters; the body's win over the URL's."""
        return {**self.query, **self.form}

    @property
    def api(self) -> Api:
        """The API that is asked."""
        if self.kind == "export":
            return "data"
        return "query" if self.path_project is None else "app"

    @property
    def has_days(self) -> bool:
        """Whether it can name a first day."""
        return bool(self.endpoint.parameters & {"from_date", "fromDate"})

    @property
    def path_project(self) -> str | None:
        """The project in the app API's path; None for the other APIs."""
        match = _APP_PATH.fullmatch(self.path)
        return match["project"] if match else None


def find_endpoint(method: str, path: str) -> Endpoint:
    """Return the endpoint that a method and a path lead to, with a slash at the end or without."""
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


def read_url(query: str) -> dict[str, str]:
    """Return the parameters in a URL."""
    return dict(parse_qsl(query, keep_blank_values=True))


def read_body(body: bytes, content_type: str) -> dict[str, str]:
    """Return the parameters in a body.

    A value in JSON that is no string stands as its JSON text, as it would in a form; null counts as absent.

    Args:
        body: The body, which may be empty.
        content_type: The header `Content-Type`; a form where it is empty.

    Raises:
        Refusal: 400, the body is neither a form nor a JSON object.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body or kind in {"", _FORM}:
        return read_url(body.decode(errors="replace"))
    if kind != "application/json":
        raise Refusal(400, f"Unsupported Content-Type: {kind}")
    try:
        values = json.loads(body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise Refusal(400, "Invalid request body: it must be a JSON object")
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
