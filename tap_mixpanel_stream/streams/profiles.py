"""The streams of user and group profiles: the pages of one Engage session."""

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


# State entry with the start of the run that last read all profiles.
REFRESHED = "full_refresh"

# Number of results to convert at once, so that a large page is in memory only once.
RESULTS_PER_BLOCK = 500

LINE_ENDS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class ProfilesStream(MixpanelStream):
    """All user profiles, from the Engage endpoint."""

    rank = 1
    chunk_name = "page"
    unit = "profiles"
    source_settings: tuple[str, ...] = (
        *("profiles_where", "profile_properties", "distinct_ids", "cohort_id", "behaviors", "as_of_timestamp"),
        *("workspace_id", "profiles_page_size"),
    )
    """The settings that the requests are made from."""

    def __init__(self, tap: Tap, run: Run, schema: ProfileSchema, name: str = "profiles") -> None:
        super().__init__(tap, run, schema, name)
        self._record_schema = schema
        if tap.config.get("profiles_incremental"):
            self.replication_key = "last_seen"

    _missing = 0
    """The session's total minus the number of profiles received."""

    # --- Full refresh or incremental ---------------------------------------------------------------------------------

    @functools.cached_property
    def since(self) -> dt.datetime | None:
        """The earliest `$last_seen` of the profiles that this run requests; None to request all.

        It is earlier than the start of the previous run by `SETTLING`, because updates become visible with a delay, and
        Mixpanel's clock can be behind this machine's.
        """
        if not self.is_incremental:
            return None
        bookmark, refreshed = self.instant_in_state("replication_key_value"), self.instant_in_state(REFRESHED)
        # A bookmark in the future is the result of a wrong clock.
        if bookmark is None or refreshed is None or bookmark > self.started_at:
            return None
        # Count calendar days, because a weekly run can start a few seconds earlier than the previous one.
        days = (self.started_at.date() - refreshed.date()).days
        return bookmark - SETTLING if 0 <= days < self.settings.profiles_full_refresh_days else None

    @property
    def is_full_refresh(self) -> bool:
        """Whether this run requests all profiles."""
        return self.since is None

    is_versioned = True
    """An incremental run adds its records to the version of the last full refresh."""

    @property
    def refreshed_at(self) -> dt.datetime | None:
        """The start of the last run, which can be this one, that read all profiles; None if there is none."""
        return self.started_at if self.is_full_refresh else self.instant_in_state(REFRESHED)

    @property
    def incomplete_reason(self) -> str | None:
        """Why this run did not deliver all profiles; None if it did."""
        return f"{self._missing} profiles are missing" if self._missing else super().incomplete_reason

    def check_before_run(self) -> None:
        """Check that the bookmark is valid and not in the future."""
        if self.is_incremental:
            for name in ("replication_key_value", REFRESHED):
                self.check_not_in_future(name, self.instant_in_state(name))

    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply the selection from a catalog. The replication method comes from the settings, not from the catalog."""
        super().apply_catalog(catalog)
        self.forced_replication_method = None

    def complete(self) -> None:
        """Move the bookmark to the start of this run, unless profiles are missing."""
        if not self.is_incremental:
            return
        if self._missing:
            self.log("%s: the bookmark stays unchanged", self.incomplete_reason, level=logging.WARNING)
            return
        started_at = bookmark_text(self.started_at)
        self.stream_state.update(replication_key=self.replication_key, replication_key_value=started_at)
        if self.is_full_refresh:
            # With the precision of the table version, which is derived from it.
            self.stream_state[REFRESHED] = self.started_at.isoformat(timespec="milliseconds")

    # --- The pages ---------------------------------------------------------------------------------------------------

    def engage_options(self) -> EngageOptions:
        """Return the filters of the profile query, from the settings."""
        settings = self.settings
        properties = settings.profile_properties
        as_of = settings.as_of_timestamp
        if as_of is None and settings.behaviors:
            # Mixpanel's docs: paging through more than 1000 profiles requires `as_of_timestamp` with behaviors.
            as_of = int(self.clock.now().timestamp())
        return EngageOptions(
            where=settings.profiles_where,
            # Always request the properties that become columns.
            output_properties=(
                tuple(dict.fromkeys([*properties, *self._record_schema.column_properties])) if properties else ()
            ),
            distinct_ids=tuple(settings.distinct_ids),
            cohort_id=settings.cohort_id,
            include_all_users=settings.include_all_users,
            behaviors=settings.behaviors,
            as_of_timestamp=as_of,
        )

    @contextlib.contextmanager
    def chunks(self, envelope: Envelope) -> Iterator[Iterator[tuple[SpooledChunk, object]]]:
        """Fetch the pages of one session, each while the previous one is written."""

        def converted_pages() -> Iterator[SpooledPage]:
            for page in self._pages(self.settings.profiles_page_size, self.since):
                if self.is_incremental:
                    check_clock_lead(self.client, self.name, "profiles_incremental")
                self.progress.total = page.total
                self._missing = page.missing
                yield SpooledPage(self._convert(page, envelope))

        if self.is_incremental:
            seen = f"profiles seen since {bookmark_text(self.since)}" if self.since else "all profiles"
            self.log("requesting %s", seen)
        with prefetch_pages(converted_pages(), on_poll=self.on_poll, stop=self.client.stop) as chunks:
            yield chunks

    def sample(self, count: int) -> SpooledChunk:
        """Fetch one page of `count` profiles."""
        return self._convert(self.first_page(count), BARE)

    def first_page(self, size: int) -> Page:
        """Fetch the first page, with `size` profiles. The page states the total number of profiles."""
        return next(self._pages(size))

    def _pages(self, page_size: int, since: dt.datetime | None = None) -> Iterator[Page]:
        source_settings = self.configured_settings(*self.source_settings)
        options = dataclasses.replace(self.engage_options(), page_size=page_size, source_settings=source_settings)
        if since:
            options = dataclasses.replace(options, where=seen_since(since, options.where))
        retrying = Retrying(self.clock, self.settings.max_retries, self.logger)
        return fetch_pages(self.client, options, retrying, what=self.name, log=self.logger)

    def _convert(self, page: Page, envelope: Envelope) -> SpooledChunk:
        what = f"{self.name} page {page.number}"

        def reject_profile(bad: BadProfile) -> None:
            if self.settings.bad_lines != "skip":
                raise bad
            # A result can span lines. Between JSON tokens a space is equivalent to a line end.
            chunk.reject(bad.result.translate(LINE_ENDS_TO_SPACES) + b"\n", bad.index, bad.reason)

        converter = self._record_schema.converter(
            envelope=envelope, selected=self.selected_columns, strip_nul=self.settings.strip_nul
        )
        with translate_errors(what), SpooledChunk(what=what).filling() as chunk:
            for start in range(0, len(page.results), RESULTS_PER_BLOCK):
                chunk.lines.write(converter.convert(page.results[start : start + RESULTS_PER_BLOCK], reject_profile))
        chunk.extent, chunk.received = len(page.results), page.received
        chunk.decompressed_bytes = page.decompressed_bytes
        chunk.records, chunk.nuls, chunk.misfits = converter.records, converter.nuls, dict(converter.misfits)
        return chunk


class GroupProfilesStream(ProfilesStream):
    """All profiles of one group, such as companies. The columns are those of user profiles."""

    rank = 2
    source_settings = ("group_profiles", "workspace_id", "profiles_page_size")

    def __init__(self, tap: Tap, run: Run, schema: ProfileSchema, group: Group) -> None:
        super().__init__(tap, run, schema, group.name)
        self._data_group_id = group.data_group_id

    def engage_options(self) -> EngageOptions:
        """Return the options for the whole group. The filters for user profiles do not apply."""
        return EngageOptions(data_group_id=self._data_group_id)
