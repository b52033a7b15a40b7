"""Cohorts and their members.

Mixpanel's docs: the list has every cohort of the project with its size; its members are a profile query that is
narrowed to it. Both need a paid plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from .engage import EngageOptions, pages
from .json_response import Id, decode, fetch
from .request import Request

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from .client import Client
    from .engage import Page
    from .json_response import JsonResponse
    from .retry import Retrying


@dataclass(frozen=True, slots=True)
class Cohort:
    """A saved cohort.

    Attributes:
        id: Its number.
        data_group_id: The group of its members, as text; None for users.
        is_empty: Whether it had no members when Mixpanel last counted them.
        text: The JSON text of its entry in the list.
    """

    id: int
    data_group_id: str | None
    is_empty: bool
    text: bytes


class _Listed(msgspec.Struct):
    """The fields that a request for the members needs."""

    id: Id
    data_group_id: int | str | None = None
    count: msgspec.Raw = msgspec.Raw(b"null")


class _Member(msgspec.Struct, rename={"distinct_id": "$distinct_id"}):
    distinct_id: msgspec.Raw = msgspec.Raw(b"null")


def list_cohorts(client: Client, retrying: Retrying, what: str = "cohorts") -> JsonResponse[list[Cohort]]:
    """Fetch the list of cohorts, including those that are not visible in reports.

    Args:
        client: The client.
        retrying: The retry loop.
        what: The name of the request, for messages.

    Raises:
        BrokenBody: The response did not arrive whole, or is no list of cohorts.
        MixpanelError: As `Client.open`.
    """
    return fetch(
        client, Request(what=what, api="query", path="cohorts/list", method="POST", form={}), retrying, _cohorts
    )


def _cohorts(body: bytearray) -> list[Cohort]:
    listed, text = decode(body, list[msgspec.Raw])
    known, _ = decode(body, list[_Listed])
    return [
        Cohort(
            each.id,
            None if each.data_group_id is None else str(each.data_group_id),
            is_empty=bytes(each.count) == b"0",
            text=text(raw),
        )
        for each, raw in zip(known, listed, strict=True)
    ]


def members(
    client: Client, cohort: Cohort, retrying: Retrying, *, page_size: int, log: logging.Logger | None = None
) -> Iterator[Page]:
    """Yield all members of a cohort, with or without a profile, in the pages of one session.

    Nothing but the cohort narrows them: a member without `$last_seen`, or without any profile, is a member.

    Args:
        client: The client.
        cohort: Whose members.
        retrying: The retry loop of one page.
        page_size: Members a page, asked for.
        log: Logs a session that starts again.

    Raises:
        MixpanelError: As `engage.pages`.
    """
    options = EngageOptions(
        # One property, since none at all would ask for all of them.
        output_properties=("$last_seen",),
        page_size=page_size,
        cohort_id=cohort.id,
        include_all_users=True,
        data_group_id=cohort.data_group_id,
    )
    return pages(client, options, retrying, what=f"cohort_members of cohort {cohort.id}", log=log)


def distinct_id(profile: msgspec.Raw) -> bytes:
    """Return the JSON text of a member's id; `null` where it has none."""
    try:
        member, text = decode(bytearray(profile), _Member)
    except msgspec.MsgspecError:
        return b"null"
    return text(member.distinct_id)
