"""Profiles, page by page.

Mixpanel's docs: the first page starts a session, and further pages are asked for by its id. A page with fewer profiles
than its `page_size` is the last one.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import masked, unmasked
from .errors import BrokenBody, SessionExpired, shown
from .query import Query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from .client import Client
    from .retry import Retrying

_PAGE_LIMIT = 256 * 1024 * 1024
"""Bytes of a page, unpacked, at the most. It is held in memory, and three times over if it has half surrogate pairs."""

_SESSIONS = 4
"""Sessions tried at the most, the first one included."""


@dataclass(frozen=True, slots=True)
class EngageOptions:
    """Which profiles, and what of them; Mixpanel does the narrowing.

    Attributes:
        where: A Mixpanel expression.
        output_properties: Only these properties; all of them if empty.
        page_size: Profiles a page, asked for. Not documented; connectors use up to 50000.
        distinct_ids: Only these profiles; all of them if empty.
        cohort_id: Only this cohort's members.
        include_all_users: Members without a profile come too. Mixpanel's docs: only with a cohort, and true by default.
        behaviors: Mixpanel's list of behaviors, as a list or as JSON text.
        as_of_timestamp: Profiles as they were then, in unix seconds.
        data_group_id: Profiles of this group instead of users. A 64-bit number, as text so that no digit is lost.
    """

    where: str | None = None
    output_properties: tuple[str, ...] = ()
    page_size: int = 5000
    distinct_ids: tuple[str, ...] = ()
    cohort_id: int | None = None
    include_all_users: bool = False
    behaviors: str | Sequence[object] | None = None
    as_of_timestamp: int | None = None
    data_group_id: str | None = None

    def form(self, page: int = 0, session_id: str | None = None) -> dict[str, str]:
        """The request's fields.

        Args:
            page: The page's number, from 0.
            session_id: The first page's session, for any other page.
        """
        fields = {"page": str(page), "page_size": str(self.page_size)}
        if session_id is not None:
            fields["session_id"] = session_id
        if self.where:
            fields["where"] = self.where
        if self.output_properties:
            fields["output_properties"] = json.dumps(self.output_properties)
        if self.distinct_ids:
            fields["distinct_ids"] = json.dumps(self.distinct_ids)
        if self.cohort_id is not None:
            # A bare id is refused (seen on the live API by others).
            fields["filter_by_cohort"] = json.dumps({"id": self.cohort_id})
            fields["include_all_users"] = "true" if self.include_all_users else "false"
        if self.behaviors:
            fields["behaviors"] = self.behaviors if isinstance(self.behaviors, str) else json.dumps(self.behaviors)
        if self.as_of_timestamp is not None:
            fields["as_of_timestamp"] = str(self.as_of_timestamp)
        if self.data_group_id is not None:
            fields["data_group_id"] = self.data_group_id
        return fields


def seen_since(instant: datetime, where: str | None = None) -> str:
    """The expression for profiles seen at or after an instant, and for which another one holds.

    `$last_seen` is text, UTC without an offset (Mixpanel's docs), and such texts are in the order of their instants. A
    profile without it does not match: to Mixpanel a comparison with what is not there is false.

    Args:
        instant: With its zone.
        where: The other expression.
    """
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    seen = f'properties["$last_seen"] >= "{text}"'
    return f"({where}) and ({seen})" if where else seen


@dataclass(frozen=True, slots=True)
class Page:
    """One page of profiles.

    Attributes:
        number: From 0.
        page_size: Profiles in a full page, by Mixpanel's word.
        total: Profiles in all pages, by Mixpanel's word; None if it said nothing.
        session_id: What further pages are asked for by.
        results: The profiles, as they came.
        requested_at: When the page was asked for, UTC.
        received: Bytes of the answer, as sent.
        unpacked: Bytes of the answer, once unpacked.
    """

    number: int
    page_size: int
    total: int | None
    session_id: str
    results: list[msgspec.Raw]
    requested_at: datetime
    received: int
    unpacked: int

    @property
    def is_last(self) -> bool:
        """Whether no page follows it."""
        return len(self.results) < self.page_size


class _Engage(msgspec.Struct):
    """The answer's shape, as far as it matters here."""

    page: int
    page_size: int
    session_id: str | int | None
    results: list[msgspec.Raw]
    total: int | None = None


def pages(
    client: Client,
    options: EngageOptions,
    retrying: Retrying,
    *,
    what: str = "profiles",
    log: logging.Logger | None = None,
) -> Iterator[Page]:
    """Yields all pages in order, each of them whole.

    Where Mixpanel forgets the session, all pages come again from the first.

    Args:
        client: Whom to ask.
        options: What to ask for.
        retrying: How often to ask for one page.
        what: The stream's name, for messages.
        log: Where a session that starts again is announced.

    Raises:
        BrokenBody: A page did not arrive whole, or the session ended with fewer profiles than it had announced.
        MixpanelError: As `Client.open`.
    """
    log = log or logging.getLogger(__name__)
    for session in range(1, _SESSIONS + 1):
        try:
            yield from _session(client, options, retrying, what)
        except SessionExpired as expired:
            if session == _SESSIONS:
                expired.add(f"in {_SESSIONS} sessions; a smaller result, by profiles_where, would be faster to read")
                raise
            log.warning("%s; starting again from page 0, profiles already delivered come again", expired)
        else:
            return


def _session(client: Client, options: EngageOptions, retrying: Retrying, what: str) -> Iterator[Page]:
    """Yields the pages of one session."""
    number, before = 0, 0
    session_id: str | None = None
    while True:
        query = Query(
            what=f"{what} page {number}",
            api="query",
            path="engage",
            method="POST",
            form=options.form(number, session_id),
            # Whether the pages of one session count is disputed: expect that they do not, and obey 429 where they do.
            counts=number == 0,
        )
        page = retrying(_Attempt(client, query, number, before))
        yield page
        if page.is_last:
            return
        number, before, session_id = number + 1, before + len(page.results), page.session_id


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Fetches one page, anew with each call."""

    client: Client
    query: Query
    number: int
    before: int

    def __call__(self) -> Page:
        what = self.query.what
        with self.client.open(self.query) as answer:
            body = answer.read(_PAGE_LIMIT, remedy="lower profiles_page_size, or name the profile_properties needed")
        page = parsed(body, what, self.number, answer.requested_at, answer.received)
        if page.is_last and page.total is not None and self.before + len(page.results) < page.total:
            raise BrokenBody(
                f"{what}: Mixpanel ended the session after {self.before + len(page.results)} of {page.total} profiles"
            )
        return page


def parsed(body: bytearray, what: str, number: int, requested_at: datetime, received: int) -> Page:
    """A page from an answer's body, without looking into the profiles.

    Raises:
        BrokenBody: It is no such answer.
    """
    try:
        engage = _decoded(body)
    except RecursionError:
        raise BrokenBody(f"{what}: the answer is no page of profiles: it is nested too deep") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        beginning = body[:4096]
        # What is about people stays out of the log.
        said = (
            "its JSON is cut or damaged" if b'"results"' in beginning else shown(beginning.decode("utf-8", "replace"))
        )
        raise BrokenBody(f"{what}: the answer is no page of profiles: {said or 'it is empty'}") from None
    if engage.page != number or engage.page_size < 1 or engage.session_id is None:
        raise BrokenBody(
            f"{what}: the answer is not the page that was asked for: "
            + shown(f"page {engage.page}, page_size {engage.page_size}, session {engage.session_id!r}")
        )
    return Page(
        number=number,
        page_size=engage.page_size,
        total=engage.total,
        session_id=str(engage.session_id),
        results=engage.results,
        requested_at=requested_at,
        received=received,
        unpacked=len(body),
    )


def _decoded(body: bytearray) -> _Engage:
    try:
        return msgspec.json.decode(body, type=_Engage)
    except msgspec.DecodeError:
        without_halves = masked(body)
        if without_halves is None:
            raise
    text, mark = without_halves
    engage = msgspec.json.decode(text, type=_Engage)
    engage.results = [msgspec.Raw(unmasked(bytes(result), mark)) for result in engage.results]
    return engage
