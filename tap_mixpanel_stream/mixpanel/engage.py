"""Profiles, page by page.

The first request opens a session and has neither `page` nor `session_id`. Later pages belong to the session, and may
leave out what the first page said: `page_size`, `total` and `session_id` are remembered. The last page has fewer
profiles than the page size. The session's `total` then shows whether all pages came.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from datetime import UTC
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from ..surrogates import decode_masked
from .errors import BrokenBody, Refused, SessionExpired
from .json_response import WrongShapeError, fetch
from .request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from .client import Client
    from .retry import Retrying

_PAGE_LIMIT = 256 * 1024 * 1024
"""The largest page, in decompressed bytes. It is held in memory, three times if it has unpaired surrogates."""

_SESSIONS = 4
"""Sessions read at the most, the first one included."""

_PAGES = 100_000
"""Pages of a session at the most, so that an endless one ends: 500 million profiles, unless the pages are small."""


@dataclass(frozen=True, slots=True)
class EngageOptions:
    """The filters of a profile query, which Mixpanel applies.

    Attributes:
        where: A Mixpanel expression.
        output_properties: Only these properties; all of them if empty.
        page_size: Profiles a page, asked for. Not documented; connectors use up to 50000.
        distinct_ids: Only these profiles; all of them if empty.
        cohort_id: Only this cohort's members.
        include_all_users: Include members without a profile. Mixpanel's docs: only with a cohort, and true by default.
        behaviors: Mixpanel's list of behaviors, as a list or as JSON text.
        as_of_timestamp: Profiles as they were then, in unix seconds.
        data_group_id: Profiles of this group instead of users. A 64-bit number, as text so that no digit is lost.
        narrowed_by: The settings that these options come from, for messages.
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
    narrowed_by: tuple[str, ...] = ()

    def form(self, page: int = 0, session_id: str | None = None) -> dict[str, str]:
        """Return the fields of a request's form.

        Args:
            page: The page's number, from 0.
            session_id: The session, for any page but the first.
        """
        fields = {"page_size": str(self.page_size)}
        if session_id is not None:
            fields |= {"page": str(page), "session_id": session_id}
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
    """Return the `where` for profiles that were seen since an instant.

    `$last_seen` is text, UTC without an offset (Mixpanel's docs), and such texts are in the order of their instants. A
    profile without it does not match: to Mixpanel a comparison with what is not there is false.

    Args:
        instant: With its zone.
        where: Another expression that the profiles must match.
    """
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    seen = f'properties["$last_seen"] >= "{text}"'
    return f"({where}) and ({seen})" if where else seen


@dataclass(frozen=True, slots=True)
class Page:
    """One page of profiles.

    Attributes:
        number: From 0.
        page_size: Profiles in a full page; None if the response does not say.
        total: Profiles in all pages; None if the response does not say.
        session_id: The session that later pages belong to; None if the response does not say.
        results: The JSON text of each profile.
        received: Bytes of the response, as sent.
        decompressed_bytes: Bytes of the response, decompressed.
        missing: Profiles by which the session, which ends with this page, is short of its total.
    """

    number: int
    page_size: int | None
    total: int | None
    session_id: str | None
    results: list[msgspec.Raw]
    received: int
    decompressed_bytes: int
    missing: int = 0

    def digest(self) -> bytes:
        """Hash the profiles, to compare pages without keeping them."""
        digest = hashlib.blake2b(digest_size=16)
        for result in self.results:
            digest.update(result)
        return digest.digest()


class _Engage(msgspec.Struct):
    """The fields of a response that are read."""

    results: list[msgspec.Raw]
    page: int | None = None
    page_size: int | None = None
    session_id: str | int | None = None
    total: int | None = None


def pages(
    client: Client,
    options: EngageOptions,
    retrying: Retrying,
    *,
    what: str = "profiles",
    log: logging.Logger | None = None,
) -> Iterator[Page]:
    """Yield all pages in order, each of them whole.

    If the session expires, or ends before its total, the pages are read again from the first. Those at the beginning
    that came before, and are still the same, are not yielded again. The page by which a session ends before its total
    is yielded only if a second session ends after the same number of profiles.

    Args:
        client: The client.
        options: The filters.
        retrying: The retry loop of one page.
        what: The stream's name, for messages.
        log: Logs a session that starts again.

    Raises:
        BrokenBody: A page did not arrive whole, the session ended before its total, or it continues far beyond it.
        MixpanelError: As `Client.open`.
    """
    log = log or logging.getLogger(__name__)
    yielded: list[bytes] = []
    short_count: int | None = None
    for attempt in range(1, _SESSIONS + 1):
        session = _Session(client, options, retrying, what, short_count)
        try:
            for page in session:
                if not session.is_credible:
                    break
                digest = page.digest()
                if page.missing or yielded[page.number : page.number + 1] != [digest]:
                    # With those behind it forgotten, all pages from here on are yielded.
                    yielded[page.number :] = [digest]
                    yield page
        except SessionExpired as expired:
            if attempt == _SESSIONS:
                expired.add(f"in {_SESSIONS} sessions; read fewer profiles with profiles_where")
                raise
            log.warning("%s; restarting from page 0", expired)
            continue
        if not session.is_short:
            return
        if session.is_credible:
            log.warning("%s, twice; accepted, since its total can be slightly off", session.ending)
            return
        if short_count is not None or attempt == _SESSIONS:
            raise BrokenBody(f"{session.ending}, in {attempt} sessions: run again")
        short_count = session.count
        log.warning("%s; restarting from page 0", session.ending)


class _Session:
    """Iterates over the pages of one session.

    Attributes:
        count: Profiles on the pages read so far.
    """

    def __init__(
        self, client: Client, options: EngageOptions, retrying: Retrying, what: str, short_count: int | None
    ) -> None:
        """Send nothing yet.

        Args:
            client: The client.
            options: The filters.
            retrying: The retry loop of one page.
            what: The stream's name, for messages.
            short_count: The `count` at which a session before this one ended before its total.
        """
        self.count = 0
        self._total: int | None = None
        self._client = client
        self._options = options
        self._retrying = retrying
        self._what = what
        self._short_count = short_count
        self._number = 0
        self._page_size: int | None = None
        self._session_id: str | None = None
        self._has_last_page = False

    def __iter__(self) -> Iterator[Page]:
        yield self._read(0)
        while not self._has_ended:
            self._refuse_endless()
            try:
                page = self._read(self._number + 1)
            except (SessionExpired, Refused) as error:
                # Behind a last page that is full there may be a 400 instead of an empty page.
                is_no_page = isinstance(error, SessionExpired) or error.status == HTTPStatus.BAD_REQUEST
                if is_no_page and self._has_reached_total:
                    return
                raise
            yield page

    @property
    def is_short(self) -> bool:
        """Whether the session has ended, and profiles seem to be missing."""
        is_complete = self._has_last_page if self._total is None else self._has_reached_total
        return self._has_ended and not is_complete

    @property
    def is_credible(self) -> bool:
        """Whether the session is not short, or so little and so steadily that the total must be off."""
        is_near = self._total is not None and self._total - self.count <= _tolerance(self._total)
        return not self.is_short or (is_near and 0 < self.count == self._short_count)

    @property
    def ending(self) -> str:
        """Where the session ended, for messages."""
        total = "an unknown number of" if self._total is None else str(self._total)
        return f"{self._what} page {self._number}: Mixpanel ended the session after {self.count} of {total} profiles"

    @property
    def _has_ended(self) -> bool:
        return self._has_last_page or self._session_id is None

    @property
    def _has_reached_total(self) -> bool:
        return self._total is not None and self.count >= self._total

    def _read(self, number: int) -> Page:
        request = Request(
            what=f"{self._what} page {number}",
            api="query",
            path="engage",
            method="POST",
            form=self._options.form(number, self._session_id),
            narrowed_by=self._options.narrowed_by,
            # Whether the pages of one session count is disputed: expect that they do not, and obey 429 where they do.
            counts_toward_quota=number == 0,
        )
        response = fetch(
            self._client,
            request,
            self._retrying,
            lambda body: read_page(body, number),
            mismatch="the response is not a page of profiles",
            limit=_PAGE_LIMIT,
            remedy="lower profiles_page_size, or list the profile_properties you need",
        )
        content = response.content
        page = Page(
            number=number,
            page_size=content.page_size,
            total=content.total,
            session_id=None if content.session_id is None else str(content.session_id),
            results=content.results,
            received=response.received,
            decompressed_bytes=response.decompressed_bytes,
        )
        self._number = number
        self.count += len(page.results)
        if self._total is None:
            self._total = page.total
        self._page_size = page.page_size or self._page_size
        self._session_id = page.session_id or self._session_id
        self._has_last_page = self._is_last(page)
        missing = self._total - self.count if self._total is not None and self.is_short else 0
        return replace(page, total=self._total, missing=missing)

    def _is_last(self, page: Page) -> bool:
        found = len(page.results)
        if self._page_size is not None:
            return found < self._page_size
        # Pages may be smaller than what was asked for: a short one is the last only if the total confirms it.
        return not found or (found < self._options.page_size and self._has_reached_total)

    def _refuse_endless(self) -> None:
        """Reject a session that continues far beyond its total, or without an end.

        Raises:
            BrokenBody: It does.
        """
        where = f"{self._what} page {self._number}: the session continues after {self.count}"
        if self._total is not None and self.count > self._total + max(10, self._total // 100):
            raise BrokenBody(f"{where} of {self._total} profiles: run again")
        if self._number + 1 >= _PAGES:
            raise BrokenBody(f"{where} profiles on {_PAGES} pages: raise profiles_page_size")


def _tolerance(total: int) -> int:
    """Return how many profiles may be missing: a total can be a little off (seen on the live API by others)."""
    return max(total // 100, min(10, total // 10))


def read_page(body: bytearray, number: int) -> _Engage:
    """Decode a page, but not the profiles in it.

    Raises:
        WrongShapeError: It is another page.
        msgspec.MsgspecError: It is not a page.
    """
    page, restore = decode_masked(msgspec.json.Decoder(_Engage).decode, body)
    if page.page not in {None, number} or (page.page_size is not None and page.page_size < 1):
        raise WrongShapeError(f"it is not the requested page: page {page.page}, page_size {page.page_size}")
    if restore:
        page.results = [msgspec.Raw(restore(bytes(result))) for result in page.results]
    return page
