from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tap_mixpanel_stream.records import BARE, Envelope, record_envelope

MIDNIGHT = datetime(2024, 1, 15, tzinfo=UTC)


def test_an_envelope_makes_a_record_message() -> None:
    assert record_envelope("events", MIDNIGHT) == Envelope(
        head=b'{"type":"RECORD","stream":"events","record":',
        tail=b',"time_extracted":"2024-01-15T00:00:00+00:00"}\n',
    )


def test_a_version_is_named() -> None:
    envelope = record_envelope("profiles", MIDNIGHT, 1705276800000)
    message = json.loads(envelope.head + b"{}" + envelope.tail)
    assert message["version"] == 1705276800000


def test_any_name_of_a_stream_is_spelled_as_json() -> None:
    envelope = record_envelope('a "b"\nü', MIDNIGHT)
    assert json.loads(envelope.head + b"{}" + envelope.tail)["stream"] == 'a "b"\nü'


def test_time_extracted_is_told_in_utc() -> None:
    there = MIDNIGHT.astimezone(timezone(timedelta(hours=-5)))
    assert record_envelope("events", there) == record_envelope("events", MIDNIGHT)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        record_envelope("events", datetime(2024, 1, 15))  # noqa: DTZ001


def test_the_bare_envelope_is_a_line() -> None:
    assert BARE.head + b"{}" + BARE.tail == b"{}\n"
