"""Raw or normalized: the one place that looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from . import normalized_events, normalized_profiles, raw as as_it_came

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence
    from zoneinfo import ZoneInfo

    import msgspec

    from .envelope import Envelope
    from .errors import BadLine, BadProfile


class EventConverter(Protocol):
    r"""Converts one body of events.

    Attributes:
        records: records made.
        lines: lines seen, blank and bad ones too.
        nuls: `\u0000` taken out.
        names: the names of the events; filled if it is set.
        quarters: events by quarters of an hour of the stored clock since 1970; filled if it is set.
    """

    records: int
    lines: int
    nuls: int
    names: set[str] | None
    quarters: Counter[int] | None

    def convert(self, block: bytes) -> bytes:
        """Turn whole lines into records, each in its envelope."""
        ...

    def finish(self, rest: bytes) -> bytes:
        """Turn the last line, which had no newline, into a record, and refuse a body that broke off."""
        ...


class ProfileConverter(Protocol):
    r"""Converts the results of pages of profiles.

    Attributes:
        results: results seen.
        records: records made.
        nuls: `\u0000` taken out.
    """

    results: int
    records: int
    nuls: int

    def convert(self, results: Sequence[msgspec.Raw | bytes], on_bad_profile: Callable[[BadProfile], None]) -> bytes:
        """Turn results into records, each in its envelope; `on_bad_profile` raises, or sets a result aside."""
        ...


class EventShape(Protocol):
    """What the records of events are, and who makes them."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a record."""
        ...

    @property
    def key_properties(self) -> tuple[str, ...]:
        """The columns that tell records apart; empty where none do."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The schema's columns, in order."""
        ...

    def converter(
        self,
        *,
        envelope: Envelope,
        selected: frozenset[str] | None = None,
        zone: ZoneInfo | None = None,
        strip_nul: bool = False,
        on_bad_line: Callable[[BadLine], None],
    ) -> EventConverter:
        r"""Make the converter of one body.

        Args:
            envelope: what stands around each record.
            selected: the columns wanted; None for all.
            zone: the zone whose wall clock the project stores; None for UTC.
            strip_nul: take `\u0000` out of the strings of records.
            on_bad_line: is told of each line that is no event; raises, or sets it aside.
        """
        ...


class ProfileShape(Protocol):
    """What the records of profiles are, and who makes them."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a record."""
        ...

    @property
    def key_properties(self) -> tuple[str, ...]:
        """The columns that tell records apart."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """The schema's columns, in order."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The properties that columns are made of; they must come even where only others are asked for."""
        ...

    def converter(
        self, *, envelope: Envelope, selected: frozenset[str] | None = None, strip_nul: bool = False
    ) -> ProfileConverter:
        r"""Make the converter of a stream's profiles.

        Args:
            envelope: what stands around each record.
            selected: the columns wanted; None for all.
            strip_nul: take `\u0000` out of the strings of records.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shapes:
    """The two shapes that belong together."""

    events: EventShape
    profiles: ProfileShape


_NORMALIZED = Shapes(events=normalized_events.EVENTS, profiles=normalized_profiles.PROFILES)
_RAW = Shapes(events=as_it_came.EVENTS, profiles=as_it_came.PROFILES)


def shapes_for(raw: bool) -> Shapes:
    """Find the shapes for the setting `raw`."""
    return _RAW if raw else _NORMALIZED
