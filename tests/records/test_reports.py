from __future__ import annotations

import json
from typing import Any

import pytest

from tap_mixpanel_stream.records import BARE
from tap_mixpanel_stream.records.errors import BadRow
from tap_mixpanel_stream.records.reports import ID_TEXT, INTEGER, NUMBER, OBJECTS, TEXT, ReportSchema, Row

SHAPE = ReportSchema(
    {"id": INTEGER, "name": TEXT, "group": ID_TEXT, "user_id": INTEGER, "tags": OBJECTS}, ("id",), flattened=("user",)
)


def made(*texts: str, **options: Any) -> list[dict[str, Any]]:
    lines = SHAPE.converter(envelope=BARE, **options).convert([Row(text.encode()) for text in texts])
    assert lines.count(b"\n") == len(texts)
    return [json.loads(line) for line in lines.splitlines()]


def test_documented_fields_are_columns() -> None:
    """Documented fields are columns, and missing ones are null."""
    assert made('{"name":"a","id":1,"tags":[{"id":2}]}', '{"id":2}') == [
        {"id": 1, "name": "a", "group": None, "user_id": None, "tags": [{"id": 2}], "other": {}},
        {"id": 2, "name": None, "group": None, "user_id": None, "tags": None, "other": {}},
    ]


def test_other_fields_are_kept_in_other() -> None:
    """Undocumented fields are kept unchanged under `other`."""
    lines = SHAPE.converter(envelope=BARE).convert([Row(b'{"id":1,"new":{"b":1.0, "a":1e400},"other":[]}')])
    assert b'"other":{"new":{"b":1.0, "a":1e400},"other":[]}' in lines


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 7),
        ("group", {"id": 1}),
        ("tags", "none"),
        ("tags", {"id": 1}),
        ("tags", ["plain"]),
        ("tags", [{"id": 1}, [2]]),
        ("user_id", 1.5),
    ],
)
def test_a_value_of_another_type_goes_to_other(name: str, value: object) -> None:
    """A value that does not match the column's type is null there and kept under `other`."""
    [record] = made(json.dumps({"id": 1, name: value}))
    assert record[name] is None
    assert record["other"] == {name: value}


def test_an_array_of_objects_may_have_nulls() -> None:
    """An array of objects and nulls fits its column, also with an unpaired surrogate."""
    assert made('{"id":1,"tags":[null,{"id":2},{}]}', '{"id":2,"tags":[]}', r'{"id":3,"tags":[{"a":"\ud83d"}]}') == [
        {"id": number, "name": None, "group": None, "user_id": None, "tags": tags, "other": {}}
        for number, tags in ((1, [None, {"id": 2}, {}]), (2, []), (3, [{"a": "\ud83d"}]))
    ]


def test_a_group_id_becomes_text() -> None:
    """A group id becomes text, whether it is a string or an integer."""
    records = made('{"id":1,"group":-9007199254740993}', '{"id":2,"group":"-5"}', '{"id":3,"group":null}')
    assert [record["group"] for record in records] == ["-9007199254740993", "-5", None]


def test_fields_of_a_lifted_object_are_columns() -> None:
    """Fields of a lifted object are columns; its unknown fields are under `other`."""
    first, second = made('{"id":1,"user":{"id":3,"mail":"a@b"}}', '{"id":2,"user":"Ada"}')
    assert (first["user_id"], first["other"]) == (3, {"user_mail": "a@b"})
    assert (second["user_id"], second["other"]) == (None, {"user": "Ada"})


@pytest.mark.parametrize("text", ['{"name":"a"}', '{"id":null}', '{"id":"1"}', '{"id":1.5}', "[]", '{"id":1', "7"])
def test_a_row_without_a_valid_key_is_rejected(text: str) -> None:
    """A row without a valid key fails the whole response."""
    with pytest.raises(BadRow, match=r"^malformed entry at index 1: "):
        made('{"id":1}', text)


def test_given_values_replace_those_of_the_row() -> None:
    """Values given with a row replace the row's own."""
    [line] = SHAPE.converter(envelope=BARE).convert([Row(b'{"id":1,"name":"a"}', {"id": b"7"})]).splitlines()
    assert json.loads(line)["id"] == 7


def test_deselected_columns_of_reports() -> None:
    """Deselected columns are omitted."""
    assert made('{"id":1,"name":"a","new":2}', selected=frozenset({"id", "other"})) == [{"id": 1, "other": {"new": 2}}]


def test_an_indented_row_becomes_one_line() -> None:
    """A row over several lines becomes a record on one line."""
    assert made('{\r\n "id": 1,\n "new": {\n "a": 1}}')[0]["other"] == {"new": {"a": 1}}


def test_a_report_keeps_an_unpaired_surrogate() -> None:
    """An unpaired surrogate is kept."""
    [line] = SHAPE.converter(envelope=BARE).convert([Row(rb'{"id":1,"name":"\ud83d"}')]).splitlines()
    assert rb'"name":"\ud83d"' in line


def test_nuls_of_reports_are_removed_and_counted() -> None:
    """With `strip_nul`, NULs are removed and counted."""
    converter = SHAPE.converter(envelope=BARE, strip_nul=True)
    assert b'"name":"ab"' in converter.convert([Row(rb'{"id":1,"name":"a\u0000b"}')])
    assert (converter.records, converter.nuls) == (1, 1)


def test_the_schema_of_a_report() -> None:
    """The schema lists the columns in order, with their types and the required key."""
    schema = SHAPE.schema
    assert schema["required"] == ["id"]
    assert list(schema["properties"]) == [*SHAPE.columns] == ["id", "name", "group", "user_id", "tags", "other"]
    assert schema["properties"]["id"] == {"type": "integer"}
    assert schema["properties"]["name"] == {"type": ["string", "null"]}
    assert schema["properties"]["other"] == {"type": ["object", "null"], "additionalProperties": True}


@pytest.mark.parametrize("value", ["1e999", "-1e999", "9" * 400])
def test_a_huge_number_goes_to_other(value: str) -> None:
    """A number beyond a double or 64 bits is null in its column and kept under `other`."""
    shape = ReportSchema({"id": INTEGER, "value": NUMBER, "count": INTEGER}, ("id",))
    row = Row(f'{{"id":1,"value":{value},"count":{value}}}'.encode())
    [line] = shape.converter(envelope=BARE).convert([row]).splitlines()
    assert line == f'{{"id":1,"value":null,"count":null,"other":{{"value":{value},"count":{value}}}}}'.encode()
