"""Batch mode: records are written to files, which BATCH messages list."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.harness import ENVIRONMENT, Run, command, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator
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
def test_batch_files_have_the_same_records(way: dict[str, Any], only_events: dict[str, Any], tmp_path: Path) -> None:
    """Batch files contain the records that RECORD messages would, with the same state."""
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


class BatchesIn:
    """A project with three days of about 1 MB each, and settings for batch files in a folder."""

    def __init__(self, root: Path, more: dict[str, Any] | None = None) -> None:
        self.root = root
        self.settings = {
            "start_date": "2024-01-01",
            "end_date": "2024-01-03",
            "window_days": 1,
            "batch_config": {
                "encoding": {"format": "jsonl", "compression": "none"},
                "storage": {"root": root.as_uri()},
                "batch_size": 1_000_000,
            },
            **(more or {}),
        }
        self.project = SyntheticProject(
            first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 3), events_per_day=1500
        )


def files_in(folder: Path) -> set[str]:
    return {str(file) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_only_complete_batch_files(
    number: signal.Signals, only_events: dict[str, Any], tmp_path: Path
) -> None:
    """After a signal only complete, listed batch files are left, and no temporary file."""
    root, temporary = tmp_path / "batches", tmp_path / "tmp"
    temporary.mkdir()
    # Mapped record by record, one file takes long enough to be interrupted.
    batches = BatchesIn(root, {"stream_maps": {"events": {"n": "str(event_name)"}}})
    with Emulator(batches.project) as emulator:
        line = command(tmp_path, emulator.settings | batches.settings, catalog=only_events)
        environment = ENVIRONMENT | {"TMPDIR": str(temporary)}
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as tap:
            while not (root.is_dir() and any(name.name.endswith(".partial") for name in root.iterdir())):
                assert tap.poll() is None, "the tap ended before it began a file"
            os.kill(tap.pid, number)
            out, _ = tap.communicate(timeout=20)
    assert tap.returncode in {128 + number, -number}
    assert files_in(temporary) == set()
    named = [unquote(urlsplit(url).path) for url in manifests(out)]
    assert files_in(root) == set(named)


def manifests(out: bytes) -> Iterator[str]:
    for line in out.splitlines():
        message = json.loads(line)
        if message["type"] == "BATCH":
            yield from message["manifest"]


def test_a_full_disk_leaves_no_truncated_batch_file(only_events: dict[str, Any], small_disk: Path) -> None:
    """One line has cause and remedy; the state covers the windows whose files are complete."""
    batches = BatchesIn(small_disk / "batches")
    with Emulator(batches.project) as emulator:
        run = run_tap(emulator.settings | batches.settings, catalog=only_events)
    assert run.exit_code == 1
    assert len(run.errors) == 1
    assert run.errors[0].startswith(
        f"batch_config: file://{small_disk}/batches cannot be written (No space left on device)"
    )
    assert files_in(small_disk) == {unquote(urlsplit(url).path) for url in manifests(run.stdout)}
    assert len(files_in(small_disk)) == 1
    assert run.bookmark == "2024-01-02T00:00:00+00:00"
