"""Batch mode: the records go out in files, the messages name them."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.pipeline import Run, run_tap

if TYPE_CHECKING:
    from pathlib import Path


def records_in_batches(run: Run, stream: str) -> list[dict[str, Any]]:
    records = []
    for message in run.messages:
        if message["type"] == "BATCH" and message["stream"] == stream:
            for url in message["manifest"]:
                with gzip.open(unquote(urlsplit(url).path)) as file:
                    records += [json.loads(line) for line in file]
    return records


@pytest.mark.parametrize("way", [{}, {"stream_maps": {"events": {"event_name": "event_name"}}}])
def test_batch_files_hold_what_record_messages_would(
    way: dict[str, Any], only_events: dict[str, Any], tmp_path: Path
) -> None:
    project = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 3), events_per_day=100)
    batches = {
        "batch_config": {
            "encoding": {"format": "jsonl", "compression": "gzip"},
            "storage": {"root": tmp_path.as_uri(), "prefix": "test-"},
            "batch_size": 80,
        }
    }
    with Emulator(project) as emulator:
        settings = emulator.settings | {"start_date": "2024-01-01", "end_date": "2024-01-04"}
        plain = run_tap(settings, catalog=only_events).well()
        batched = run_tap(settings | batches | way, catalog=only_events).well()
    assert records_in_batches(batched, "events") == plain.records()
    assert batched.states[-1] == plain.states[-1]
    kinds = [message["type"] for message in batched.messages if message["type"] in {"BATCH", "STATE"}]
    assert kinds[0] == "BATCH"
    assert kinds.count("STATE") >= 2, "the bookmark moves with each window whose files are complete"
