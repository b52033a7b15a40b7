"""Raw or normalized: the one place that looks."""

from __future__ import annotations

from dataclasses import dataclass

from .events import EventConverter
from .normalized_events import NormalizedEvents
from .normalized_profiles import NormalizedProfiles
from .profiles import ProfileConverter
from .raw import RawEvents, RawProfiles

EventShape = type[EventConverter]
"""What the records of events are: their schema, and the class that converts a body."""

ProfileShape = type[ProfileConverter]
"""What the records of profiles are, likewise."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """The two shapes that belong together."""

    events: EventShape
    profiles: ProfileShape


_NORMALIZED = Shapes(events=NormalizedEvents, profiles=NormalizedProfiles)
_RAW = Shapes(events=RawEvents, profiles=RawProfiles)


def shapes_for(raw: bool) -> Shapes:
    """Find the shapes for the setting `raw`."""
    return _RAW if raw else _NORMALIZED
