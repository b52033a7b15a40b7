from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tap_mixpanel_stream.records import BARE, Envelope, record_envelope

MIDNIGHT = datetime(2024, 1, 15, tzinfo=UTC)


def test_an_envelope_makes_a_record_message() -> None:
    """An envelope is the JSON before and after each record."""
    assert record_envelope("events", MIDNIGHT) == Envelope(
        head=b'{"type":"RECORD","stream":"events","record":',
        tail=b',"time_extracted":"2024-01-15T00:00:00+00:00"}\n',
    )


def test_an_envelope_has_the_version() -> None:
    """With a version, the RECORD message contains it."""
    envelope = record_envelope("profiles", MIDNIGHT, 1705276800000)
    message = json.loads(envelope.head + b"{}" + envelope.tail)
    assert message["version"] == 1705276800000


def test_a_stream_name_is_escaped() -> None:
    """A stream name with quotes and line breaks is escaped as JSON."""
    envelope = record_envelope('a "b"\nü', MIDNIGHT)
    assert json.loads(envelope.head + b"{}" + envelope.tail)["stream"] == 'a "b"\nü'


def test_time_extracted_is_in_utc() -> None:
    """`time_extracted` is written in UTC."""
    there = MIDNIGHT.astimezone(timezone(timedelta(hours=-5)))
    assert record_envelope("events", there) == record_envelope("events", MIDNIGHT)


def test_a_naive_time_is_rejected() -> None:
    """A naive datetime is rejected as `time_extracted`."""
    with pytest.raises(ValueError, match="time zone"):
        record_envelope("events", datetime(2024, 1, 15))  # noqa: DTZ001


def test_the_bare_envelope_is_one_line() -> None:
    """The bare envelope adds only the line break."""
    assert BARE.head + b"{}" + BARE.tail == b"{}\n"
