"""What a record is: Mixpanel's bytes in, the bytes of Singer records out.

    lines       bytes as they arrive        ->  whole lines
    events      a body of event lines       ->  records, bad lines, the signs of a cut
    profiles    the results of a page       ->  records, bad profiles
    normalized_events, normalized_profiles      Mixpanel's own keys as columns
    raw         an event or profile as it came
    flat        anything else: documented fields as columns, the others in one object
    members     a JSON object with its values left as they came
    event_time  `time`, whatever it came as ->  UTC
    event_tally   lines of events           ->  their names, and how many each day has
    zone_check  some events' times          ->  whether the zone they are read with is theirs
    insert_id   an event without `$insert_id` -> an id that is the same on every run
    envelope    what stands around a record in a RECORD line
    shapes      raw or normalized: the one place that looks
    errors      what can be wrong with a body

Nothing in here knows HTTP, Singer's SDK or windows.
"""

from __future__ import annotations

from .envelope import BARE, Envelope, record_envelope
from .errors import BadBody, BadLine, BadProfile, CutShort, LineTooLong
from .json_lines import LineCutter
from .shapes import EventShape, ProfileShape, Shapes, shapes_for

__all__ = [
    "BARE",
    "BadBody",
    "BadLine",
    "BadProfile",
    "CutShort",
    "Envelope",
    "EventShape",
    "LineCutter",
    "LineTooLong",
    "ProfileShape",
    "Shapes",
    "record_envelope",
    "shapes_for",
]
