"""Convert the bytes of Mixpanel's responses to the bytes of Singer records.

    schemas           columns and key of a stream
    converter         base class of the converters, and the envelope of a RECORD message
    events            events, normalized or raw: the hot path
    json_lines        response body of event lines: whole lines, malformed lines, truncation
    property_columns  properties that the user chose as columns
    profiles          profiles, normalized or raw
    reports           lists and reports: documented fields as columns, all others in one object
    json_objects      JSON objects as dictionaries of undecoded values
    event_time        conversion of `time` to an instant in UTC
    insert_id         deterministic id for an event without `$insert_id`
    event_tally       event names, and the number of events by day
    insert_id_check   check for `$insert_id`s that many users share
    timezone_check    check of `project_timezone` against a sample of events
    errors            errors in a response body

This package uses no HTTP library and no Singer SDK, and does not depend on windows.
"""

from __future__ import annotations

from .converter import BARE, Envelope, record_envelope
from .errors import BadBody, BadLine, BadProfile, LineTooLong, TruncatedBody
from .events import EventSchema
from .json_lines import LineCutter
from .profiles import ProfileSchema

__all__ = [
    "BARE",
    "BadBody",
    "BadLine",
    "BadProfile",
    "Envelope",
    "EventSchema",
    "LineCutter",
    "LineTooLong",
    "ProfileSchema",
    "TruncatedBody",
    "record_envelope",
]
