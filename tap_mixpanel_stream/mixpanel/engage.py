"""Fetch profiles page by page from the Engage endpoint.

The first request has neither `page` nor `session_id` and opens a session. Later pages can lack `page_size`, `total` and
`session_id`, so the values of the first page are kept. The last page has fewer profiles than the page size. `total`
then shows whether any profiles are missing.
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

_MAX_PAGE_BYTES = 256 * 1024 * 1024
"""Maximum size of a decompressed page. It is in memory once, or three times if it has unpaired surrogates."""

_MAX_SESSIONS = 4
"""Maximum number of sessions for one query, the first one included."""

_MAX_PAGES = 100_000
"""Maximum number of pages of a session, in case it never ends: 500 million profiles at 5000 a page."""


@dataclass(frozen=True, slots=True)
class EngageOptions:
    """The filters and the format of a profile query.

    Attributes:
        where: A Mixpanel expression.
        output_properties: The properties to return; empty for all.
        page_size: The number of profiles to request per page. Undocumented; connectors use up to 50000.
        distinct_ids: The profiles to return; empty for all.
        cohort_id: The cohort whose members to return.
        include_all_users: Whether to include members without a profile. Mixpanel's docs: only with a cohort, and true
            by default.
        behaviors: Mixpanel's list of behaviors, as a list or as JSON text.
        as_of_timestamp: Return the profiles as they were at this Unix time in seconds.
        data_group_id: The group whose profiles to return, instead of user profiles. A 64-bit number, as text so that no
            digit is lost.
        source_settings: The settings that these options come from, for messages.
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
    source_settings: tuple[str, ...] = ()

    def form(self, page: int = 0, session_id: str | None = None) -> dict[str, str]:
        """Return the form fields of a request.

        Args:
            page: The page number, from 0.
            session_id: The session; None for the first page.
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
            # Mixpanel rejects an id without the object around it, as others have seen on the live API.
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
    """Return a `where` expression for profiles that were seen at or after an instant.

    `$last_seen` is text in UTC without an offset (Mixpanel's docs), so its alphabetical order is its order in time. A
    profile without it does not match, because a comparison with a missing property is false.

    Args:
        instant: The instant, with a time zone.
        where: Another expression that the profiles must match.
    """
    text = instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    seen = f'properties["$last_seen"] >= "{text}"'
    return f"({where}) and ({seen})" if where else seen


@dataclass(frozen=True, slots=True)
class Page:
    """One page of profiles.

    Attributes:
        number: The page number, from 0.
        page_size: The number of profiles on a full page; None if the response does not state it.
        total: The number of profiles on all pages; None if the response does not state it.
        session_id: The session that later pages belong to; None if the response does not state it.
        results: The JSON text of each profile.
        received: The size of the response as sent, in bytes.
        decompressed_bytes: The decompressed size of the response.
        missing: On the last page of a session, `total` minus the number of profiles received.
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
        """Return a hash of the profiles, to compare pages without keeping them in memory."""
        digest = hashlib.blake2b(digest_size=16)
        for result in self.results:
            digest.update(result)
        return digest.digest()


class _Engage(msgspec.Struct):
    """The fields of a response that the client reads."""

    results: list[msgspec.Raw]
    page: int | None = None
    page_size: int | None = None
    session_id: str | int | None = None
    total: int | None = None


def fetch_pages(
    client: Client,
    options: EngageOptions,
    retrying: Retrying,
    *,
    what: str = "profiles",
    log: logging.Logger | None = None,
) -> Iterator[Page]:
    """Yield all pages in order.

    If the session expires or ends before its total, a new session starts from the first page. Its first pages are not
    yielded again as long as they are the same as before. If a session ends before its total, its last page is yielded
    only if a second session ends after the same number of profiles.

    Args:
        client: The API client.
        options: The filters.
        retrying: The retry loop for one page.
        what: The stream's name, for messages.
        log: Receives a warning when a session starts again.

    Raises:
        BrokenBody: A page is incomplete, or the session ended before its total or continues far beyond it.
        MixpanelError: As `Client.open`.
    """
    log = log or logging.getLogger(__name__)
    yielded: list[bytes] = []
    short_count: int | None = None
    for attempt in range(1, _MAX_SESSIONS + 1):
        session = _Session(client, options, retrying, what, short_count)
        try:
            for page in session:
                if not session.is_acceptable:
                    break
                digest = page.digest()
                if page.missing or yielded[page.number : page.number + 1] != [digest]:
                    # Also removes the digests of later pages, so that all pages from here on are yielded.
                    yielded[page.number :] = [digest]
                    yield page
        except SessionExpired as expired:
            if attempt == _MAX_SESSIONS:
                expired.add(f"in {_MAX_SESSIONS} sessions; read fewer profiles with profiles_where")
                raise
            log.warning("%s; restarting from page 0", expired)
            continue
        if not session.is_short:
            return
        if session.is_acceptable:
            log.warning("%s, twice; accepted, since its total can be slightly off", session.end_text)
            return
        if short_count is not None or attempt == _MAX_SESSIONS:
            raise BrokenBody(f"{session.end_text}, in {attempt} sessions: run again")
        short_count = session.count
        log.warning("%s; restarting from page 0", session.end_text)


class _Session:
    """Iterates over the pages of one session.

    Attributes:
        count: The number of profiles on the pages read so far.
    """

    def __init__(
        self, client: Client, options: EngageOptions, retrying: Retrying, what: str, short_count: int | None
    ) -> None:
        """Create a session without sending a request.

        Args:
            client: The API client.
            options: The filters.
            retrying: The retry loop for one page.
            what: The stream's name, for messages.
            short_count: The final `count` of an earlier session that ended before its total; None if there was none.
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
            self._check_length()
            try:
                page = self._read(self._number + 1)
            except (SessionExpired, Refused) as error:
                # If the last page is full, a 400 can follow instead of an empty page.
                is_no_page = isinstance(error, SessionExpired) or error.status == HTTPStatus.BAD_REQUEST
                if is_no_page and self._has_reached_total:
                    return
                raise
            yield page

    @property
    def is_short(self) -> bool:
        """Whether the session has ended and profiles seem to be missing."""
        is_complete = self._has_last_page if self._total is None else self._has_reached_total
        return self._has_ended and not is_complete

    @property
    def is_acceptable(self) -> bool:
        """Whether the session is complete, or as slightly short as an earlier one, so that `total` must be wrong."""
        is_near = self._total is not None and self._total - self.count <= _tolerance(self._total)
        return not self.is_short or (is_near and 0 < self.count == self._short_count)

    @property
    def end_text(self) -> str:
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
            source_settings=self._options.source_settings,
            # Sources disagree on whether later pages count. If they do, Mixpanel responds with 429, which is handled.
            counts_toward_quota=number == 0,
        )
        response = fetch(
            self._client,
            request,
            self._retrying,
            lambda body: read_page(body, number),
            mismatch="the response is not a page of profiles",
            limit=_MAX_PAGE_BYTES,
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
        count = len(page.results)
        if self._page_size is not None:
            return count < self._page_size
        # Pages can be smaller than requested, so a short page is the last one only if `total` is reached.
        return not count or (count < self._options.page_size and self._has_reached_total)

    def _check_length(self) -> None:
        """Check that the session does not continue far beyond its total, or endlessly.

        Raises:
            BrokenBody: The session has too many profiles or pages.
        """
        where = f"{self._what} page {self._number}: the session continues after {self.count}"
        if self._total is not None and self.count > self._total + max(10, self._total // 100):
            raise BrokenBody(f"{where} of {self._total} profiles: run again")
        if self._number + 1 >= _MAX_PAGES:
            raise BrokenBody(f"{where} profiles on {_MAX_PAGES} pages: raise profiles_page_size")


def _tolerance(total: int) -> int:
    """Return how many profiles may be missing. `total` can be slightly off, as others have seen on the live API."""
    return max(total // 100, min(10, total // 10))


def read_page(body: bytearray, number: int) -> _Engage:
    """Decode a page without decoding its profiles.

    Raises:
        WrongShapeError: The response is another page, or has an invalid page size.
        msgspec.MsgspecError: The response is not a page.
    """
    page, restore = decode_masked(msgspec.json.Decoder(_Engage).decode, body)
    if page.page not in {None, number} or (page.page_size is not None and page.page_size < 1):
        raise WrongShapeError(f"it is not the requested page: page {page.page}, page_size {page.page_size}")
    if restore:
        page.results = [msgspec.Raw(restore(bytes(result))) for result in page.results]
    return page
