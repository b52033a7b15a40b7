from __future__ import annotations

import json
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from tap_mixpanel_stream.records import BARE, BadProfile, Envelope, ProfileSchema
from tests.records import reference
from tests.records.event_strategies import spaces, strings, texts, values

USUAL = '{"$distinct_id":"u1","$properties":{"$email":"a@example.com","$last_seen":"2024-01-09T23:08:40","n":1.50}}'
USUAL_RECORD = '{"distinct_id":"u1","last_seen":"2024-01-09T23:08:40","properties":{"$email":"a@example.com","n":1.50}}'


def reject(bad: BadProfile) -> None:
    raise bad


def convert(*results: str | bytes, raw: bool = False, selected: frozenset[str] | None = None) -> list[bytes]:
    converter = ProfileSchema(raw).converter(envelope=BARE, selected=selected)
    out = converter.convert([result.encode() if isinstance(result, str) else result for result in results], reject)
    assert converter.records == len(results)
    return out.split(b"\n")[:-1]


def normalized(result: str) -> dict[str, object]:
    """Convert a result naively."""
    members = {key: value.text for key, value in reference.read(result).members}
    properties = {key: value.text for key, value in reference.read(members.get("$properties", "null")).members}
    last_seen = properties.pop("$last_seen", "null")
    return {
        "distinct_id": reference.as_text(members["$distinct_id"]),
        "last_seen": None if last_seen == "null" else reference.as_text(last_seen),
        "properties": {key: text.replace("\r", " ") for key, text in properties.items()},
    }


def parsed(record: bytes) -> dict[str, object]:
    assert b"\n" not in record
    assert b"\r" not in record
    members = dict(reference.read(record.decode()).members)
    assert list(members) == ["distinct_id", "last_seen", "properties"]
    last_seen = members["last_seen"].text
    return {
        "distinct_id": reference.text_of(members["distinct_id"].text),
        "last_seen": None if last_seen == "null" else reference.text_of(last_seen),
        "properties": {key: value.text for key, value in members["properties"].members},
    }


def test_a_normalized_profile() -> None:
    """A normalized profile has `last_seen` as a column, and every other value unchanged."""
    assert convert(USUAL) == [USUAL_RECORD.encode()]


def test_a_raw_profile_is_the_result_unchanged() -> None:
    """A raw profile is the result as it arrived."""
    assert convert(USUAL, '{"$distinct_id":12}', raw=True) == [USUAL.encode(), b'{"$distinct_id":12}']


def test_results_of_a_page_are_not_decoded() -> None:
    """The converter accepts the undecoded results of a page and counts them."""

    class Page(msgspec.Struct):
        results: list[msgspec.Raw]

    page = msgspec.json.decode(f'{{"page":0,"results":[{USUAL}, {USUAL}]}}', type=Page)
    envelope = Envelope(b"<", b">\n")
    for raw, record in ((False, USUAL_RECORD), (True, USUAL)):
        converter = ProfileSchema(raw).converter(envelope=envelope)
        assert converter.convert(page.results, reject) == f"<{record}>\n<{record}>\n".encode()
        assert converter.convert([], reject) == b""
        assert converter.records == 2


@pytest.mark.parametrize(
    ("result", "distinct_id", "last_seen"),
    [
        ('{"$distinct_id":123,"$properties":{"$last_seen":"x","a":1}}', "123", "x"),
        ('{"$distinct_id":-1.0,"$properties":{"a":1,"$last_seen":null}}', "-1.0", None),
        ('{"$distinct_id":"","$properties":{"a":1,"$last_seen":""}}', "", ""),
        ('{"$distinct_id":"u","$properties":{"a":1}}', "u", None),
        ('{"$distinct_id":"u","$properties":{"a":1,"$last_seen":1705328400.0}}', "u", "1705328400.0"),
        ('{"$distinct_id":"u","$properties":{"a":1,"$last_seen":{"b":"c"}}}', "u", '{"b":"c"}'),
        ('{"$distinct_id":"u","$properties":{"a":1,"$last_seen":"\\u00e9\\""}}', "u", 'é"'),
        ('{"$distinct_id":"u","$properties":{}}', "u", None),
        ('{"$distinct_id":"u","$properties":null}', "u", None),
        ('{"$distinct_id":"u"}', "u", None),
        ('{"$properties":{"$last_seen":"x"},"$distinct_id":"u"}', "u", "x"),
        ('{"$distinct_id":"v","$distinct_id":"u","$properties":{"$last_seen":"y","a":1,"$last_seen":"x"}}', "u", "x"),
        ('{"$distinct_id":"u","$properties":{"a":1,"$last_seen":"x"},"$properties":{"$last_seen":"y"}}', "u", "y"),
        ('{"$distinct_id":"u","$properties":{"a":{"b":1,"$last_seen":"y"},"$last_seen":"x"}}', "u", "x"),
        ('{"$distinct_id":"u","$properties":{"a":1,"$last_seen":"x","\\u0024last_seen":"y"}}', "u", "y"),
    ],
)
def test_ids_and_last_seen_of_any_type(result: str, distinct_id: str, last_seen: str | None) -> None:
    """`$distinct_id` and `$last_seen` of any type and place become text or null."""
    (record,) = convert(result)
    assert parsed(record) == normalized(result)
    assert (parsed(record)["distinct_id"], parsed(record)["last_seen"]) == (distinct_id, last_seen)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"a":1', "not a JSON object"),
        (b"{}", "`$distinct_id`"),
        (b'{"$distinct_id":null}', "`$distinct_id`"),
        (b'{"$distinct_id":"u","$properties":[]}', "`$properties` is not an object"),
        (b'{"$distinct_id":"\xff","$properties":{"$last_seen":"x"}}', "not UTF-8 at byte 18"),
        (b'{"$distinct_id":"u","$properties":{"a":NaN}}', "not a JSON object"),
        (b'{"$distinct_id":"u","$properties":{"a":1,"$last_seen":"x",}}', "not a JSON object"),
        (b'{"$distinct_id":"u","$properties":{,"$last_seen":"x"}}', "not a JSON object"),
        (b'{"$distinct_id":"u","$properties":{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}}", "nested too deeply"),
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_a_malformed_profile_has_an_index(result: bytes, reason: str, raw: bool) -> None:
    """The error for a malformed profile has its index and reason."""
    with pytest.raises(BadProfile) as caught:
        convert(USUAL, result, raw=raw)
    assert caught.value.index == 1
    assert reason in caught.value.reason


def test_the_index_counts_across_slices() -> None:
    """The index of a malformed profile counts the results of earlier slices."""
    converter = ProfileSchema(raw=False).converter(envelope=BARE)
    converter.convert([USUAL.encode()] * 3, reject)
    with pytest.raises(BadProfile, match="malformed profile at index 4"):
        converter.convert([USUAL.encode(), b"{}"], reject)


@pytest.mark.parametrize("raw", [False, True])
def test_malformed_profiles_can_be_skipped(raw: bool) -> None:
    """The other profiles become records; the index of a malformed one counts all results."""
    converter = ProfileSchema(raw).converter(envelope=BARE)
    bad: list[BadProfile] = []
    out = converter.convert([b"{}", USUAL.encode(), b'{"$distinct_id":"\xff"}'], bad.append)
    out += converter.convert([b"null"], bad.append)
    assert out.splitlines() == convert(USUAL, raw=raw)
    assert [(each.index, each.result) for each in bad] == [(0, b"{}"), (2, b'{"$distinct_id":"\xff"}'), (3, b"null")]
    assert (converter.records, converter.results) == (1, 4)


@pytest.mark.parametrize("key", ["1.5", "true", "[]", "{}"])
def test_a_raw_key_is_a_string_or_an_integer(key: str) -> None:
    """A raw `$distinct_id` of another type is malformed."""
    with pytest.raises(BadProfile, match="neither a string nor an integer"):
        convert(f'{{"$distinct_id":{key}}}', raw=True)
    big = f'{{"$distinct_id":{2**70}}}'
    assert convert(big, raw=True) == [big.encode()]


def test_an_indented_profile_becomes_one_line() -> None:
    """A profile over several lines becomes a record on one line."""
    laid_out = json.dumps(json.loads(USUAL), indent=2).replace("\n", "\r\n")
    (record,) = convert(laid_out)
    assert parsed(record)["distinct_id"] == "u1"
    (record,) = convert(laid_out, raw=True)
    assert b"\n" not in record
    assert b"\r" not in record
    assert json.loads(record) == json.loads(USUAL)


def test_nuls_of_profiles_are_removed_and_counted() -> None:
    """With `strip_nul`, NULs are removed and counted; an escaped backslash is no NUL."""
    for raw in (False, True):
        converter = ProfileSchema(raw).converter(envelope=BARE, strip_nul=True)
        out = converter.convert([USUAL.replace("a@", "\\u0000a\\\\u0000@").encode()], reject)
        assert converter.nuls == 1
        assert b'"a\\\\u0000@example.com"' in out


@pytest.mark.parametrize("raw", [False, True])
def test_deselected_columns_of_profiles(raw: bool) -> None:
    """Any set of deselected columns is omitted."""
    columns = ProfileSchema(raw).columns
    (everything,) = convert(USUAL, raw=raw)
    for count in range(len(columns) + 1):
        for selected in combinations(columns, count):
            (record,) = convert(USUAL, raw=raw, selected=frozenset(selected))
            assert json.loads(record) == {
                key: value for key, value in json.loads(everything).items() if key in selected
            }


@st.composite
def results(draw: st.DrawFn) -> str:
    members = [f"{json.dumps(draw(texts))}:{draw(values)}" for _ in range(draw(st.integers(0, 4)))]
    seen = f'{draw(st.sampled_from(["", "", " "]))}"$last_seen":{draw(st.one_of(strings, values))}'
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
        members.insert(draw(st.integers(0, len(members))), seen)
    properties = f"{{{','.join(members)}}}{draw(spaces)}"
    key = draw(st.one_of(strings, strings, st.sampled_from(["1", "true", "[1]"])))
    ends = draw(st.sampled_from(["", "", ',"x":{}', ',"$properties":{}']))
    return f'{{"$distinct_id":{key},"$properties":{properties}{ends}}}'


@settings(max_examples=300)
@given(results())
def test_any_profile_matches_the_reference(result: str) -> None:
    """Any profile is converted as by a naive reference."""
    (record,) = convert(result)
    assert parsed(record) == normalized(result)
