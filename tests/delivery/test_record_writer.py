from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st
from singer_sdk.singerlib import RecordMessage, StateMessage
from singer_sdk.singerlib.json import serialize_json

from tap_mixpanel_stream.delivery.record_writer import BUFFER_BYTES, LineWriter, decode_records, encode_record
from tap_mixpanel_stream.delivery.stdout import Stdout

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=[])),
)
values = st.recursive(
    leaves, lambda inside: st.one_of(st.lists(inside), st.dictionaries(st.text(), inside)), max_leaves=20
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=[])), values))
def test_records_are_encoded_like_the_sdk(record: dict[str, Any]) -> None:
    """Any record is encoded with the same values as by the SDK."""
    assert json.loads(encode_record(record)) == json.loads(serialize_json(record))


@given(st.dictionaries(st.text(st.characters(exclude_categories=[])), values))
def test_lines_are_decoded_like_json(record: dict[str, Any]) -> None:
    """Any line is decoded with the same values as by `json`."""
    assert list(decode_records([json.dumps(record).encode() + b"\n"])) == [record]


@pytest.mark.parametrize("number", ["1e400", "-1e400", str(2**70), "0." + "3" * 400, "1" * 300])
def test_huge_numbers_are_decoded_like_json(number: str) -> None:
    """Numbers beyond the range or precision of a double are decoded as by `json`."""
    assert list(decode_records([f'{{"n":{number}}}\n'.encode()])) == [{"n": json.loads(number)}]


class RecordingStdout(Stdout):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, lines: bytes) -> None:
        self.writes.append(lines)


def record(text: str) -> RecordMessage:
    return RecordMessage("events", {"x": text}, time_extracted=dt.datetime(2024, 1, 2, tzinfo=dt.UTC))


def test_records_are_buffered_until_another_message() -> None:
    """Records are buffered until another message, a full buffer or a flush."""
    stdout = RecordingStdout()
    writer = LineWriter(stdout)
    for _ in range(3):
        writer.write_message(record("a"))
    assert stdout.writes == []
    writer.write_message(StateMessage({"bookmarks": {}}))
    assert [write.count(b"\n") for write in stdout.writes] == [3, 1]
    writer.write_message(record("x" * BUFFER_BYTES))
    assert len(stdout.writes) == 3
    writer.write_message(record("b"))
    writer.flush()
    writer.flush()
    assert [json.loads(line)["type"] for write in stdout.writes for line in write.splitlines()] == [
        *("RECORD", "RECORD", "RECORD", "STATE", "RECORD", "RECORD")
    ]
    assert b'"time_extracted":"2024-01-02T00:00:00+00:00"' in stdout.writes[0]
