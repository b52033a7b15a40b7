"""The comparison detects changes to rows, names, values and times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.fidelity import Differences, _compare, _rows
from benchmarks.programs import TAP_VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = [
    json.dumps(
        {
            "event": "E",
            "properties": {
                "time": 1262304000 + n,
                "distinct_id": n,
                "$city": "Zürich",
                "list": [1],
                "trace_id": str(n),
            },
        }
    ).encode()
    for n in range(4)
]

Row = dict[str, Any]


def flat(event: Row) -> Row:
    return {"event": event["event"], **event["properties"]}


def compare(change: Callable[[Row], Row | None], *more: Row) -> Differences:
    """Compare the events with changed ones; a change that returns None drops the event."""
    changed = [change(json.loads(line)) for line in EVENTS]
    rows = [row for row in (*changed, *more) if row is not None]
    found = Differences(TAP_VARIANTS[0])
    _compare(found, EVENTS, b"\n".join(json.dumps(row).encode() for row in rows))
    return found


def test_unchanged_events_are_no_difference() -> None:
    """Unchanged events have no difference."""
    found = compare(lambda event: event)
    assert (found.events, found.values, found.names) == (4, 24, 6)
    assert (found.dropped, found.duplicated, found.renamed, found.as_text, found.changes) == (0, 0, {}, 0, 0)


def test_missing_and_duplicate_rows_are_counted() -> None:
    """Missing and duplicate rows are counted."""
    found = compare(lambda event: None if event["properties"]["trace_id"] == "0" else event, json.loads(EVENTS[1]))
    assert (found.dropped, found.duplicated) == (1, 1)


def test_a_duplicate_in_the_source_is_no_difference() -> None:
    """An event sent twice and written twice is no difference."""
    found = Differences(TAP_VARIANTS[0])
    _compare(found, [*EVENTS, EVENTS[0]], b"\n".join([*EVENTS, EVENTS[0]]))
    assert (found.dropped, found.duplicated) == (0, 0)


def test_renamed_properties_are_recognized() -> None:
    """Renamed properties are recognized by their values."""

    def rename(event: Row) -> Row:
        row = flat(event)
        return {"mp_reserved_city": row.pop("$city"), "event_name": row.pop("event"), **row}

    found = compare(rename)
    assert found.renamed == {"$city": "mp_reserved_city", "event": "event_name"}
    assert (found.changes, found.missing) == (0, 0)


def test_values_as_text_and_altered_text_differ() -> None:
    """A value turned into text is counted apart from changed text."""

    def change(event: Row) -> Row:
        return {**flat(event), "list": "[1]", "$city": "ZÃ¼rich"}

    found = compare(change)
    assert (found.as_text, found.changed) == (4, 4)
    assert found.examples == {
        "as_text": ("list", "[1]", '"[1]"'),
        "changed": ("$city", '"Zürich"', '"ZÃ¼rich"'),
    }


def test_missing_values_are_counted() -> None:
    """Missing values are counted."""
    found = compare(lambda event: {name: value for name, value in flat(event).items() if name != "list"})
    assert found.missing == 4


def test_only_a_shifted_time_is_a_difference() -> None:
    """Another format of the same time is no difference, another time is."""
    same = compare(lambda event: {**flat(event), "time": f"2010-01-01T00:00:0{event['properties']['trace_id']}Z"})
    assert same.times_changed == 0
    other = compare(lambda event: {**flat(event), "time": f"2010-01-01T01:00:0{event['properties']['trace_id']}Z"})
    assert other.times_changed == 4


def test_true_as_1_and_lost_digits_are_differences() -> None:
    """`true` written as 1 and lost digits are changed values."""
    event = b'{"event":"E","properties":{"time":1262304000,"trace_id":"0","flag":true,"long":0.12345678901234567891}}'
    changed = event.replace(b"true", b"1").replace(b"0.12345678901234567891", b"0.12345678901234568")
    found = Differences(TAP_VARIANTS[0])
    _compare(found, [event], changed)
    assert found.changed == 2


def test_rows_are_read_from_every_output_format() -> None:
    """Singer messages, Airbyte messages, lines and arrays are read."""
    row = {"event": "E", "trace_id": "0"}
    for output in (
        {"type": "RECORD", "stream": "events", "record": row},
        {"type": "RECORD", "record": {"stream": "export", "data": row}},
        {"event": "E", "properties": {"trace_id": "0"}},
        [row],
    ):
        [read] = _rows(b'{"type":"STATE","value":{}}\n' * isinstance(output, dict) + json.dumps(output).encode())
        assert (read["event"], read["trace_id"]) == ("E", "0")
