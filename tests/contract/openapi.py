"""Mixpanel's OpenAPI files as a contract, with known mistakes corrected and checked by openapi-core."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from openapi_core import OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from openapi_core.exceptions import OpenAPIError

if TYPE_CHECKING:
    import requests

FOLDER = Path(__file__).parents[2].parent / "shared" / "openapi"
"""The folder of the files, beside the checkout."""

_ENGAGE = "query", "paths", "/engage", "post"
_ENGAGE_FORM = *_ENGAGE, "requestBody", "content", "application/x-www-form-urlencoded", "schema"
_ENGAGE_RESPONSE = *_ENGAGE, "responses", "200", "content", "application/json", "schema", "properties"
_FUNNEL = "query", "paths", "/funnels", "get", "responses", "200", "content", "application/json", "schema", "properties"
_STEP = *_FUNNEL, "data", "additionalProperties", "properties", "steps", "items", "properties"


@dataclass(frozen=True)
class Correction:
    """A mistake in a file.

    Attributes:
        place: The file's name and the keys that lead to the mistake.
        right: The correct value.
        reason: Why it is a mistake.
    """

    place: tuple[str, ...]
    right: object
    reason: str


CORRECTIONS = [
    Correction(
        (*_ENGAGE_FORM, "properties", "page_size"),
        {"type": "integer"},
        "The parameter is missing, and every connector sends it.",
    ),
    Correction(
        (*_ENGAGE_FORM, "properties", "behaviors"),
        {"type": "string"},
        "It is a JSON list as text, not an integer: the examples of the docs have a list.",
    ),
    Correction(
        (*_ENGAGE_FORM, "properties", "output_properties"),
        {"type": "string"},
        "It is a JSON list as text, as its own example says, not a repeated parameter.",
    ),
    Correction(
        (*_ENGAGE_RESPONSE, "results", "items", "properties", "$distinct_id"),
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        "Most ids are text; integers are rare.",
    ),
    Correction(
        (*_STEP, "avg_time"), {"type": "integer", "nullable": True}, "Null for the first step, as its description says."
    ),
    Correction(
        (*_STEP, "avg_time_from_start"),
        {"type": "integer", "nullable": True},
        "Null for the first step, seen in live responses.",
    ),
    Correction((*_STEP, "step_label"), {"type": "string", "nullable": True}, "Null where there is no label."),
    Correction(
        (*_STEP, "custom_event_id"), {"type": "integer", "nullable": True}, "Null where the event is not a custom one."
    ),
    Correction(
        ("annotations", "components", "schemas", "AnnotationsEntry", "properties", "project_id"),
        {"type": "number"},
        "It is missing while further keys are forbidden; live responses have it.",
    ),
]
"""Known mistakes in the files."""


def read(file: str) -> dict[str, Any]:
    """Return one of the files."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{file}.openapi.yaml").read_text())
    return content


def corrected(file: str) -> dict[str, Any]:
    """Return one of the files without its mistakes."""
    content = read(file)
    for correction in CORRECTIONS:
        if correction.place[0] == file:
            *parents, last = correction.place[1:]
            place = content
            for key in parents:
                place = place[key]
            place[last] = correction.right
    return content


class Contract:
    """The files as one contract.

    Args:
        is_corrected: False leaves the mistakes in.
    """

    def __init__(self, *, is_corrected: bool = True) -> None:
        names = [path.name.partition(".")[0] for path in sorted(FOLDER.glob("*.yaml"))]
        self._content = {name: corrected(name) if is_corrected else read(name) for name in names}
        self._apis = {name: OpenAPI.from_dict(content) for name, content in self._content.items()}

    def problems(self, request: requests.PreparedRequest, response: requests.Response | None = None) -> list[str]:
        """Return the problems of a request to Mixpanel's hosts, and of its response if given."""
        url = urlsplit(str(request.url))
        file, path = _file_and_path(str(url.hostname), url.path)
        api = self._apis[file]
        wrapped = RequestsOpenAPIRequest(request)
        problems = [f"{url.path}: unknown parameter {name}" for name in self._unknown(file, path, request)]
        try:
            api.validate_request(wrapped)
            if response is not None:
                api.validate_response(wrapped, RequestsOpenAPIResponse(response))
        except OpenAPIError as error:
            errors = getattr(error.__cause__, "schema_errors", ())
            details = "; ".join(f"{each.json_path}: {each.message}" for each in errors)
            problems.append(f"{url.path}: {error} {error.__cause__ or ''} {details}".strip())
        return problems

    def _unknown(self, file: str, path: str, request: requests.PreparedRequest) -> list[str]:
        """Return the parameters that are not in the file, which openapi-core ignores."""
        content = self._content[file]
        operation = content["paths"].get(path, {}).get(str(request.method).lower(), {})
        known = set()
        for parameter in operation.get("parameters", ()):
            name = parameter.get("$ref", "").rpartition("/")[2]
            known.add((content["components"]["parameters"][name] if name else parameter)["name"])
        fields: dict[str, Any] = {}
        for media in operation.get("requestBody", {}).get("content", {}).values():
            fields |= media["schema"].get("properties", {})
        sent, form = (
            {name for name, _ in parse_qsl(text)}
            for text in (urlsplit(str(request.url)).query, str(request.body or ""))
        )
        return sorted((sent - known) | (form - fields.keys()))


def _file_and_path(host: str, path: str) -> tuple[str, str]:
    """Return the file that describes a URL, and the path in that file."""
    if host.startswith("data"):
        return "export", path.removeprefix("/api/2.0")
    if path.startswith("/api/query/"):
        return "query", path.removeprefix("/api/query")
    *_, project, rest = path.split("/", 5)
    file = "lexicon-schemas" if rest.startswith("schemas") else "annotations"
    return file, "/projects/{projectId}/" + rest if project else path
