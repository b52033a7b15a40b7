"""The comparison sees what is done to rows, names, values and times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.fidelity import Differences, _compare, _rows
from benchmarks.programs import OURS

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


def compared(change: Callable[[Row], Row | None], *more: Row) -> Differences:
    """Compare the events with what a change of each makes of them; None leaves one out."""
    changed = [change(json.loads(line)) for line in EVENTS]
    rows = [row for row in (*changed, *more) if row is not None]
    found = Differences(OURS[0])
    _compare(found, EVENTS, b"\n".join(json.dumps(row).encode() for row in rows))
    return found


def test_what_is_as_it_came_is_no_loss() -> None:
    found = compared(lambda event: event)
    assert (found.events, found.values, found.names) == (4, 24, 6)
    assert (found.dropped, found.doubled, found.renamed, found.as_text, found.changes) == (0, 0, {}, 0, 0)


def test_rows_that_are_missing_or_too_many_are_counted() -> None:
    found = compared(lambda event: None if event["properties"]["trace_id"] == "0" else event, json.loads(EVENTS[1]))
    assert (found.dropped, found.doubled) == (1, 1)


def test_an_event_that_was_sent_twice_and_came_twice_is_no_loss() -> None:
    found = Differences(OURS[0])
    _compare(found, [*EVENTS, EVENTS[0]], b"\n".join([*EVENTS, EVENTS[0]]))
    assert (found.dropped, found.doubled) == (0, 0)


def test_names_that_changed_are_found_again() -> None:
    def rename(event: Row) -> Row:
        row = flat(event)
        return {"mp_reserved_city": row.pop("$city"), "event_name": row.pop("event"), **row}

    found = compared(rename)
    assert found.renamed == {"$city": "mp_reserved_city", "event": "event_name"}
    assert (found.changes, found.left_out) == (0, 0)


def test_values_that_became_text_are_told_from_text_that_is_other_text() -> None:
    def change(event: Row) -> Row:
        return {**flat(event), "list": "[1]", "$city": "ZÃ¼rich"}

    found = compared(change)
    assert (found.as_text, found.altered) == (4, 4)
    assert found.examples == {
        "as_text": ("list", "[1]", '"[1]"'),
        "altered": ("$city", '"Zürich"', '"ZÃ¼rich"'),
    }


def test_values_that_are_gone_are_counted() -> None:
    found = compared(lambda event: {name: value for name, value in flat(event).items() if name != "list"})
    assert found.left_out == 4


def test_a_time_may_be_written_otherwise_but_not_be_another() -> None:
    same = compared(lambda event: {**flat(event), "time": f"2010-01-01T00:00:0{event['properties']['trace_id']}Z"})
    assert same.shifted == 0
    other = compared(lambda event: {**flat(event), "time": f"2010-01-01T01:00:0{event['properties']['trace_id']}Z"})
    assert other.shifted == 4


def test_true_is_not_one_and_digits_count() -> None:
    event = b'{"event":"E","properties":{"time":1262304000,"trace_id":"0","flag":true,"long":0.12345678901234567891}}'
    changed = event.replace(b"true", b"1").replace(b"0.12345678901234567891", b"0.12345678901234568")
    found = Differences(OURS[0])
    _compare(found, [event], changed)
    assert found.altered == 2


def test_rows_are_read_from_all_that_is_written() -> None:
    row = {"event": "E", "trace_id": "0"}
    for output in (
        {"type": "RECORD", "stream": "events", "record": row},
        {"type": "RECORD", "record": {"stream": "export", "data": row}},
        {"event": "E", "properties": {"trace_id": "0"}},
        [row],
    ):
        [read] = _rows(b'{"type":"STATE","value":{}}\n' * isinstance(output, dict) + json.dumps(output).encode())
        assert (read["event"], read["trace_id"]) == ("E", "0")
