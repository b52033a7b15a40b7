"""Lexicon schemas: the project's data dictionary.

Mixpanel's docs: one response of the app API has the schemas of all events and profiles. It takes service accounts only,
and 5 requests a minute from an organization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from .json_response import decode, fetch
from .request import Request

if TYPE_CHECKING:
    from .client import Client
    from .json_response import JsonResponse
    from .retry import Retrying


class _Schemas(msgspec.Struct):
    status: Literal["ok"]
    results: list[msgspec.Raw]


def list_schemas(client: Client, retrying: Retrying) -> JsonResponse[list[bytes]]:
    """Fetch all schemas of the project, each as it came.

    Args:
        client: The client.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response did not arrive whole, or is no list of schemas.
        MixpanelError: As `Client.open`.
    """
    return fetch(client, Request(what="lexicon_schemas", api="app", path="schemas"), retrying, _schemas)


def _schemas(body: bytearray) -> list[bytes]:
    response, text = decode(body, _Schemas)
    return list(map(text, response.results))
