"""Records: the bytes of Mixpanel's responses in, the bytes of Singer records out.

    schemas         the columns and the key of a stream
    converter       what all converters share, and the envelope of a RECORD message
    events          events, normalized or raw: the hot path
    json_lines      a body of event lines: whole lines, malformed lines, truncation
    property_columns  properties that the user chose as columns
    profiles        profiles, normalized or raw
    reports         lists and reports: documented fields as columns, the others in one object
    json_objects    a JSON object read into members with undecoded values
    event_time      `time` in any form -> an instant in UTC
    insert_id       an event without `$insert_id` -> an id that is the same in every run
    event_tally     the names of events, and how many there are by day
    insert_id_check a sample of events -> whether many users share an `$insert_id`
    timezone_check  a sample of events -> whether `project_timezone` is right
    errors          what can be wrong with a body

This package imports neither HTTP nor Singer's SDK, and knows no windows.
"""

from __future__ import annotations

from .converter import BARE, Envelope, record_envelope
from .errors import BadBody, BadLine, BadProfile, CutShort, LineTooLong
from .events import EventSchema
from .json_lines import LineCutter
from .profiles import ProfileSchema

__all__ = [
    "BARE",
    "BadBody",
    "BadLine",
    "BadProfile",
    "CutShort",
    "Envelope",
    "EventSchema",
    "LineCutter",
    "LineTooLong",
    "ProfileSchema",
    "record_envelope",
]
