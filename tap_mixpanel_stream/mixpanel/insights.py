"""Saved Insights reports.

Mixpanel's docs: `series` nests the report's segments, with one level for each of `headers`. The innermost level has a
number for each date. A report without a time axis has a number, or a number with the key `all`, instead of dates.
Requires a paid plan.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from .json_response import decode, fetch
from .request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .client import Client
    from .json_response import JsonResponse
    from .retry import Retrying

_WITHOUT_DATE = "all"
"""The key of a number in a report without a time axis."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a report.

    Attributes:
        id: A hash of date and dimensions.
        date: The date as received, such as `2024-01-15T00:00:00-08:00`; None in a report without a time axis.
        dimensions: The JSON text of an object with the segment for each header.
        value: The JSON text of the value.
    """

    id: str
    date: str | None
    dimensions: bytes
    value: bytes


class _Report(msgspec.Struct):
    headers: list[str]
    series: dict[str, msgspec.Raw]


def fetch_insights_report(client: Client, report: int, retrying: Retrying) -> JsonResponse[list[Cell]]:
    """Fetch all numbers of a saved report.

    Args:
        client: The API client.
        report: The report's `bookmark_id`.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response is incomplete, or is not a report.
        MixpanelError: As `Client.open`.
    """
    request = Request(
        what=f"insights, report {report}",
        api="query",
        path="insights",
        params={"bookmark_id": str(report)},
        source_settings=("insights_reports",),
    )
    return fetch(client, request, retrying, _cells)


def _cells(body: bytearray) -> list[Cell]:
    response, text_of = decode(body, _Report)

    def json_text(value: object) -> bytes:
        # `text_of` restores an unpaired surrogate that was masked.
        return text_of(msgspec.Raw(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()))

    return [
        Cell(
            hashlib.sha256(json_text([date, dimensions])).hexdigest()[:32], date, json_text(dimensions), text_of(value)
        )
        for path, value in _leaves(response.series, ())
        for date, dimensions in [_date_and_dimensions(response.headers, path)]
    ]


def _leaves(members: Mapping[str, msgspec.Raw], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], msgspec.Raw]]:
    """Yield all values in nested objects that are not objects, each with the path of its keys."""
    for key, value in members.items():
        if bytes(value).startswith(b"{"):
            yield from _leaves(msgspec.json.decode(value, type=dict[str, msgspec.Raw]), (*path, key))
        else:
            yield (*path, key), value


def _date_and_dimensions(headers: Sequence[str], path: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    *segments, last = path
    date = None
    if _is_date(last) and len(path) > len(headers):
        date = last
    elif last != _WITHOUT_DATE or len(segments) != len(headers):
        segments.append(last)
    dimensions: dict[str, str] = {}
    for number, segment in enumerate(segments):
        # A level without a header, or with the header of another level, still distinguishes cells.
        header = headers[number] if number < len(headers) else ""
        dimensions[f"level_{number + 1}" if not header or header in dimensions else header] = segment
    return date, dimensions


def _is_date(key: str) -> bool:
    try:
        datetime.fromisoformat(key)
    except ValueError:
        return False
    return True
