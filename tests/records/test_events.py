from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings, strategies as st

from tap_mixpanel_stream.records import BARE, BadLine, Envelope, EventSchema, LineCutter, TruncatedBody
from tap_mixpanel_stream.records.event_tally import EventTally
from tap_mixpanel_stream.surrogates import mask
from tests.records import reference
from tests.records.event_strategies import corrupted_lines, event_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

ENVELOPE = Envelope(b'{"type":"RECORD","record":', b',"x":1}\n')
ZONES = [None, ZoneInfo("Europe/Berlin"), ZoneInfo("America/St_Johns")]
USUAL = (
    b'{"event":"A B","properties":{"time":1705328400,"distinct_id":"u1","a":1.50,"$city":"Z\xc3\xbcrich",'
    b'"$insert_id":"i1","c":{"d":[1,2]}}}'
)
USUAL_RECORD = (
    b'{"event_name":"A B","event_time":"2024-01-15T14:20:00+00:00","distinct_id":"u1","insert_id":"i1",'
    b'"properties":{"a":1.50,"$city":"Z\xc3\xbcrich","c":{"d":[1,2]}}}'
)


@dataclass
class Run:
    """The result of converting a body."""

    records: list[bytes]
    bad: list[BadLine]
    lines: int
    nuls: int


def convert(
    body: bytes,
    *,
    raw: bool = False,
    chunks: Sequence[int] = (),
    selected: frozenset[str] | None = None,
    zone: ZoneInfo | None = None,
    strip_nul: bool = False,
) -> Run:
    bad: list[BadLine] = []
    cutter = LineCutter()
    converter = EventSchema(raw).converter(
        envelope=ENVELOPE, selected=selected, zone=zone, strip_nul=strip_nul, on_bad_line=bad.append
    )
    edges = [0, *sorted(min(place, len(body)) for place in chunks), len(body)]
    out = b"".join(converter.convert(cutter.cut(body[start:end])) for start, end in pairwise(edges))
    out += converter.finish(cutter.rest())
    lines = out.split(b"\n")
    assert lines.pop() == b""
    assert converter.records == len(lines)
    assert all(line.startswith(ENVELOPE.head) and line.endswith(ENVELOPE.tail[:-1]) for line in lines)
    records = [line[len(ENVELOPE.head) : 1 - len(ENVELOPE.tail)] for line in lines]
    return Run(records, bad, converter.lines, converter.nuls)


def one(line: bytes, **settings: object) -> bytes:
    run = convert(line + b"\n", **settings)  # type: ignore[arg-type]
    assert not run.bad
    (record,) = run.records
    return record


def with_properties(text: str) -> bytes:
    return f'{{"event":"A","properties":{{"time":1705328400,"distinct_id":"u1",{text}}}}}'.encode()


# --- the usual line


def test_a_normalized_record() -> None:
    """A normalized record has columns, and every other value unchanged under `properties`."""
    assert one(USUAL) == USUAL_RECORD


def test_a_raw_record_is_the_line_unchanged() -> None:
    """A raw record is the line as it arrived."""
    assert one(USUAL, raw=True) == USUAL


LITERALS = f'"a":1.50,"b":1e400,"c":{2**70},"d":-0,"e":"\\u00e9\\/","f":[1 , 2],"g":{{"z":1,"a":2}},"h":null,"i":1E+2'


@pytest.mark.parametrize(
    "line",
    [
        with_properties(LITERALS + ',"$insert_id":"i1"'),
        with_properties('"$insert_id":"i1",' + LITERALS),
        with_properties(LITERALS.replace(',"f"', ',"$insert_id":"i1","f"')),
        with_properties(LITERALS + ',"$insert_id":"\\u0069\\u0031"'),
        with_properties(LITERALS + ', "$insert_id" : "i1"'),
        b'{"properties":{"time":1705328400,"distinct_id":"u1",'
        + LITERALS.encode()
        + b',"$insert_id":"i1"},"event":"A"}',
        b'{"event":"A","properties":{"distinct_id":"u1","time":1705328400,'
        + LITERALS.encode()
        + b',"$insert_id":"i1"}}',
    ],
)
def test_values_are_kept_byte_for_byte(line: bytes) -> None:
    """Values are kept byte for byte, wherever the columns were in the line."""
    assert one(line).endswith(b'"properties":{' + LITERALS.encode() + b"}}")
    assert reference.parsed(one(line)) == reference.normalized(line)
    assert reference.parsed(one(line))["insert_id"] == "i1"


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (USUAL[:-1] + b',"dataset":"d","labels":["a"]}', USUAL_RECORD),
        (USUAL.replace(b"A B", rb"The \"A\" \u0042"), USUAL_RECORD.replace(b"A B", rb"The \"A\" \u0042")),
        (USUAL.replace(b"5328400", b"5328400.271"), USUAL_RECORD.replace(b"20:00", b"20:00.271")),
        (USUAL.replace(b"5328400", b"5328400000"), USUAL_RECORD),
        (USUAL.replace(b"1705328400", b'"1705328400"'), USUAL_RECORD),
        (USUAL.replace(b'"u1"', b"12"), USUAL_RECORD.replace(b'"u1"', b'"12"')),
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_mixed_layouts_keep_their_values(line: bytes, record: bytes, count: int) -> None:
    """A line of another layout is converted correctly in a block of such lines and among others."""
    run = convert((USUAL + b"\n" + line + b"\n") * count)
    assert run.records == [USUAL_RECORD, record] * count


# --- columns of another type


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("123", "123"),
        ("1.0", "1.0"),
        ("true", "true"),
        ("null", ""),
        ('""', ""),
        ('{"a":"b"}', '{"a":"b"}'),
        ('"\\u00e9\\""', 'é"'),
    ],
)
def test_distinct_id_of_any_type_becomes_text(value: str, text: str) -> None:
    """`distinct_id` of any JSON type becomes text."""
    line = f'{{"event":"A","properties":{{"time":1705328400,"distinct_id":{value},"$insert_id":"i","a":1}}}}'.encode()
    assert reference.parsed(one(line))["distinct_id"] == text


def test_a_missing_distinct_id_is_empty_text() -> None:
    """A missing `distinct_id` becomes the empty string."""
    line = b'{"event":"A","properties":{"time":1705328400,"$insert_id":"i","a":1}}'
    assert reference.parsed(one(line))["distinct_id"] == ""


@pytest.mark.parametrize(
    ("value", "text"), [("12", "12"), ("false", "false"), ('[1,"x"]', '[1,"x"]'), ('"a\\\\"', "a\\")]
)
def test_an_insert_id_of_any_type_becomes_text(value: str, text: str) -> None:
    """`$insert_id` of any JSON type becomes text."""
    assert reference.parsed(one(with_properties(f'"a":1,"$insert_id":{value},"b":2')))["insert_id"] == text


@pytest.mark.parametrize(
    "line",
    [
        b'{"event":"\\u0041 \\"","properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"i","a":1}}',
        b'{"event":"","properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"i","a":1}}',
        b'{"properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"i","a":1},"event":"x\\\\"}',
    ],
)
def test_an_event_may_have_any_name(line: bytes) -> None:
    """An event name may be empty or contain escapes."""
    assert reference.parsed(one(line)) == reference.normalized(line)


@pytest.mark.parametrize("properties", [b"", b',"properties":null', b',"properties":{}'])
def test_a_raw_event_needs_no_properties(properties: bytes) -> None:
    """A raw event may have missing, null or empty properties."""
    line = b'{"event":"A"' + properties + b"}"
    assert one(line, raw=True) == line


def test_a_normalized_event_may_have_no_other_properties() -> None:
    """An event with only column properties has empty `properties`."""
    line = b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u1","$insert_id":"i1"}}'
    assert one(line).endswith(b'"insert_id":"i1","properties":{}}')


def test_other_top_level_keys_are_only_in_raw_records() -> None:
    """Other top-level keys are in raw records, but not in normalized ones."""
    line = USUAL[:-1] + b',"dataset":"d"}'
    assert one(line, raw=True) == line
    assert one(line) == USUAL_RECORD


def test_the_last_of_duplicate_keys_wins() -> None:
    """The last of duplicate keys counts; a raw record keeps both."""
    properties = b'{"time":"x","time":1705328400,"a":1,"a":2,"$insert_id":"i"}'
    line = b'{"event":1,"event":"A","properties":[],"properties":' + properties + b"}"
    record = reference.parsed(one(line))
    assert (record["event_name"], record["properties"]) == ("A", {"a": "2"})
    assert one(line, raw=True) == line


@pytest.mark.parametrize(
    "line",
    [
        with_properties('"$insert_id":"a","b":1,"$insert_id":"a"'),
        with_properties('"b":1,"$insert_id":"a","c":2,"$insert_id":"a"'),
        with_properties('"b":1,"$insert_id":"a","\\u0024insert_id":"b"'),
        with_properties('"$insert_id":"a","b":1,"$insert_id":""'),
        with_properties('"$insert_id":"","b":1,"$insert_id":"a"'),
        with_properties('"$insert_id":"","$insert_id":"a","b":1'),
        with_properties('"b":1,"$insert_id":"a","time":1705328400'),
        with_properties('"time":1705328401,"b":1,"$insert_id":"a"'),
        with_properties('"b":1,"distinct_id":"u1","c":1'),
        with_properties('"b":1,"$insert_id":"a","distinct_id":null'),
        with_properties('"b":1,"$insert_id":null'),
        with_properties('"b":{"c":1}},"d":{"e":{"f":2},"$insert_id":"a"'),
        with_properties('"$insert_id":"a","b":{"c":1}},"d":{"e":{"f":2}'),
        with_properties('"$insert_id":null'),
        with_properties('"$insert_id":"a","b":1,"$insert_id":null'),
        with_properties('"$insert_id":"a","distinct_id":null'),
        with_properties('"b":1,"distinct_id":"u1","$insert_id":"a","c":1'),
        with_properties('"b":1,"$insert_id":"a","distinct_id":"u1"'),
        with_properties('"$insert_id":"a","b":1,"distinct_id":"u1"'),
        with_properties('"b":{"c":1,"$insert_id":"x"},"$insert_id":"a"'),
        with_properties('"b":[{"c":1,"$insert_id":"x"}],"d":2'),
        with_properties('"b":"x\\",\\"$insert_id\\":\\"y","$insert_id":"a"'),
        with_properties('"b":"x\\\\","$insert_id":"a"'),
        with_properties('"b":",","$insert_id":"a\\"","c":1'),
        with_properties('"x,\\"$insert_id":"y","$insert_id":"a","":0'),
        with_properties('"b":1,"$insert_id":"a"'),
        with_properties('"b":1,"$insert_id":"a"},"":{"x":1'),
        with_properties('"b":1,"$insert_id":"a","p":{"x":"},\\"event\\":\\"X"}'),
        b'{"properties":{"time":1705328400,"distinct_id":"u","b":{"c":1},"$insert_id":"a"},"event":"A","event":"B"}',
        b'{"properties":{"time":1705328400,"distinct_id":"u","b":{"c":1},"$insert_id":"a"},"x":{"y":1},"event":"B"}',
        b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","b":1},"event":"B"}',
        b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","b":1},"x":{}}',
    ],
)
def test_text_that_looks_like_a_column_is_not_one(line: bytes) -> None:
    """Nested, escaped or duplicate keys that look like columns are read as JSON defines."""
    assert reference.parsed(one(line)) == reference.normalized(line)
    assert one(line, raw=True) == line


@pytest.mark.parametrize(
    "line",
    [
        with_properties(',"$insert_id":"a"'),
        with_properties(',"$insert_id":"a","b":1'),
        with_properties(' ,"$insert_id":"a","b":1'),
        with_properties('"$insert_id":"a",'),
        with_properties('"b":1,"$insert_id":"a",'),
        with_properties('"b":1,,"$insert_id":"a"'),
        with_properties('"b":1,"$insert_id":"a",,"c":1'),
        with_properties('"b":"x,"$insert_id":"a"","c":1'),
        with_properties('"b":"x,"$insert_id":"a",","c":1'),
        with_properties('"b":,"$insert_id":"a"1,"c":1'),
        with_properties('"b":1},"c":{"d":2,"$insert_id":"a"')[:-1],
        with_properties('"b":1,"$insert_id":"a\tb"'),
        with_properties(""),
        with_properties('"b":01'),
        b'{"event":"A\tB","properties":{"time":1705328400,"distinct_id":"u","b":1}}',
        b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u\x00","b":1}}',
        b'{"event":"A","properties":{"time":01705328400,"distinct_id":"u","b":1}}',
        b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","b":1}]',
        b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","b":1}}}',
        b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","b":1}} {}',
        USUAL + USUAL,
        USUAL + b"," + USUAL,
        b'{"properties":{"time":1705328400,"distinct_id":"u","b":{"c":1,"event":"A"}',
        b'{"properties":{"time":1705328400,"distinct_id":"u",},"event":"A"}',
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_a_nearly_valid_event_is_malformed(line: bytes, raw: bool) -> None:
    """A line with a small JSON error is malformed; its neighbors become records."""
    with pytest.raises(reference.InvalidJson):
        reference.normalized(line)
    run = convert(USUAL + b"\n" + line + b"\n" + USUAL + b"\n", raw=raw)
    assert [(bad.number, bad.line, bad.is_json) for bad in run.bad] == [(2, line, False)]
    assert len(run.records) == 2


@pytest.mark.parametrize("raw", [False, True])
def test_line_and_event_must_match(raw: bool) -> None:
    """An event on two lines, or two events on one, is malformed even if the counts match."""
    whole, half = USUAL, len(USUAL) // 2
    start, end = whole[: whole.index(b'"properties"')], whole[whole.index(b'"properties"') :]
    run = convert(b"\n".join([start, end, whole + whole, whole[:half], whole, b""]), raw=raw)
    assert [bad.number for bad in run.bad] == [1, 2, 3, 4]
    assert len(run.records) == 1


# --- unpaired surrogates: escapes that are valid JSON but not valid text


@pytest.mark.parametrize(
    "half", ["\\ud83d", "\\uDE00x", "\\ud83d\\ud83d\\ude00", "\x7fhalf-0\x7f\\ud83d", "\\\\\\ud83d"]
)
def test_an_unpaired_surrogate_is_kept(half: str) -> None:
    """An unpaired surrogate is kept in raw and normalized records."""
    line = with_properties(f'"$insert_id":"i{half}","k{half}":["v{half}"]').replace(b'"A"', f'"{half}"'.encode())
    assert one(line, raw=True) == line
    record = one(line)
    for text in (f'"event_name":"{half}"', f'"insert_id":"i{half}"', f':["v{half}"]'):
        assert text.encode() in record
    # A key may be escaped differently, because such a line is read member by member.
    assert json.loads(record)["properties"] == json.loads(f'{{"k{half}":["v{half}"]}}')


def test_a_made_insert_id_with_a_surrogate_is_stable() -> None:
    """An id made from an unpaired surrogate is stable and depends on it."""
    line = with_properties('"a":"\\ud83d"')
    assert one(line) == one(line)
    assert one(line) != one(line.replace(b"ud83d", b"ud83c"))


# --- malformed lines


BAD = {
    b"null": "not a JSON object",
    b"[]": "not a JSON object",
    b"123": "not a JSON object",
    b'"x"': "not a JSON object",
    b"{}": "`event` is missing",
    b'{"event":null,"properties":{}}': "`event` is not a string",
    b'{"event":{"a":1},"properties":{}}': "`event` is not a string",
    b'{"event":"A","properties":[]}': "`properties` is not an object",
    b'{"event":"A","properties":"x"}': "`properties` is not an object",
    b'{"a":"terminated early"}': "`event` is missing",
    b'{"event":1,"error":"x"}': "`event` is not a string",
    b'{"event":"A","properties":{"time":NaN}}': "NaN or Infinity",
    b'{"event":"A","properties":{"time":1705328400,"distinct_id":"u","a":-Infinity}}': "NaN or Infinity",
    b"<html>": "not JSON: ",
    b"\x0c": "not JSON: ",
    b'{"event":"A","properties":{"a":"x\x1fy"}}': "not JSON: ",
    b'{"event":"A","properties":{"a":"x\ry"}}': "not JSON: ",
    b'{"event":"A","properties":{"a":"\\x"}}': "not JSON: ",
    b'{"event":"A","properties":{"a":"\xff"}}': "not UTF-8 at byte 33",
    b'{"event":"A","properties":{"\xed\xa0\x80":1}}': "not UTF-8 at byte 29",
    b'{"event":"\xc3","properties":{"time":1}}': "not UTF-8 at byte 11",
}


@pytest.mark.parametrize(("line", "reason"), BAD.items())
@pytest.mark.parametrize("raw", [False, True])
def test_a_malformed_line_has_a_number_and_a_reason(line: bytes, reason: str, raw: bool) -> None:
    """Each kind of malformed line is reported with its number, text and reason."""
    run = convert(b"\n".join([USUAL, line, b"", line, USUAL, b""]), raw=raw)
    assert [bad.number for bad in run.bad] == [2, 4]
    assert all(bad.line == line and reason in bad.reason for bad in run.bad)
    assert len(run.records) == 2
    assert run.lines == 5


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        *((f'"time":{value},', "not a number") for value in ("null", "true", "[]", '"x"', '"NaN"', '""')),
        ('"time":1705328400,"time":null,', "not a number"),
        *((f'"time":{value},', "years 1 to 9999") for value in ("1e400", "9999999999999999", "-62135596801")),
        ("", "missing"),
    ],
)
def test_an_event_without_a_valid_time(time: str, reason: str) -> None:
    """Without a valid time a line is malformed when normalized, and a record when raw."""
    line = f'{{"event":"A","properties":{{{time}"distinct_id":"u1","a":1}}}}'.encode()
    (bad,) = convert(line + b"\n").bad
    assert reason in bad.reason
    assert bad.is_json
    assert one(line, raw=True) == line


class RejectedError(Exception):
    pass


@pytest.mark.parametrize("raw", [False, True])
def test_on_bad_line_may_raise(raw: bool) -> None:
    """An exception raised by `on_bad_line` ends the conversion."""

    def reject(bad: BadLine) -> None:
        raise RejectedError from bad

    converter = EventSchema(raw).converter(envelope=BARE, on_bad_line=reject)
    with pytest.raises(RejectedError):
        converter.convert(USUAL + b"\nx\n")
    with pytest.raises(BadLine, match="malformed line 2: `event` is missing"):
        EventSchema(raw).converter(envelope=BARE, on_bad_line=_raise).convert(USUAL + b"\n{}\n")


def _raise(bad: BadLine) -> None:
    raise bad


# --- unusual lines, in both shapes


UNUSUAL = {
    "half a surrogate pair": '"a":"\\ud800"',
    "a number past 64 bits": f'"a":{2**70}',
    "a number past a double": '"a":1e400',
    "NUL": '"a":"\\u0000"',
    "line separators of Unicode": '"a":"\u2028\u2029\x85"',
    "a key given twice in a value": '"a":{"b":1,"b":2}',
    "5 MB": f'"a":"{"x" * 5_000_000}"',
    "300 levels": f'"a":{"[" * 300}{"]" * 300}',
}
MALFORMED = {
    "bytes that are not UTF-8": (b'"a":"\xff"', "not UTF-8"),
    "a million levels": (b'"a":' + b"[" * 1_000_000 + b"]" * 1_000_000, "nested too deeply"),
    "NaN": (b'"a":NaN', "NaN or Infinity"),
    "half a value": (b'"a":"', "not JSON"),
}


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n\xef\xbb\xbf"], ids=["LF", "CR LF", "blank lines", "BOM"])
@pytest.mark.parametrize("oddity", UNUSUAL)
def test_an_unusual_line_is_kept(oddity: str, end: bytes, raw: bool) -> None:
    """An unusual but valid line is kept unchanged, with any line ending."""
    line = with_properties(UNUSUAL[oddity] + ',"$insert_id":"i"')
    at_start, at_end = (b"\xef\xbb\xbf", b"\n") if b"\xef" in end else (b"", end)
    run = convert(at_start + USUAL + at_end + line + at_end + USUAL + at_end, raw=raw)
    assert (run.bad, len(run.records)) == ([], 3)
    assert UNUSUAL[oddity].encode() in run.records[1]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("oddity", MALFORMED)
def test_an_unreadable_line_is_reported_unchanged(oddity: str, raw: bool) -> None:
    """An unreadable line is reported byte for byte, and its error is short and printable."""
    text, reason = MALFORMED[oddity]
    line = b'{"event":"A","properties":{"time":1705328400,"$insert_id":"i",' + text + b"}}"
    run = convert(USUAL + b"\n" + line + b"\r\n" + USUAL + b"\n", raw=raw)
    (bad,) = run.bad
    assert (bad.number, bad.line) == (2, line + b"\r")
    assert reason in bad.reason
    assert str(bad).isprintable()
    assert len(str(bad)) < 500
    assert len(run.records) == 2


# --- the end of a body, and signs of truncation


SENTINELS = [
    b"terminated early",
    b"export terminated early",
    b"[terminated early]",
    b"  Terminated early.\r",
    b"export terminated early: out of time",
    b'"terminated early"',
    b'{"event":"A","properties":{"tiexport terminated early',
    b'{"error":"x"}',
    b'{"error":',
    b' { "error" : {"a":1}, "status":"error"}',
    b'{"request":"/api/2.0/export","error":"x","status":"error"}',
]


@pytest.mark.parametrize("line", SENTINELS)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("after", [b"", b"\n", b"\n" + USUAL + b"\n"])
def test_a_sentinel_means_a_truncated_body(line: bytes, raw: bool, after: bytes) -> None:
    """An error line in a 200 means a truncated body, even if malformed lines are skipped."""
    with pytest.raises(TruncatedBody, match="line 2") as caught:
        convert(USUAL + b"\n" + line + after, raw=raw)
    assert caught.value.line == line


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    "line",
    [
        b'{"message":"Internal error","code":500}',
        b'{"status":"error","message":"upstream timed out"}',
        b'{"errors":["x"]}',
        b'"Service temporarily unavailable"',
        b"null",
        b"503",
        b"[]\n[]",
    ],
)
def test_a_body_without_any_event_is_truncated(line: bytes, raw: bool) -> None:
    """A body without any event-like line is truncated, even if malformed lines are skipped."""
    for body in (line, line + b"\n", b"\n" + line + b"\n\n"):
        with pytest.raises(TruncatedBody):
            convert(body, raw=raw)
    for body in (USUAL + b"\n" + line, line + b"\n" + USUAL):
        assert len(convert(body, raw=raw).records) == 1


@pytest.mark.parametrize("line", [b'{"event":7}', b'{"properties":[]}', b'{"a":1,"event":null,"properties":3}'])
def test_a_body_of_malformed_events_is_complete(line: bytes) -> None:
    """A body of malformed events is complete: its lines are malformed one by one."""
    assert [bad.line for bad in convert(line, raw=True).bad] == [line]


def test_an_event_with_an_error_key_is_an_event() -> None:
    """An event with an `error` key and a sentinel's text is an event."""
    line = b'{"error":"terminated early",' + USUAL[1:]
    assert one(line, raw=True) == line
    assert one(line) == USUAL_RECORD


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("newline", [b"", b"\n", b"\n\n", b"\r\n \n\t"])
def test_an_invalid_last_line_means_a_truncated_body(raw: bool, newline: bytes) -> None:
    """A last line that is not JSON means a truncated body, with or without a line break."""
    body = USUAL + b"\n" + USUAL
    for length in range(len(USUAL) + 2, len(body)):
        with pytest.raises(TruncatedBody, match="line 2"):
            convert(body[:length] + newline, raw=raw)
    assert len(convert(body + newline, raw=raw).records) == 2


def test_a_last_line_that_is_no_event_is_malformed() -> None:
    """A last line that parses but is not an event is malformed, not truncated."""
    for last in (b"{}", b'{"event":"A","properties":{"time":NaN}}'):
        for newline in (b"", b"\n"):
            assert [bad.number for bad in convert(USUAL + b"\n" + last + newline).bad] == [2]


def test_an_invalid_line_before_the_last_is_malformed() -> None:
    """A line before the last that does not parse is malformed."""
    run = convert(b'{"event\n\n' + USUAL + b"\n\n")
    assert [(bad.number, bad.is_json) for bad in run.bad] == [(1, False)]
    assert (run.lines, len(run.records)) == (4, 1)


@pytest.mark.parametrize("raw", [False, True])
def test_a_body_without_lines_is_complete(raw: bool) -> None:
    """An empty body, or one of blank lines, is complete."""
    assert convert(b"", raw=raw) == Run([], [], 0, 0)
    assert convert(b"\n \r\n\t", raw=raw) == Run([], [], 3, 0)


def test_a_block_must_end_with_a_newline() -> None:
    """`convert` rejects a block that does not end with a newline."""
    with pytest.raises(ValueError, match="whole lines"):
        EventSchema(raw=True).converter(envelope=BARE, on_bad_line=_raise).convert(USUAL)


# --- byte order marks, carriage returns and invalid UTF-8


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_leading_byte_order_mark_is_dropped(raw: bool, newline: bytes) -> None:
    """A byte order mark is dropped at the start of a body and malformed anywhere else."""
    mark = b"\xef\xbb\xbf"
    assert len(convert(mark + USUAL + newline, raw=raw).records) == 1
    assert len(convert(mark + USUAL + b"\n" + mark + USUAL + b"\n" + USUAL + newline, raw=raw).bad) == 1


@pytest.mark.parametrize("raw", [False, True])
def test_carriage_returns_never_reach_a_record(raw: bool) -> None:
    """Carriage returns between JSON tokens become spaces or are dropped."""
    line = b'\r{\r"event":"A B",\r"properties":{"time":1705328400,"distinct_id":"u1","a":[1,\r2],"$insert_id":"i"\r}}\r'
    run = convert(line + b"\n" + USUAL + b"\r\n" + USUAL + b"\r", raw=raw)
    assert not run.bad
    assert len(run.records) == 3
    assert b"\r" not in b"".join(run.records)
    assert json.loads(run.records[0])["properties"]["a"] == [1, 2]
    assert run.records[1:] == [USUAL if raw else USUAL_RECORD] * 2


def test_unicode_line_separators_in_strings_are_kept() -> None:
    """Unicode line separators inside strings are kept and end no line."""
    line = with_properties('"a":"\u2028\u2029\x85\x7f","$insert_id":"i"')
    assert one(line, raw=True) == line
    assert '"a":"\u2028\u2029\x85\x7f"'.encode() in one(line)


@pytest.mark.parametrize("raw", [False, True])
def test_invalid_utf8_affects_only_its_line(raw: bool) -> None:
    """Only the line with invalid UTF-8 is malformed, not its block."""
    spoiled = USUAL.replace(b"\xc3\xbc", b"\xfc")
    run = convert((USUAL + b"\n") * 50 + spoiled + b"\n" + (USUAL + b"\n") * 50, raw=raw)
    assert len(run.records) == 100
    assert [(bad.number, bad.line) for bad in run.bad] == [(51, spoiled)]


# --- extremes


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("depth", [2_000, 100_000, 1_000_000])
def test_deep_nesting_never_crashes(raw: bool, depth: int) -> None:
    """A deeply nested line is a record or a malformed line."""
    line = with_properties(f'"$insert_id":"i","a":{"[" * depth}{"]" * depth}')
    run = convert(line + b"\n" + USUAL + b"\n", raw=raw)
    assert len(run.records) + len(run.bad) == 2
    if run.bad:  # Always true for Python 3.11, which reads as deep as its recursion limit.
        assert run.bad[0].reason == "nested too deeply"


def test_300_nested_levels_are_a_record() -> None:
    """300 nested levels are a record."""
    line = with_properties(f'"$insert_id":"i","a":{"[" * 300}{"]" * 300}')
    assert one(line, raw=True) == line
    assert len(one(line)) > 600


@pytest.mark.parametrize("raw", [False, True])
def test_a_line_of_5_mb_is_a_record(raw: bool) -> None:
    """A line of 5 MB that arrives in many chunks is a record."""
    line = with_properties('"a":"' + "x" * 5_000_000 + '","$insert_id":"i"')
    record = one(line, raw=raw, chunks=range(0, 6_000_000, 65_536))
    assert len(record) > 5_000_000
    assert json.loads(record)["properties"]["a"] == "x" * 5_000_000


def test_numbers_of_any_length_are_kept() -> None:
    """A number with more digits than Python converts is kept."""
    digits = "9" * (sys.get_int_max_str_digits() + 1)
    assert f'"a":{digits}'.encode() in one(with_properties(f'"a":{digits},"b":1'))


# --- deselected columns


@pytest.mark.parametrize("line", [USUAL, USUAL.replace(b'"u1"', b"12"), USUAL.replace(b'"$insert_id":"i1",', b"")])
@pytest.mark.parametrize("deselected", range(32))
def test_deselected_columns_of_normalized_records(line: bytes, deselected: int) -> None:
    """Any set of deselected columns is omitted from normalized records."""
    columns = EventSchema(raw=False).columns
    selected = frozenset(column for place, column in enumerate(columns) if not deselected >> place & 1)
    everything = reference.normalized(line)
    record = reference.parsed(one(line, selected=selected))
    assert record == {column: everything[column] for column in columns if column in selected}
    assert list(record) == [column for column in columns if column in selected]


@pytest.mark.parametrize(
    ("selected", "record"),
    [
        ({"event"}, b'{"event":"A B","x":[1, 2]}'),
        ({"properties"}, b'{"properties":{"time":1.0},"x":[1, 2]}'),
        (set(), b'{"x":[1, 2]}'),
        ({"event", "properties"}, b'{"event": "A B", "properties":{"time":1.0}, "x":[1, 2]}'),
    ],
)
def test_deselected_columns_of_raw_records(selected: set[str], record: bytes) -> None:
    """Deselected columns are omitted from raw records."""
    line = b'{"event": "A B", "properties":{"time":1.0}, "x":[1, 2]}'
    assert one(line, raw=True, selected=frozenset(selected)) == record


# --- NUL


@pytest.mark.parametrize("raw", [False, True])
def test_nuls_are_removed_and_counted(raw: bool) -> None:
    """With `strip_nul`, NULs are removed from keys and values and counted."""
    line = with_properties(r'"$insert_id":"i","a\u0000b":"\u0000x\u0000","c":"\\u0000","d":"\\\u0000","e":"\"\u0000"')
    run = convert(line + b"\n" + USUAL + b"\n", raw=raw, strip_nul=True)
    properties = json.loads(run.records[0])["properties"]
    assert {key: value for key, value in properties.items() if key not in ("time", "distinct_id", "$insert_id")} == {
        "ab": "x",
        "c": "\\u0000",
        "d": "\\",
        "e": '"',
    }
    assert run.nuls == 5
    assert convert(line + b"\n", raw=raw).nuls == 0
    assert b"\\u0000x\\u0000" in one(line, raw=raw)


def test_nuls_are_removed_from_the_last_line() -> None:
    """NULs are removed from a last line without a newline."""
    run = convert(with_properties(r'"$insert_id":"i","a":"\u0000"'), strip_nul=True)
    assert run.nuls == 1
    assert b"\\u0000" not in run.records[0]


def test_a_malformed_line_keeps_its_nuls() -> None:
    """A malformed line is reported with its NULs."""
    line = b'{"event":1,"a":"\\u0000"}'
    assert convert(line + b"\n", strip_nul=True).bad[0].line == line


def test_an_insert_id_of_nuls_counts_as_empty() -> None:
    """An insert id of NULs is empty after their removal, so an id is made."""
    line = with_properties(r'"a":1,"$insert_id":"\u0000"')
    made = reference.normalized(with_properties('"a":1'))["insert_id"]
    assert reference.parsed(one(line, strip_nul=True))["insert_id"] == made


# --- arbitrary lines


def check_against_reference(line: bytes, zone: ZoneInfo | None) -> None:
    """Compare normalized and raw conversion of one line with the naive reference."""
    kind: str | None = None
    expected: dict[str, object] = {}
    try:
        expected = reference.normalized(line, zone)
    except (reference.InvalidJson, reference.InvalidEvent) as error:
        kind = type(error).__name__
    run = convert(line + b"\n" + USUAL + b"\n", zone=zone)
    assert run.records[-1] == one(USUAL, zone=zone)
    if kind is None:
        assert reference.parsed(run.records[0]) == expected
    else:
        (bad,) = run.bad
        assert bad.line == line
        assert bad.is_json or kind == "InvalidJson"
    try:
        reference.event_members(line)
    except (reference.InvalidJson, reference.InvalidEvent):
        assert len(convert(line + b"\n" + USUAL + b"\n", raw=True).bad) == 1
    else:
        assert one(line, raw=True) == line.strip(b" \t\r").replace(b"\r", b" ")


@settings(max_examples=500)
@given(event_lines(), st.sampled_from(ZONES))
@example(with_properties('"a":"x\\",\\"$insert_id\\":\\"y","b":1'), None)
def test_any_event_is_converted_like_the_reference(line: bytes, zone: ZoneInfo | None) -> None:
    """Any event is converted as by the naive reference."""
    check_against_reference(line, zone)


def is_plain(line: bytes) -> bool:
    """Return whether a line is not blank, no sign of truncation and without unpaired surrogates."""
    return (
        mask(line) is None
        and bool(line.strip(b" \t\r"))
        and b"terminated early" not in line.lower()
        and b'"error"' not in line
        and line[:1] != b"\xef"
    )


@settings(max_examples=500)
@given(corrupted_lines().filter(is_plain), st.sampled_from(ZONES))
def test_any_corrupted_event_matches_the_reference(line: bytes, zone: ZoneInfo | None) -> None:
    """Any corrupted event is a record or malformed, as by the naive reference."""
    check_against_reference(line, zone)


@settings(max_examples=150)
@given(st.binary().map(lambda junk: junk.replace(b"\n", b"")).filter(is_plain))
def test_any_bytes_match_the_reference(line: bytes) -> None:
    """Any bytes are a record or a malformed line, as by the naive reference."""
    check_against_reference(line, None)


@settings(max_examples=120)
@given(
    st.lists(
        st.one_of(event_lines(), event_lines(), corrupted_lines(), st.sampled_from([b"", b" ", USUAL, USUAL])),
        max_size=8,
    ),
    st.lists(st.integers(0, 2_000), max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_block_boundaries_do_not_change_records(
    lines: list[bytes], places: list[int], raw: bool, strip_nul: bool
) -> None:
    """The records do not depend on where the body is cut into blocks."""
    body = b"\n".join([*lines, USUAL])
    whole = convert(body, raw=raw, strip_nul=strip_nul)
    assert whole.lines == len(lines) + 1
    pieces = convert(body, raw=raw, strip_nul=strip_nul, chunks=places)
    by_line = [convert(line + b"\n" + USUAL, raw=raw, strip_nul=strip_nul).records[:-1] for line in lines]
    one_by_one = [*(record for records in by_line for record in records), whole.records[-1]]
    assert values_of(pieces.records) == values_of(whole.records) == values_of(one_by_one)
    assert [vars(bad) for bad in pieces.bad] == [vars(bad) for bad in whole.bad]
    assert pieces.nuls == whole.nuls or pieces.records != whole.records


def values_of(records: list[bytes]) -> list[object]:
    """Return records with numbers as text. The last of duplicate keys counts."""
    return [json.loads(record, parse_int=str, parse_float=str) for record in records]


@settings(max_examples=150)
@given(st.lists(st.one_of(event_lines(), event_lines(), st.just(USUAL)), max_size=8), st.sampled_from(ZONES))
def test_event_names_and_days_are_tallied(lines: list[bytes], zone: ZoneInfo | None) -> None:
    """Both shapes collect the same names and days, and their records are unchanged."""
    body = b"\n".join([*lines, USUAL, b""])
    for raw in (False, True):
        schema = EventSchema(raw)
        tally = EventTally(set(), {})
        plain = schema.converter(envelope=ENVELOPE, zone=zone, on_bad_line=lambda _: None)
        converter = schema.converter(envelope=ENVELOPE, zone=zone, on_bad_line=lambda _: None, tally=tally)
        assert converter.convert(body) == plain.convert(body)
        names: set[str] = set()
        days: Counter[int] = Counter()
        for line in [*lines, USUAL]:
            with contextlib.suppress(reference.InvalidJson, reference.InvalidEvent):
                name, properties = reference.event_members(line)
                time = properties.get("time")
                try:
                    instant = reference.milliseconds(time or "null", None, None)
                    reference.normalized(line, zone)
                except reference.InvalidEvent:
                    if not raw:
                        raise
                    names.add(name)
                else:
                    names.add(name)
                    days[instant // 86_400_000] += 1
        assert (tally.names, tally.days) == (names, days)
