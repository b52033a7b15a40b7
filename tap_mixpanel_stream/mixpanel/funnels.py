"""Saved funnels, day by day.

Mixpanel's docs: a day's numbers are about the users who took the first step on that day, and how far they got within
the funnel's conversion window, which can be 90 days. So they still grow after the day. Needs a paid plan.
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
        id: Its number.
        name: The JSON text of its name.
    """

    id: int
    name: bytes


class _Listed(msgspec.Struct):
    funnel_id: Id
    name: msgspec.Raw = msgspec.Raw(b"null")


class _Meta(msgspec.Struct):
    dates: list[str] | None = None


class _Days(msgspec.Struct):
    data: dict[str, msgspec.Raw]
    meta: _Meta | None = None


def list_funnels(client: Client, retrying: Retrying) -> JsonResponse[list[Funnel]]:
    """Fetch the list of saved funnels.

    Args:
        client: The client.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response did not arrive whole, or is no list of funnels.
        MixpanelError: As `Client.open`.
    """
    return fetch(client, Request(what="funnels", api="query", path="funnels/list"), retrying, _funnels)


def _funnels(body: bytearray) -> list[Funnel]:
    listed, text = decode(body, list[_Listed])
    return [Funnel(each.funnel_id, text(each.name)) for each in listed]


def funnel_days(
    client: Client, funnel: Funnel, first: date, last: date, retrying: Retrying
) -> JsonResponse[dict[date, bytes]]:
    """Fetch the numbers of a funnel for each day; the sum over all days is dropped.

    Args:
        client: The client.
        funnel: The funnel.
        first: The first day.
        last: The last day.
        retrying: The retry loop.

    Raises:
        BrokenBody: The response did not arrive whole, is not by day, has no days, lacks days that it announces, or
            has days that were not requested.
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
        narrowed_by=("start_date", "end_date"),
    )
    return fetch(client, request, retrying, lambda body: _days(body, first, last))


def _days(body: bytearray, first: date, last: date) -> dict[date, bytes]:
    response, text = decode(body, _Days)
    days = {_day(name): text(value) for name, value in response.data.items() if name != _OVERALL}
    announced = response.meta.dates if response.meta else None
    if not days and announced is None:
        raise WrongShapeError("it has no days")
    missing = [name for name in announced or () if _day(name) not in days]
    if missing:
        raise WrongShapeError(f"{len(missing)} announced days are missing, the first is {missing[0]}")
    if others := [day for day in days if not first <= day <= last]:
        raise WrongShapeError(f"it has {min(others)}, which is not among the days requested")
    return days


def _day(name: str) -> date:
    try:
        return date.fromisoformat(name)
    except ValueError:
        raise WrongShapeError(f"{name!r} is no day") from None
