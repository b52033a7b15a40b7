"""Saved funnels, day by day.

Mixpanel's docs: the numbers of a day count the users who entered the funnel on that day, and the steps they completed
within the funnel's conversion window of up to 90 days. The numbers therefore keep growing after the day. Requires a
paid plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from .json_response import Id, WrongShapeError, decode, fetch
from .request import Request, days_text

if TYPE_CHECKING:
    from .client import Client
    from .json_response import JsonResponse
    from .retry import Retrying

_OVERALL = "$overall"


@dataclass(frozen=True, slots=True)
class Funnel:
    """A saved funnel.

    Attributes:
        id: The funnel's id.
        name: The JSON text of the funnel's name.
    """

    id: int
    name: bytes


class _ListEntry(msgspec.Struct):
    funnel_id: Id
    name: msgspec.Raw = msgspec.Raw(b"null")


class _Meta(msgspec.Struct):
    dates: list[str] | None = None


class _FunnelResponse(msgspec.Struct):
    data: dict[str, msgspec.Raw]
    meta: _Meta | None = None


def list_funnels(client: Client, retrying: Retrying) -> JsonResponse[list[Funnel]]:
    """Fetch the list of saved funnels.

    Args:
        client: The API client.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response is incomplete, or is not a list of funnels.
        MixpanelError: As `Client.open`.
    """
    return fetch(client, Request(what="funnels", api="query", path="funnels/list"), retrying, _funnels)


def _funnels(body: bytearray) -> list[Funnel]:
    entries, text_of = decode(body, list[_ListEntry])
    return [Funnel(entry.funnel_id, text_of(entry.name)) for entry in entries]


def fetch_funnel_days(
    client: Client,
    funnel: Funnel,
    first: date,
    last: date,
    retrying: Retrying,
    *,
    source_settings: tuple[str, ...] = (),
) -> JsonResponse[dict[date, bytes]]:
    """Fetch the numbers of a funnel for each day, without the total over all days.

    Args:
        client: The API client.
        funnel: The funnel.
        first: The first day.
        last: The last day.
        retrying: The retry loop.
        source_settings: As in `Request`.

    Returns:
        The JSON text of each day's numbers.

    Raises:
        BrokenBody: The response is incomplete, is not by day, has no days, lacks days that its `meta` lists, or has
            days that were not requested.
        MixpanelError: As `Client.open`.
    """
    request = Request(
        what=f"funnels {days_text(first, last)} of funnel {funnel.id}",
        api="query",
        path="funnels",
        params={
            "funnel_id": str(funnel.id),
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "unit": "day",
        },
        source_settings=source_settings,
    )
    return fetch(client, request, retrying, lambda body: _days(body, first, last))


def _days(body: bytearray, first: date, last: date) -> dict[date, bytes]:
    response, text_of = decode(body, _FunnelResponse)
    days = {_day(name): text_of(value) for name, value in response.data.items() if name != _OVERALL}
    announced = response.meta.dates if response.meta else None
    if not days and announced is None:
        raise WrongShapeError("it has no days")
    missing = [day for day in announced or () if _day(day) not in days]
    if missing:
        raise WrongShapeError(f"{len(missing)} announced days are missing, the first is {missing[0]}")
    if others := [day for day in days if not first <= day <= last]:
        raise WrongShapeError(f"it has {min(others)}, which is not among the days requested")
    return days


def _day(name: str) -> date:
    try:
        return date.fromisoformat(name)
    except ValueError:
        raise WrongShapeError(f"{name!r} is not a day") from None
