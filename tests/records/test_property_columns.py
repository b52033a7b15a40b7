"""Properties as columns, compared with the naive reference."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings, strategies as st

from tap_mixpanel_stream.records import BARE, BadLine, EventSchema, ProfileSchema
from tap_mixpanel_stream.records.property_columns import PROPERTY_TYPES, PropertyColumn, PropertyType, _in_utc
from tests.records import reference
from tests.records.event_strategies import event_lines, strings, values

if TYPE_CHECKING:
    from collections.abc import Sequence


def named(kind: PropertyType, number: int = 0) -> str:
    return f"{kind.replace('-', '_')}_{number}"


# Properties that `event_lines` generates, and one that it does not.
NAMES = ["time", "distinct_id", "$insert_id", "a", "$city", "é", "\u2028", "", "x,", "missing"]
COLUMNS = tuple(PropertyColumn(named(kind, at), name, kind) for kind in PROPERTY_TYPES for at, name in enumerate(NAMES))


def converted(
    lines: Sequence[bytes], columns: tuple[PropertyColumn, ...], selected: frozenset[str] | None = None
) -> tuple[list[bytes], Counter[str]]:
    """Return the records of lines, and the number of misfits for each column."""
    bad: list[BadLine] = []
    converter = EventSchema(property_columns=columns).converter(
        envelope=BARE, on_bad_line=bad.append, selected=selected
    )
    records = converter.convert(b"".join(line + b"\n" for line in lines)).splitlines()
    return records, converter.misfits


def expected(line: bytes, columns: Sequence[PropertyColumn]) -> tuple[dict[str, object], Counter[str]]:
    """Return the reference's record of a line, and the number of misfits for each column."""
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
def test_a_column_value_is_kept_or_null(value: str) -> None:
    """A value of the column's type is kept byte for byte; another is null, counted and in `properties`."""
    line = f'{{"event":"A","properties":{{"time":1,"$insert_id":"i","p":{value}}}}}'.encode()
    columns = tuple(PropertyColumn(named(kind), "p", kind) for kind in PROPERTY_TYPES)
    [record], misfits = converted([line], columns)
    wanted, wanted_misfits = expected(line, columns)
    assert reference.parsed(record, {column.name for column in columns}) == wanted
    assert +misfits == wanted_misfits


@settings(max_examples=300)
@given(st.lists(event_lines(), min_size=1, max_size=5))
def test_property_columns_of_any_events(lines: list[bytes]) -> None:
    """Property columns of any events match the reference, also for properties with columns of their own."""
    wanted, misfits = [], Counter[str]()
    for line in lines:
        try:
            record, of_line = expected(line, COLUMNS)
        except (reference.InvalidEvent, reference.InvalidJson):
            continue
        wanted.append(record)
        misfits += of_line
    records, found = converted(lines, COLUMNS)
    assert [reference.parsed(record, {column.name for column in COLUMNS}) for record in records] == wanted
    assert +found == misfits


@settings(max_examples=150)
@given(st.dictionaries(strings.map(json.loads), VALUES, max_size=6), VALUES)
def test_property_columns_of_any_profile(properties: dict[str, str], value: str) -> None:
    """Property columns of any profile match the reference."""
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


def test_a_property_column_keeps_the_made_insert_id() -> None:
    """A column changes neither the made id nor the other columns."""
    line = b'{"event":"A","properties":{"time":1,"distinct_id":"u","city":"Bern"}}'
    [plain], _ = converted([line], ())
    [record], _ = converted([line], (PropertyColumn("city", "city", "string"),))
    assert json.loads(record) == json.loads(plain) | {"city": "Bern"}


@pytest.mark.parametrize("deselected", [{"city"}, {"properties"}, {"city", "size", "insert_id"}])
def test_deselected_property_columns(deselected: set[str]) -> None:
    """A deselected column is omitted, and its misfits are not counted."""
    line = b'{"event":"A","properties":{"time":1,"distinct_id":"u","$insert_id":"i","city":7,"size":"L"}}'
    columns = (PropertyColumn("city", "city", "string"), PropertyColumn("size", "size", "string"))
    selected = frozenset(EventSchema(property_columns=columns).columns) - deselected
    [everything], _ = converted([line], columns)
    [record], misfits = converted([line], columns, selected)
    assert json.loads(record) == {name: value for name, value in json.loads(everything).items() if name in selected}
    assert +misfits == ({} if "city" in deselected else {"city": 1})


def test_misfits_of_malformed_lines_are_not_counted() -> None:
    """A block converted again line by line counts once, and malformed lines do not count."""
    good = b'{"event":"A","properties":{"time":1,"p":1}}'
    columns = (PropertyColumn("p", "p", "string"),)
    for bad in (b'{"event":"A","properties":{"p":1}}', b'{"event":1,"properties":{"p":1}}', b"[]", b' {"event":"A"}'):
        records, misfits = converted([good, bad, good], columns)
        assert (len(records), misfits["p"]) == (2, 2)


def test_a_column_keeps_an_unpaired_surrogate() -> None:
    """An unpaired surrogate is kept in the column as in `properties`."""
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
def test_property_columns_are_in_the_schema(kind: PropertyType, schema: dict[str, object]) -> None:
    """Property columns follow the others in the schema and may be null."""
    for made in (
        EventSchema(property_columns=(PropertyColumn("p", "p", kind),)),
        ProfileSchema(property_columns=(PropertyColumn("p", "p", kind),)),
    ):
        assert made.columns[-2:] == ("properties", "p")
        assert made.schema["properties"]["p"] == schema
        assert "p" not in made.schema["required"]


def test_long_texts_are_not_cached_as_times() -> None:
    """Long texts in a `date-time` column are not cached."""
    _in_utc.cache_clear()
    line = b'{"event":"A","properties":{"time":1,"$insert_id":"i","p":"%b"}}' % (b"x" * 20_000)
    _, misfits = converted([line], (PropertyColumn("at", "p", "date-time"),))
    assert misfits == {"at": 1}
    assert _in_utc.cache_info().currsize == 0
