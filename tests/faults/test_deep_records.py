"""Records nested too deeply for conversion record by record."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, FixedProject
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import run_here
from tests.soak.test_random_faults import RAW_EVENTS

if TYPE_CHECKING:
    from pathlib import Path

FIRST = dt.date(2024, 1, 1)


@pytest.mark.parametrize("way", ["mapped", "batches"])
def test_a_record_too_deep_for_stream_maps_fails(way: str, tmp_path: Path) -> None:
    """A record nested too deeply for stream maps fails the run; without them it is delivered."""
    storage = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    mapped: dict[str, Any] = {"stream_maps": {"events": {"event": "event"}}}
    extra = mapped | ({"batch_config": storage} if way == "batches" else {})
    # 960 levels fit on the empty stack of a worker's thread, but not on top of the calls of a test.
    line = b'{"event":"A","properties":{"a":' + b'{"b":' * 960 + b"1" + b"}" * 960 + b"}}"
    with Emulator(FixedProject({FIRST: [line]})) as emulator:
        config = emulator.settings | {"start_date": str(FIRST), "end_date": str(FIRST), "raw": True}
        in_blocks = run_here(config, FakeClock(), catalog=RAW_EVENTS)
        one_by_one = run_here(config | extra, FakeClock(), catalog=RAW_EVENTS)
    assert in_blocks.records() == [line]
    if sys.version_info < (3, 13):  # later versions read some thousand levels
        assert one_by_one.error is not None
        assert one_by_one.error.startswith("events: a record is nested too deeply for stream maps and flattening")
        assert one_by_one.state is None or not one_by_one.state.get("bookmarks", {}).get("events")
