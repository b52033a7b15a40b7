"""Annotations: the remarks that people put on their charts.

Mixpanel's docs: they come from the app API, and all of them in one response where no dates are asked for. The docs name
service accounts only; another connector sends OAuth tokens as well.
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
    """Fetch all annotations of the project.

    Args:
        client: The client.
        retrying: The retry loop.
        first: The first day to ask for; None for all annotations.

    Raises:
        BrokenBody: The response did not arrive whole, or is no list of annotations.
        MixpanelError: As `Client.open`.
    """
    params = {"fromDate": first.isoformat()} if first else {}
    narrowed_by = ("start_date",) if first else ()
    request = Request(what="annotations", api="app", path="annotations", params=params, narrowed_by=narrowed_by)
    return fetch(client, request, retrying, _annotations)


def _annotations(body: bytearray) -> list[bytes]:
    response, text = decode(body, _Annotations)
    return list(map(text, response.results))
