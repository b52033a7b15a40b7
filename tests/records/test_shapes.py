from __future__ import annotations

import dataclasses

import pytest

from tap_mixpanel_stream.records import shapes_for

OPEN_OBJECT = {"type": ["object", "null"], "additionalProperties": True}


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("kind", ["events", "profiles"])
def test_a_shape_s_columns_and_keys_are_those_of_its_schema(raw: bool, kind: str) -> None:
    shape = getattr(shapes_for(raw), kind)
    assert tuple(shape.schema["properties"]) == shape.columns
    assert set(shape.key_properties) <= set(shape.columns)
    assert shape.schema["required"] == list(shape.key_properties)
    assert shape.schema["properties"][shape.columns[-1]] == OPEN_OBJECT


def test_columns_and_keys_are_the_contract_s() -> None:
    events, profiles = shapes_for(raw=False).events, shapes_for(raw=False).profiles
    assert events.columns == ("event_name", "event_time", "distinct_id", "insert_id", "properties")
    assert events.key_properties == ("event_name", "event_time", "insert_id")
    assert events.schema["properties"]["event_time"] == {"type": "string", "format": "date-time"}
    assert profiles.columns == ("distinct_id", "last_seen", "properties")
    assert profiles.key_properties == ("distinct_id",)
    assert profiles.schema["properties"]["last_seen"] == {"type": ["string", "null"]}
    events, profiles = shapes_for(raw=True).events, shapes_for(raw=True).profiles
    assert (events.columns, events.key_properties) == (("event", "properties"), ())
    assert (profiles.columns, profiles.key_properties) == (("$distinct_id", "$properties"), ("$distinct_id",))


def test_shapes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        shapes_for(raw=True).events = shapes_for(raw=False).events  # type: ignore[misc]
