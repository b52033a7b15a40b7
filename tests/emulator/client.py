"""A minimal HTTP client for requests to the emulator."""

from __future__ import annotations

import base64
import http.client
import json
import zlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tap_mixpanel_stream.emulator import Emulator


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def text(self) -> bytes:
        """The body, decompressed without checking that the gzip data is complete."""
        return (
            zlib.decompressobj(31).decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw
        )

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> str:
        return str(self.json["error"])


def basic(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def ask(
    emulator: Emulator,
    url: str,
    query: Mapping[str, object] | None = None,
    form: Mapping[str, object] | None = None,
    *,
    headers: Mapping[str, str | None] | None = None,
    timeout: float = 10,
    project: bool = True,
) -> Answered:
    """Send a request with the service account, gzip accepted and project_id; a header that is None is omitted."""
    settings = emulator.settings
    own = {
        "Authorization": basic(settings["service_account_username"], settings["service_account_secret"]),
        "Accept-Encoding": "gzip",
        "Content-Type": "application/x-www-form-urlencoded" if form is not None else None,
        **(headers or {}),
    }
    parts = urlsplit(url)
    # The app API has the project in its path.
    named = {"project_id": settings["project_id"]} if project and "/api/app/" not in parts.path else {}
    parameters = urlencode(named | dict(query or {}))
    with closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=timeout)) as connection:
        connection.request(
            "GET" if form is None else "POST",
            f"{parts.path}?{parameters}",
            body=None if form is None else urlencode(form),
            headers={name: value for name, value in own.items() if value is not None},
        )
        with connection.getresponse() as response:
            return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def export(emulator: Emulator, first: object, last: object | None = None, **more: object) -> Answered:
    query = {"from_date": first, "to_date": first if last is None else last, **more}
    return ask(emulator, f"{emulator.data_api_url}/export", query)


def engage(emulator: Emulator, **form: object) -> Answered:
    return ask(emulator, f"{emulator.api_url}/query/engage", form=form)
