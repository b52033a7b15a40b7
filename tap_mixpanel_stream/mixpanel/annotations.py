"""Annotations: the remarks that people put on their charts.

Mixpanel's docs: they come from the app API, and all of them in one answer where no dates are asked for. The docs name
service accounts only; another connector sends OAuth tokens as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from .json_response import decoded, fetch
from .request import Query

if TYPE_CHECKING:
    from datetime import date

    from .client import Client
    from .json_response import Document
    from .retry import Retrying


class _Annotations(msgspec.Struct):
    status: Literal["ok"]
    results: list[msgspec.Raw]


def list_annotations(client: Client, retrying: Retrying, first: date | None = None) -> Document[list[bytes]]:
    """All annotations of the project, each as it came.

    Args:
        client: Whom to ask.
        retrying: How often.
        first: The first day to ask for; None for all annotations.

    Raises:
        BrokenBody: The answer did not arrive whole, or is no list of annotations.
        MixpanelError: As `Client.open`.
    """
    params = {"fromDate": first.isoformat()} if first else {}
    narrowed_by = ("start_date",) if first else ()
    query = Query(what="annotations", api="app", path="annotations", params=params, narrowed_by=narrowed_by)
    return fetch(client, query, retrying, _annotations)


def _annotations(body: bytes) -> list[bytes]:
    answer, text = decoded(body, _Annotations)
    return list(map(text, answer.results))
