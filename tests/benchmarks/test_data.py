from __future__ import annotations

import gzip
from datetime import timedelta

import pytest

from benchmarks.data import EVENTS_A_DAY, FIRST_DAY, LAYOUTS, USUAL, History, last_day_of


def test_a_range_of_days_is_one_whole_gzip_body_of_their_lines() -> None:
    history = History()
    last = FIRST_DAY + timedelta(days=11)
    body = gzip.decompress(b"".join(history.gzipped(FIRST_DAY, last)))
    assert body.split(b"\n")[:-1] == history.lines(12 * EVENTS_A_DAY)
    assert body.count(b"\n") == 12 * EVENTS_A_DAY


def test_days_repeat_after_ten() -> None:
    """But for the time of their first event, by which the tap sees that a response is of the days asked for."""
    [first, *_, last] = History().between(FIRST_DAY, FIRST_DAY + timedelta(days=10))
    assert first.lines.split(b"\n")[1:] == last.lines.split(b"\n")[1:]
    assert last.lines.startswith(first.lines.split(b",")[0].replace(b"1262344504", b"1263208504"))


def test_layouts_differ() -> None:
    """Only the usual one is as the emulator writes it."""
    line = b'{"event":"A","properties":{"time":1262344504,"distinct_id":"u","$insert_id":"i","$city":"B"}}'
    lines = {layout: History(layout=layout).laid_out(line) for layout in LAYOUTS}
    assert len(set(lines.values())) == len(LAYOUTS)
    assert lines[USUAL] == line


def test_times_are_whole_seconds_in_the_usual_layout() -> None:
    """A fraction is a layout of its own."""
    line = b'{"event":"A","properties":{"time":1262344504.271,"distinct_id":"u"}}'
    assert History().laid_out(line) == line.replace(b".271", b"")
    assert b".271" in History(layout="fractional `time`").laid_out(line)


def test_milliseconds_are_the_same_events() -> None:
    seconds, milliseconds = (history.days[0].lines.split(b"\n") for history in (History(), History(in_ms=True)))
    assert len(seconds) == len(milliseconds)
    assert b'"time":1262344504,' in seconds[0]
    assert b'"time":1262344504' in milliseconds[0]
    assert len(milliseconds[0]) == len(seconds[0]) + 3


def test_events_fill_whole_days() -> None:
    assert last_day_of(EVENTS_A_DAY) == FIRST_DAY
    with pytest.raises(ValueError, match="no whole days"):
        last_day_of(EVENTS_A_DAY + 1)
