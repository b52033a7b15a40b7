"""Lexicon schemas: the project's data dictionary.

Mixpanel's docs: one response of the app API has the schemas of all events and profiles. The endpoint accepts only
service accounts, and 5 requests a minute from an organization.
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
    """Fetch the JSON texts of all schemas of the project.

    Args:
        client: The API client.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response is incomplete, or is not a list of schemas.
        MixpanelError: As `Client.open`.
    """
    return fetch(client, Request(what="lexicon_schemas", api="app", path="schemas"), retrying, _schemas)


def _schemas(body: bytearray) -> list[bytes]:
    response, text_of = decode(body, _Schemas)
    return list(map(text_of, response.results))
