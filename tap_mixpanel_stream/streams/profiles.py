"""The profiles stream: the pages of one Engage session, each delivered whole."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from typing import TYPE_CHECKING

from ..delivery.spool import SpooledChunk
from ..mixpanel.engage import EngageOptions, fetch_pages, seen_since
from ..mixpanel.retry import Retrying
from ..pipeline.errors import translate_errors
from ..pipeline.prefetch import SpooledPage, prefetch_pages
from ..pipeline.window import check_clock_lead
from ..records.converter import BARE
from ..replication.state import SETTLING, bookmark_text
from .base import MixpanelStream

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from singer_sdk import Tap
    from singer_sdk.singerlib import Catalog

    from ..mixpanel.engage import Page
    from ..records.converter import Envelope
    from ..records.errors import BadProfile
    from ..records.profiles import ProfileSchema
    from ..run import Run
    from ..settings import Group


# In the state: when the run began that last read all profiles.
REFRESHED = "full_refresh"

# Results of a page that are converted at a time, so that memory holds a large page once.
RESULTS_AT_ONCE = 500

LINE_ENDS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class ProfilesStream(MixpanelStream):
    """All user profiles, by the Engage query."""

    rank = 1
    chunk_name = "page"
    unit = "profiles"
    source_settings: tuple[str, ...] = (
        *("profiles_where", "profile_properties", "distinct_ids", "cohort_id", "behaviors", "as_of_timestamp"),
        *("workspace_id", "profiles_page_size"),
    )
    """The settings that the requests are made of."""

    def __init__(self, tap: Tap, run: Run, schema: ProfileSchema, name: str = "profiles") -> None:
        super().__init__(tap, run, schema, name)
        self._record_schema = schema
        if tap.config.get("profiles_incremental"):
            self.replication_key = "last_seen"

    _missing = 0
    """Profiles by which the session was short of its total."""

    # --- In full, or since when --------------------------------------------------------------------------------------

    @functools.cached_property
    def since(self) -> dt.datetime | None:
        """Return the instant since which profiles were seen that this run requests; None if it requests all.

        It is some time before the last run began: Mixpanel may have shown later what it noted shortly before, and its
        clock may be behind this machine's.
        """
        if not self.is_incremental:
            return None
        bookmark, refreshed = self.instant_in_state("replication_key_value"), self.instant_in_state(REFRESHED)
        # A bookmark in the future comes from a wrong clock.
        if bookmark is None or refreshed is None or bookmark > self.started_at:
            return None
        # By calendar days: a weekly run may start some seconds earlier than the last one did.
        days = (self.started_at.date() - refreshed.date()).days
        return bookmark - SETTLING if 0 <= days < self.settings.profiles_full_refresh_days else None

    @property
    def refreshes(self) -> bool:
        """Return whether this run requests all profiles."""
        return self.since is None

    is_versioned = True
    """A run that requests some profiles only adds them to the table of the last full refresh."""

    @property
    def refreshed_at(self) -> dt.datetime | None:
        """Return when the run began that last read all profiles."""
        return self.started_at if self.refreshes else self.instant_in_state(REFRESHED)

    @property
    def gap(self) -> str | None:
        """Return why this run did not deliver all profiles, None if it did."""
        return f"{self._missing} profiles are missing" if self._missing else super().gap

    def check_start(self) -> None:
        """Refuse a start from a bookmark that is broken or in the future."""
        if self.is_incremental:
            for name in ("replication_key_value", REFRESHED):
                self.refuse_future(name, self.instant_in_state(name))

    def apply_catalog(self, catalog: Catalog) -> None:
        """Take the selection from a catalog; the replication method follows the present settings."""
        super().apply_catalog(catalog)
        self.forced_replication_method = None

    def complete(self) -> None:
        """Move the bookmark to the beginning of this run, if no profile is missing."""
        if not self.is_incremental:
            return
        if self._missing:
            self.log("%s: the bookmark stays unchanged", self.gap, level=logging.WARNING)
            return
        began = bookmark_text(self.started_at)
        self.stream_state.update(replication_key=self.replication_key, replication_key_value=began)
        if self.refreshes:
            # As fine as the version that is made from it.
            self.stream_state[REFRESHED] = self.started_at.isoformat(timespec="milliseconds")

    # --- The pages ---------------------------------------------------------------------------------------------------

    def which(self) -> EngageOptions:
        """Return which profiles to request, and which of their properties."""
        settings = self.settings
        wanted = settings.profile_properties
        as_of = settings.as_of_timestamp
        if as_of is None and settings.behaviors:
            # Without it Mixpanel gives no second page of more than 1000 profiles (Mixpanel's docs).
            as_of = int(self.clock.now().timestamp())
        return EngageOptions(
            where=settings.profiles_where,
            # The properties that become columns are always requested.
            output_properties=tuple(dict.fromkeys([*wanted, *self._record_schema.column_properties])) if wanted else (),
            distinct_ids=tuple(settings.distinct_ids),
            cohort_id=settings.cohort_id,
            include_all_users=settings.include_all_users,
            behaviors=settings.behaviors,
            as_of_timestamp=as_of,
        )

    @contextlib.contextmanager
    def chunks(self, envelope: Envelope) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
        """Fetch the pages of one session, the next one while one is written."""

        def converted() -> Iterator[SpooledPage]:
            for page in self._pages(self.settings.profiles_page_size, self.since):
                if self.is_incremental:
                    check_clock_lead(self.client, self.name, "profiles_incremental")
                self.progress.total = page.total
                self._missing = page.missing
                yield SpooledPage(self._convert(page, envelope))

        if self.is_incremental:
            self.log("asking for %s", f"those seen since {bookmark_text(self.since)}" if self.since else "all of them")
        with prefetch_pages(converted(), on_poll=self.on_poll, stop=self.client.stop) as chunks:
            yield chunks

    def sample(self, count: int) -> SpooledChunk:
        """Request one page of `count` profiles."""
        return self._convert(self.first_page(count), BARE)

    def first_page(self, size: int) -> Page:
        """Request one page of `size` profiles, which has the total of all profiles."""
        return next(self._pages(size))

    def _pages(self, page_size: int, since: dt.datetime | None = None) -> Iterator[Page]:
        source_settings = self.set_settings(*self.source_settings)
        options = dataclasses.replace(self.which(), page_size=page_size, source_settings=source_settings)
        if since:
            options = dataclasses.replace(options, where=seen_since(since, options.where))
        retrying = Retrying(self.clock, self.settings.max_retries, self.logger)
        return fetch_pages(self.client, options, retrying, what=self.name, log=self.logger)

    def _convert(self, page: Page, envelope: Envelope) -> SpooledChunk:
        what = f"{self.name} page {page.number}"

        def reject_profile(bad: BadProfile) -> None:
            if self.settings.bad_lines != "skip":
                raise bad
            # Between the tokens of a JSON text a space is as good as a line end.
            chunk.reject(bad.result.translate(LINE_ENDS_TO_SPACES) + b"\n", bad.index, bad.reason)

        converter = self._record_schema.converter(
            envelope=envelope, selected=self.selected_columns, strip_nul=self.settings.strip_nul
        )
        with translate_errors(what), SpooledChunk(what=what).filling() as chunk:
            for start in range(0, len(page.results), RESULTS_AT_ONCE):
                chunk.lines.write(converter.convert(page.results[start : start + RESULTS_AT_ONCE], reject_profile))
        chunk.extent, chunk.received = len(page.results), page.received
        chunk.decompressed_bytes = page.decompressed_bytes
        chunk.records, chunk.nuls, chunk.misfits = converter.records, converter.nuls, dict(converter.misfits)
        return chunk


class GroupProfilesStream(ProfilesStream):
    """All profiles of one group, such as companies, with the columns of user profiles."""

    rank = 2
    source_settings = ("group_profiles", "workspace_id", "profiles_page_size")

    def __init__(self, tap: Tap, run: Run, schema: ProfileSchema, group: Group) -> None:
        super().__init__(tap, run, schema, group.name)
        self._data_group_id = group.data_group_id

    def which(self) -> EngageOptions:
        """Return the options for the whole group; the settings that narrow users do not apply."""
        return EngageOptions(data_group_id=self._data_group_id)
