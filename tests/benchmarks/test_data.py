from __future__ import annotations

import gzip
from datetime import timedelta

import pytest

from benchmarks.data import DEFAULT_LAYOUT, EVENTS_PER_DAY, FIRST_DAY, LAYOUTS, History, last_day


def test_a_date_range_is_one_gzip_body() -> None:
    """A date range is one gzip body with all lines of its days."""
    history = History()
    last = FIRST_DAY + timedelta(days=11)
    body = gzip.decompress(b"".join(history.gzipped(FIRST_DAY, last)))
    assert body.split(b"\n")[:-1] == history.lines(12 * EVENTS_PER_DAY)
    assert body.count(b"\n") == 12 * EVENTS_PER_DAY


def test_days_repeat_after_ten() -> None:
    """Only the time of the first event differs, by which the tap recognizes the requested days."""
    [first, *_, last] = History().between(FIRST_DAY, FIRST_DAY + timedelta(days=10))
    assert first.lines.split(b"\n")[1:] == last.lines.split(b"\n")[1:]
    assert last.lines.startswith(first.lines.split(b",")[0].replace(b"1262344504", b"1263208504"))


def test_layouts_differ() -> None:
    """Each layout changes the line; only the usual one is the emulator's."""
    line = b'{"event":"A","properties":{"time":1262344504,"distinct_id":"u","$insert_id":"i","$city":"B"}}'
    lines = {layout: History(layout=layout).apply_layout(line) for layout in LAYOUTS}
    assert len(set(lines.values())) == len(LAYOUTS)
    assert lines[DEFAULT_LAYOUT] == line


def test_the_usual_layout_has_whole_seconds() -> None:
    """Fractions of a second are a separate layout."""
    line = b'{"event":"A","properties":{"time":1262344504.271,"distinct_id":"u"}}'
    assert History().apply_layout(line) == line.replace(b".271", b"")
    assert b".271" in History(layout="fractional `time`").apply_layout(line)


def test_milliseconds_are_the_same_events() -> None:
    """With milliseconds the history has the same events."""
    seconds, milliseconds = (history.days[0].lines.split(b"\n") for history in (History(), History(in_ms=True)))
    assert len(seconds) == len(milliseconds)
    assert b'"time":1262344504,' in seconds[0]
    assert b'"time":1262344504' in milliseconds[0]
    assert len(milliseconds[0]) == len(seconds[0]) + 3


def test_event_counts_must_be_whole_days() -> None:
    """A number of events that is not a whole number of days is rejected."""
    assert last_day(EVENTS_PER_DAY) == FIRST_DAY
    with pytest.raises(ValueError, match="not a positive multiple"):
        last_day(EVENTS_PER_DAY + 1)
