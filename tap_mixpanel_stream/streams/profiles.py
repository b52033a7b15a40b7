"""The profiles stream: the pages of one Engage session, each delivered whole."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from ..delivery.portion import Portion
from ..delivery.spool import SpoolError
from ..mixpanel.engage import EngageOptions, pages
from ..mixpanel.retry import Retrying
from ..records.envelope import BARE
from ..records.errors import BadProfile
from .base import MixpanelStream, StreamError
from .sequence import Step, in_sequence

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from ..mixpanel.engage import Page
    from ..records.envelope import Envelope
    from ..records.shapes import ProfileShape
    from ..tap import TapMixpanelStream


class ProfilesStream(MixpanelStream):
    """All user profiles, by the Engage query."""

    portion_name = "page"
    unit = "profiles"

    def __init__(self, tap: TapMixpanelStream, shape: ProfileShape, name: str = "profiles") -> None:
        super().__init__(tap, shape, name)
        self._shape = shape

    def which(self) -> EngageOptions:
        """Which profiles to ask for, and what of them."""
        settings = self.settings
        wanted = settings.profile_properties
        return EngageOptions(
            where=settings.profiles_where,
            # What the shape makes columns of must come, whatever else was asked for.
            output_properties=tuple(dict.fromkeys([*wanted, *self._shape.needs])) if wanted else (),
            distinct_ids=tuple(settings.distinct_ids),
            cohort_id=settings.cohort_id,
            include_all_users=settings.include_all_users,
            behaviors=settings.behaviors,
            as_of_timestamp=settings.as_of_timestamp,
        )

    @contextlib.contextmanager
    def portions(self, envelope: Envelope) -> Iterator[Iterator[tuple[Portion, dt.datetime | None]]]:
        """Fetch the pages of one session, the next one while one is written."""

        def steps() -> Iterator[Step]:
            for page in self._pages(self.settings.profiles_page_size):
                self.progress.total = page.total
                yield Step(self._shaped(page, envelope))

        with in_sequence(steps(), look_around=self.look_around, stop=self.client.stop) as portions:
            yield portions

    def sample(self, count: int) -> Portion:
        """Ask for one page of `count` profiles."""
        return self._shaped(next(self._pages(count)), BARE)

    def _pages(self, page_size: int) -> Iterator[Page]:
        options = dataclasses.replace(self.which(), page_size=page_size)
        retrying = Retrying(self.clock, self.settings.max_retries, self.logger)
        return pages(self.client, options, retrying, what=self.name, log=self.logger)

    def _shaped(self, page: Page, envelope: Envelope) -> Portion:
        with contextlib.ExitStack() as unless_whole:
            portion = Portion(extent=len(page.results), received=page.received, unpacked=page.unpacked)
            unless_whole.callback(portion.close)
            converter = self._shape.converter(
                envelope=envelope, selected=self.selected_columns, strip_nul=self.settings.strip_nul
            )
            try:
                portion.lines.write(converter.convert(page.results))
            except (BadProfile, SpoolError) as error:
                raise StreamError(f"{self.name} page {page.number}: {error}") from None
            portion.records, portion.nuls = converter.records, converter.nuls
            unless_whole.pop_all()
        return portion
