"""Chosen properties as columns, compared with the naive reference."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings, strategies as st

from tap_mixpanel_stream.records import BARE, BadLine, EventSchema, ProfileSchema
from tap_mixpanel_stream.records.property_columns import PROPERTY_TYPES, PropertyColumn, PropertyType, _in_utc
from tests.records import reference
from tests.records.lines_of_events import event_lines, strings, values

if TYPE_CHECKING:
    from collections.abc import Sequence


def named(kind: PropertyType, number: int = 0) -> str:
    return f"{kind.replace('-', '_')}_{number}"


# The properties of the lines that `event_lines` makes, and one that all of them lack.
NAMES = ["time", "distinct_id", "$insert_id", "a", "$city", "é", "\u2028", "", "x,", "missing"]
COLUMNS = tuple(PropertyColumn(named(kind, at), name, kind) for kind in PROPERTY_TYPES for at, name in enumerate(NAMES))


def converted(
    lines: Sequence[bytes], columns: tuple[PropertyColumn, ...], selected: frozenset[str] | None = None
) -> tuple[list[bytes], Counter[str]]:
    """Return the records of lines, and by column the values that did not fit."""
    bad: list[BadLine] = []
    converter = EventSchema(property_columns=columns).converter(
        envelope=BARE, on_bad_line=bad.append, selected=selected
    )
    records = converter.convert(b"".join(line + b"\n" for line in lines)).splitlines()
    return records, converter.misfits


def expected(line: bytes, columns: Sequence[PropertyColumn]) -> tuple[dict[str, object], Counter[str]]:
    """Return a line's record by the reference, and by column the values that do not fit."""
    _, properties = reference.event_members(line)
    values = {column.name: reference.column_value(properties.get(column.property), column.type) for column in columns}
    misfits = Counter(name for name, value in values.items() if value is None)
    record = reference.normalized(line) | {name: value or "null" for name, value in values.items()}
    return record, misfits


VALUES = st.one_of(
    values,
    st.datetimes().map(lambda at: json.dumps(at.isoformat())),
    st.datetimes(timezones=st.timezones()).map(lambda at: json.dumps(at.isoformat())),
    st.dates().map(lambda day: json.dumps(str(day))),
    st.integers(-(2**64), 2**64).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"]),
    st.sampled_from(["1.7976931348623157e308", "1e309", "-1e309", "9" * 400, "9" * 4000]),
    st.sampled_from(['"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59-14:00"', '"2024-02-30"', '"12:00"']),
)


@settings(max_examples=400)
@given(VALUES)
@example('"2024-01-15T14:20:00"')
@example('"2024-01-15T14:20:00.5+01:00"')
@example('"2024-01-15T14:20:00Z"')
@example('"2024-01-15"')
@example(r'"2024\u002d01-15"')
def test_a_value_is_kept_or_null(value: str) -> None:
    """A value that fits its column is kept byte for byte, another one is null, counted, and still in `properties`."""
    line = f'{{"event":"A","properties":{{"time":1,"$insert_id":"i","p":{value}}}}}'.encode()
    columns = tuple(PropertyColumn(named(kind), "p", kind) for kind in PROPERTY_TYPES)
    [record], misfits = converted([line], columns)
    wanted, wanted_misfits = expected(line, columns)
    assert reference.parsed(record, {column.name for column in columns}) == wanted
    assert +misfits == wanted_misfits


@settings(max_examples=300)
@given(st.lists(event_lines(), min_size=1, max_size=5))
def test_columns_of_any_events(lines: list[bytes]) -> None:
    """Blocks of any events, with properties that become other columns among the chosen ones."""
    wanted, misfits = [], Counter[str]()
    for line in lines:
        try:
            record, of_line = expected(line, COLUMNS)
        except (reference.NoEvent, reference.NoJson):
            continue
        wanted.append(record)
        misfits += of_line
    records, found = converted(lines, COLUMNS)
    assert [reference.parsed(record, {column.name for column in COLUMNS}) for record in records] == wanted
    assert +found == misfits


@settings(max_examples=150)
@given(st.dictionaries(strings.map(json.loads), VALUES, max_size=6), VALUES)
def test_columns_of_any_profile(properties: dict[str, str], value: str) -> None:
    """Profiles have the same columns."""
    members = ",".join(f"{json.dumps(name)}:{text}" for name, text in (properties | {"p": value}).items())
    columns = tuple(PropertyColumn(named(kind), "p", kind) for kind in PROPERTY_TYPES)
    converter = ProfileSchema(property_columns=columns).converter(envelope=BARE)
    record = converter.convert([f'{{"$distinct_id":"u","$properties":{{{members}}}}}'.encode()], _raise)
    found = dict(reference.read(record.decode()).members)
    wanted = {column.name: reference.column_value(value, column.type) for column in columns}
    assert {name: found[name].text for name in wanted} == {name: text or "null" for name, text in wanted.items()}
    assert +converter.misfits == Counter(name for name, text in wanted.items() if text is None)


def _raise(error: Exception) -> None:
    raise error


def test_a_made_insert_id_does_not_change() -> None:
    """A column changes neither the made id nor the other columns."""
    line = b'{"event":"A","properties":{"time":1,"distinct_id":"u","city":"Bern"}}'
    [plain], _ = converted([line], ())
    [record], _ = converted([line], (PropertyColumn("city", "city", "string"),))
    assert json.loads(record) == json.loads(plain) | {"city": "Bern"}


@pytest.mark.parametrize("left_out", [{"city"}, {"properties"}, {"city", "size", "insert_id"}])
def test_deselected_columns_are_left_out(left_out: set[str]) -> None:
    """A deselected column is neither written nor are its misfits counted."""
    line = b'{"event":"A","properties":{"time":1,"distinct_id":"u","$insert_id":"i","city":7,"size":"L"}}'
    columns = (PropertyColumn("city", "city", "string"), PropertyColumn("size", "size", "string"))
    selected = frozenset(EventSchema(property_columns=columns).columns) - left_out
    [everything], _ = converted([line], columns)
    [record], misfits = converted([line], columns, selected)
    assert json.loads(record) == {name: value for name, value in json.loads(everything).items() if name in selected}
    assert +misfits == ({} if "city" in left_out else {"city": 1})


def test_misfits_of_bad_lines_do_not_count() -> None:
    """A block that is converted again line by line counts once, and lines that make no record do not count."""
    good = b'{"event":"A","properties":{"time":1,"p":1}}'
    columns = (PropertyColumn("p", "p", "string"),)
    for bad in (b'{"event":"A","properties":{"p":1}}', b'{"event":1,"properties":{"p":1}}', b"[]", b' {"event":"A"}'):
        records, misfits = converted([good, bad, good], columns)
        assert (len(records), misfits["p"]) == (2, 2)


def test_an_unpaired_surrogate_passes() -> None:
    """A string with half a surrogate pair is copied, in the column as in `properties`."""
    line = rb'{"event":"A","properties":{"time":1,"$insert_id":"i","p":"\ud83d"}}'
    [record], misfits = converted([line], (PropertyColumn("p", "p", "string"), PropertyColumn("d", "p", "date-time")))
    assert record.count(rb'"\ud83d"') == 2
    assert +misfits == {"d": 1}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        ("string", {"type": ["string", "null"]}),
        ("date-time", {"type": ["string", "null"], "format": "date-time"}),
        ("json", {"type": ["object", "array", "null"], "additionalProperties": True}),
    ],
)
def test_columns_are_in_the_schema(kind: PropertyType, schema: dict[str, object]) -> None:
    """Chosen columns follow the others and may be null."""
    for made in (
        EventSchema(property_columns=(PropertyColumn("p", "p", kind),)),
        ProfileSchema(property_columns=(PropertyColumn("p", "p", kind),)),
    ):
        assert made.columns[-2:] == ("properties", "p")
        assert made.schema["properties"]["p"] == schema
        assert "p" not in made.schema["required"]


def test_long_texts_are_not_remembered_as_instants() -> None:
    """A `date-time` column over long texts takes no memory for them."""
    _in_utc.cache_clear()
    line = b'{"event":"A","properties":{"time":1,"$insert_id":"i","p":"%b"}}' % (b"x" * 20_000)
    _, misfits = converted([line], (PropertyColumn("at", "p", "date-time"),))
    assert misfits == {"at": 1}
    assert _in_utc.cache_info().currsize == 0
