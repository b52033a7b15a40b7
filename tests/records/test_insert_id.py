from __future__ import annotations

import uuid

import pytest

from tap_mixpanel_stream.records import BARE, BadLine, EventSchema
from tap_mixpanel_stream.records.insert_id import NAMESPACE, stable_insert_id
from tests.records.reference import parsed


def reject(bad: BadLine) -> None:
    raise bad


def record_of(line: str) -> dict[str, object]:
    converter = EventSchema(raw=False).converter(envelope=BARE, on_bad_line=reject)
    return parsed(converter.convert(line.encode() + b"\n").removesuffix(b"\n"))


def test_the_namespace_is_the_documented_one() -> None:
    """The namespace of made ids is the UUID 5 of "tap-mixpanel-stream"."""
    assert uuid.uuid5(uuid.NAMESPACE_DNS, "tap-mixpanel-stream") == NAMESPACE


def test_made_ids_never_change() -> None:
    """The made ids of two events equal fixed values."""
    assert stable_insert_id("A", 0, "", {}) == b"aeec919b-e448-58dc-9f16-ea5f1bc26f81"
    assert (
        stable_insert_id('Zürich "x"', 1705328400123, "u1", {"b": b"1.0", "a": b'"\\u00e9"', "ü": b"[1, 2]"})
        == b"38d09a3a-4bdc-5acc-a849-6a53a4af3e7e"
    )


def test_a_made_id_is_a_uuid_5() -> None:
    """A made id is a UUID of version 5."""
    for instant in range(200):
        made = uuid.UUID(stable_insert_id("A", instant, "u", {}).decode())
        assert (made.version, made.variant) == (5, uuid.RFC_4122)


TIME = '"time":1705328400'
SAME = [
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1,"b":[1,2]}}}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","b":[1,2],"a":1}}}}',
    f'{{"event":"A","properties":{{"distinct_id":"u1",{TIME},"a":1,"b":[1,2]}}}}',
    f'{{"event":"A","properties":{{"a":1,{TIME},"b":[1,2],"distinct_id":"u1"}}}}',
    f'{{"properties":{{{TIME},"distinct_id":"u1","a":1,"b":[1,2]}},"event":"A"}}',
    f'{{"event":"\\u0041","properties":{{{TIME},"distinct_id":"\\u0075\\u0031","\\u0061":1,"b":[1,2]}}}}',
    f'{{ "event" : "A" , "properties" : {{ {TIME} , "distinct_id" : "u1" , "a" : 1 , "b" : [1,2] }} }}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1,"b":[1,2]}},"dataset":"d"}}',
    '{"event":"A","properties":{"time":1705328400000,"distinct_id":"u1","a":1,"b":[1,2]}}',
    '{"event":"A","properties":{"time":"1705328400","distinct_id":"u1","a":1,"b":[1,2]}}',
    '{"event":"A","properties":{"time":1705328400.0,"distinct_id":"u1","a":1,"b":[1,2]}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1,"b":[1,2],"$insert_id":""}}}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","$insert_id":"","a":1,"b":[1,2]}}}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","$insert_id":null,"a":1,"b":[1,2]}}}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"merged","a":1,"$distinct_id_before_identity":"u1","b":[1,2]}}}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1,"$distinct_id_before_identity":"","b":[1,2]}}}}',
    f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1,"$distinct_id_before_identity":null,"b":[1,2]}}}}',
]


@pytest.mark.parametrize("line", SAME)
def test_a_made_id_is_independent_of_spelling(line: str) -> None:
    """The id does not depend on order, spelling or identity merging."""
    record = record_of(line)
    assert record["insert_id"] == "641fa020-9dc0-54bb-b588-45a3df921779"
    assert record["event_time"] == "2024-01-15T14:20:00+00:00"


@pytest.mark.parametrize(
    "line",
    [
        f'{{"event":"B","properties":{{{TIME},"distinct_id":"u1","a":1,"b":[1,2]}}}}',
        f'{{"event":"A","properties":{{{TIME},"distinct_id":"u2","a":1,"b":[1,2]}}}}',
        f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":2,"b":[1,2]}}}}',
        f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1.0,"b":[1,2]}}}}',
        f'{{"event":"A","properties":{{{TIME},"distinct_id":"u1","a":1}}}}',
        '{"event":"A","properties":{"time":1705328401,"distinct_id":"u1","a":1,"b":[1,2]}}',
        '{"event":"A","properties":{"time":1705328400001,"distinct_id":"u1","a":1,"b":[1,2]}}',
    ],
)
def test_different_events_get_different_ids(line: str) -> None:
    """A different name, time, user or property gives a different id."""
    assert record_of(line)["insert_id"] != "641fa020-9dc0-54bb-b588-45a3df921779"


def test_hash_input_is_unambiguous() -> None:
    """Events whose concatenated fields look alike get different ids."""
    events = [
        ("A", 1, "u", {"a": b"1", "b": b"2"}),
        ("A1:u", 1, "", {}),
        ("A", 11, ":u", {}),
        ("A", 1, "u1:a1,", {"b": b"2"}),
        ("A", 1, "u", {"a": b'"1,1:b2"'}),
    ]
    assert len({stable_insert_id(*event) for event in events}) == len(events)
