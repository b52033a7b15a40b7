"""Cohorts and their members.

Mixpanel's docs: the list has every cohort of the project with its size. A profile query with a cohort as its filter
returns the cohort's members. Both require a paid plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import decode_masked
from .engage import EngageOptions, fetch_pages
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
        id: The cohort's id.
        data_group_id: The group that the members belong to, as text; None for users.
        is_empty: Whether the cohort had no members when Mixpanel last counted them.
        text: The JSON text of the cohort's entry in the list.
    """

    id: int
    data_group_id: str | None
    is_empty: bool
    text: bytes


class _ListEntry(msgspec.Struct):
    """The fields of a list entry that are needed to request the members."""

    id: Id
    data_group_id: int | str | None = None
    count: msgspec.Raw = msgspec.Raw(b"null")


class _Member(msgspec.Struct, rename={"distinct_id": "$distinct_id"}):
    distinct_id: msgspec.Raw = msgspec.Raw(b"null")


def list_cohorts(client: Client, retrying: Retrying, what: str = "cohorts") -> JsonResponse[list[Cohort]]:
    """Fetch the list of cohorts, including those that are not visible in reports.

    Args:
        client: The API client.
        retrying: The retry loop.
        what: What is requested, for messages.

    Raises:
        BrokenBody: The response is incomplete, or is not a list of cohorts.
        MixpanelError: As `Client.open`.
    """
    return fetch(
        client, Request(what=what, api="query", path="cohorts/list", method="POST", form={}), retrying, _cohorts
    )


def _cohorts(body: bytearray) -> list[Cohort]:
    raw_entries, text_of = decode(body, list[msgspec.Raw])
    entries, _ = decode(body, list[_ListEntry])
    return [
        Cohort(
            entry.id,
            None if entry.data_group_id is None else str(entry.data_group_id),
            is_empty=bytes(entry.count) == b"0",
            text=text_of(raw),
        )
        for entry, raw in zip(entries, raw_entries, strict=True)
    ]


def fetch_members(
    client: Client, cohort: Cohort, retrying: Retrying, *, page_size: int, log: logging.Logger | None = None
) -> Iterator[Page]:
    """Fetch all members of a cohort, page by page, including members without a profile.

    The cohort is the only filter, so members without `$last_seen` are included.

    Args:
        client: The API client.
        cohort: The cohort.
        retrying: The retry loop for one page.
        page_size: The number of members to request per page.
        log: Receives a warning when a session starts again.

    Raises:
        MixpanelError: As `engage.fetch_pages`.
    """
    options = EngageOptions(
        # Request one property, because an empty list requests all.
        output_properties=("$last_seen",),
        page_size=page_size,
        cohort_id=cohort.id,
        include_all_users=True,
        data_group_id=cohort.data_group_id,
    )
    return fetch_pages(client, options, retrying, what=f"cohort_members of cohort {cohort.id}", log=log)


def read_distinct_id(profile: msgspec.Raw) -> bytes:
    """Return the JSON text of a member's `$distinct_id`; `null` if it is missing or not UTF-8."""
    try:
        member, restore = decode_masked(msgspec.json.Decoder(_Member).decode, bytes(profile))
        distinct_id = bytes(member.distinct_id)
        distinct_id.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return b"null"
    return restore(distinct_id) if restore else distinct_id
