"""The profiles stream: the pages of one Engage session, each delivered whole."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..delivery.order import in_order
from ..delivery.portion import Portion
from ..delivery.spool import SpoolError
from ..mixpanel.engage import EngageOptions, pages
from ..mixpanel.retry import Retrying
from ..records.envelope import BARE
from ..records.errors import BadProfile
from .base import MixpanelStream, StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..mixpanel.engage import Page
    from ..records.envelope import Envelope
    from ..records.shapes import ProfileShape
    from ..tap import TapMixpanelStream


# How many of a page's results are converted at a time: a large page is not held in memory three times over.
RESULTS_AT_ONCE = 500


class ProfilesStream(MixpanelStream):
    """All user profiles, by the Engage query."""

    name = "profiles"
    portion_name = "page"
    unit = "profiles"

    def __init__(self, tap: TapMixpanelStream, shape: ProfileShape) -> None:
        super().__init__(tap, shape, self.name)
        self._shape = shape

    @contextlib.contextmanager
    def portions(self, envelope: Envelope) -> Iterator[Iterator[tuple[Portion, None]]]:
        """Fetch the pages of one session, the next one while one is written."""
        source = self._pages(self.settings.profiles_page_size)
        ended = False

        def fetch_next(number: int) -> Portion:  # noqa: ARG001 - a page follows from the one before, not from its number
            nonlocal ended
            page = next(source, None)
            if page is None:
                ended = True
                return Portion()
            self.progress.total = page.total
            return self._shaped(page, envelope)

        def numbers() -> Iterator[int]:
            number = 0
            while not ended:
                yield number
                number += 1

        with in_order(
            numbers(),
            fetch_next,
            ahead=1,  # a page can be asked for only in the session that the one before has told
            look_around=self.look_around,
            stop=self.client.stop,
        ) as portions:
            yield _pages_of(portions)

    def sample(self, count: int) -> Portion:
        """Ask for one page of `count` profiles."""
        return self._shaped(self.first_page(count), BARE)

    def first_page(self, size: int) -> Page:
        """Ask for one page of `size` profiles; it says how many there are in all."""
        return next(self._pages(size))

    def _pages(self, page_size: int) -> Iterator[Page]:
        settings = self.settings
        wanted = settings.profile_properties
        options = EngageOptions(
            where=settings.profiles_where,
            # What the shape makes columns of must come, whatever else was asked for.
            output_properties=tuple(dict.fromkeys([*wanted, *self._shape.needs])) if wanted else (),
            page_size=page_size,
            distinct_ids=tuple(settings.distinct_ids),
            cohort_id=settings.cohort_id,
            include_all_users=settings.include_all_users,
            behaviors=settings.behaviors,
            as_of_timestamp=settings.as_of_timestamp,
        )
        retrying = Retrying(self.clock, settings.max_retries, self.logger)
        return pages(self.client, options, retrying, what=self.name, log=self.logger)

    def _shaped(self, page: Page, envelope: Envelope) -> Portion:
        with contextlib.ExitStack() as unless_whole:
            portion = Portion(extent=len(page.results), received=page.received, unpacked=page.unpacked)
            unless_whole.callback(portion.close)
            converter = self._shape.converter(
                envelope=envelope, selected=self.selected_columns, strip_nul=self.settings.strip_nul
            )
            try:
                for start in range(0, len(page.results), RESULTS_AT_ONCE):
                    portion.lines.write(converter.convert(page.results[start : start + RESULTS_AT_ONCE]))
                portion.complete()
            except (BadProfile, SpoolError) as error:
                raise StreamError(f"{self.name} page {page.number}: {error}") from None
            portion.records, portion.nuls = converter.records, converter.nuls
            unless_whole.pop_all()
        return portion


def _pages_of(portions: Iterator[Portion]) -> Iterator[tuple[Portion, None]]:
    for portion in portions:
        if portion.unpacked:
            yield portion, None
        else:  # the mark of the end: even a page without profiles has a body
            portion.close()
