"""Annotations: notes that users add to charts.

Mixpanel's docs: the app API returns annotations, and all of them in one response if the request has no dates. The docs
mention only service accounts, but another connector sends OAuth tokens too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from .json_response import decode, fetch
from .request import Request

if TYPE_CHECKING:
    from datetime import date

    from .client import Client
    from .json_response import JsonResponse
    from .retry import Retrying


class _Annotations(msgspec.Struct):
    status: Literal["ok"]
    results: list[msgspec.Raw]


def list_annotations(client: Client, retrying: Retrying, first: date | None = None) -> JsonResponse[list[bytes]]:
    """Fetch the JSON texts of the project's annotations.

    Args:
        client: The API client.
        retrying: The retry loop.
        first: The first day to request; None for all annotations.

    Raises:
        BrokenBody: The response is incomplete, or is not a list of annotations.
        MixpanelError: As `Client.open`.
    """
    params = {"fromDate": first.isoformat()} if first else {}
    source_settings = ("start_date",) if first else ()
    request = Request(what="annotations", api="app", path="annotations", params=params, source_settings=source_settings)
    return fetch(client, request, retrying, _annotations)


def _annotations(body: bytearray) -> list[bytes]:
    response, text_of = decode(body, _Annotations)
    return list(map(text_of, response.results))
