"""The schemas of events and profiles."""

from __future__ import annotations

import pickle

import pytest

from tap_mixpanel_stream.records import EventSchema, ProfileSchema

OPEN_OBJECT = {"type": ["object", "null"], "additionalProperties": True}


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("kind", [EventSchema, ProfileSchema])
def test_columns_and_keys_match_the_schema(raw: bool, kind: type[EventSchema | ProfileSchema]) -> None:
    """The columns are the schema's properties, and the key columns are required."""
    schema = kind(raw)
    assert tuple(schema.schema["properties"]) == schema.columns
    assert set(schema.key_properties) <= set(schema.columns)
    assert schema.schema["required"] == list(schema.key_properties)
    assert schema.schema["properties"][schema.columns[-1]] == OPEN_OBJECT


def test_columns_and_keys_of_normalized_records() -> None:
    """Normalized records have the columns in docs/streams.md."""
    events, profiles = EventSchema(), ProfileSchema()
    assert events.columns == ("event_name", "event_time", "distinct_id", "insert_id", "properties")
    assert events.key_properties == ("event_name", "event_time", "insert_id")
    assert events.schema["properties"]["event_time"] == {"type": "string", "format": "date-time"}
    assert profiles.columns == ("distinct_id", "last_seen", "properties")
    assert profiles.key_properties == ("distinct_id",)
    assert profiles.schema["properties"]["last_seen"] == {"type": ["string", "null"]}


def test_columns_and_keys_of_raw_records() -> None:
    """Raw records have Mixpanel's own keys."""
    events, profiles = EventSchema(raw=True), ProfileSchema(raw=True)
    assert (events.columns, events.key_properties) == (("event", "properties"), ())
    assert (profiles.columns, profiles.key_properties) == (("$distinct_id", "$properties"), ("$distinct_id",))


def test_a_schema_can_be_pickled() -> None:
    """Worker processes receive pickled schemas."""
    pickled = pickle.dumps(EventSchema(raw=True))
    assert pickle.loads(pickled) == EventSchema(raw=True)  # noqa: S301
