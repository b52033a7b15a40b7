"""Progress on stderr: a bar on a terminal, lines in a log, fields in a structured log."""

from __future__ import annotations

import datetime as dt
import fcntl
import io
import json
import logging
import os
import pty
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.delivery.spool import SpooledChunk
from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tap_mixpanel_stream.mixpanel.quota import Quota
from tap_mixpanel_stream.streams.progress import Progress, in_words
from tests.harness import ENVIRONMENT, command, run_tap
from tests.mixpanel.fake_clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

DAYS = {
    "project_timezone": "UTC",
    "start_date": "2024-01-01",
    "end_date": "2024-01-09",
    "window_days": 3,
    "concurrent_exports": 1,
}
STRUCTURED = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"fields": {"()": "singer_sdk.logging.StructuredFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "fields", "stream": "ext://sys.stderr"}},
    "root": {"level": "INFO", "handlers": ["console"]},
}


def project() -> SyntheticProject:
    return SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 9), events_per_day=100)


def test_a_terminal_shows_a_progress_bar(only_events: dict[str, Any], tmp_path: Path) -> None:
    """A terminal shows a progress bar, and stdout has only messages."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    retried = Fault("export", 2, "gzip-cut")
    with Emulator(project(), faults=[retried]) as emulator:
        line = command(tmp_path, emulator.settings | DAYS, catalog=only_events)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=follower, env=ENVIRONMENT) as tap:
            os.close(follower)
            out, _ = tap.communicate()
            assert tap.returncode == 0
    shown = io.BytesIO()
    try:
        while piece := os.read(leader, 65536):
            shown.write(piece)
    except OSError:  # raised when the last process on the terminal has ended
        pass
    os.close(leader)
    screen = shown.getvalue().decode()
    assert "events" in screen
    assert "9 of 9 days" in screen
    assert "s/ days" not in screen
    assert "requests left" in screen
    assert "retrying" in screen
    assert all(json.loads(message) for message in out.splitlines())
    assert b"requests left" not in out


def test_the_bar_updates_while_the_target_is_slow(only_events: dict[str, Any], tmp_path: Path) -> None:
    """The bar's elapsed time is updated while stdout is not read."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    screen, deadline = "", time.monotonic() + 60
    with Emulator(project()) as emulator:
        line = command(tmp_path, emulator.settings | DAYS, catalog=only_events)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=follower, env=ENVIRONMENT) as tap:
            os.close(follower)
            while "00:03" not in screen and time.monotonic() < deadline:
                screen += os.read(leader, 65536).decode()
            tap.communicate()
            assert tap.returncode == 0
    os.close(leader)
    assert "00:02" in screen
    assert "00:03" in screen


def test_a_log_has_no_progress_bar(only_events: dict[str, Any]) -> None:
    """A log has plain lines, and a summary with records, requests and bookmark."""
    with Emulator(project()) as emulator:
        run = run_tap(emulator.settings | DAYS, catalog=only_events).well()
    assert not any("\r" in line or "%|" in line for line in run.stderr)
    [summary] = [line for line in run.stderr if "waited for quota, " in line]
    assert f"{len(run.records()):,} records in 3 windows" in summary
    assert "3 requests, 0 s waited for quota, 0 malformed lines" in summary
    assert "bookmark from none to 2024-01-10T00:00:00+00:00" in summary


def test_the_summary_has_the_previous_bookmark(only_events: dict[str, Any]) -> None:
    """The summary of a second run has the bookmark before and after it."""
    with Emulator(project()) as emulator:
        first = run_tap(emulator.settings | DAYS, catalog=only_events).well()
        second = run_tap(emulator.settings | DAYS, catalog=only_events, state=first.states[-1]).well()
    [summary] = [line for line in second.stderr if "waited for quota, " in line]
    assert "bookmark from 2024-01-10T00:00:00+00:00 to 2024-01-10T00:00:00+00:00" in summary


def test_a_structured_log_has_fields(only_events: dict[str, Any], tmp_path: Path) -> None:
    """A structured log has stream, window and counts as fields."""
    (tmp_path / "logging.yml").write_text(json.dumps(STRUCTURED))
    environment = {"SINGER_SDK_LOG_CONFIG": str(tmp_path / "logging.yml")}
    with Emulator(project(), faults=[Fault("export", 2, "gzip-cut")]) as emulator:
        run = run_tap(emulator.settings | DAYS, catalog=only_events, environment=environment).well()
    lines = [json.loads(line) for line in run.stderr if line.startswith("{")]
    [retry] = [line for line in lines if "retrying" in line["message"]]
    assert (retry["stream_name"], retry["extra"]["window"]) == ("events", "2024-01-04..2024-01-06")
    [summary] = [line for line in lines if "waited for quota, " in line["message"]]
    assert summary["stream_name"] == "events"
    assert summary["extra"]["records"] == len(run.records())
    assert summary["extra"]["windows"] == 3
    assert summary["extra"]["requests"] == 4
    assert summary["extra"]["bookmark_to"] == "2024-01-10T00:00:00+00:00"


def test_progress_lines_of_a_long_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Progress is logged every 30 s, and less often while nothing arrives."""
    caplog.set_level(logging.INFO)
    clock = FakeClock(dt.datetime(2024, 1, 1, tzinfo=dt.UTC))
    progress = Progress(
        stream="events",
        chunk_name="window",
        unit="days",
        bookmark_from=None,
        clock=clock,
        api="data",
        quota=Quota(clock),
        log=logging.getLogger("progress"),
        total=10,
    )
    with progress:
        clock.sleep(31)
        with SpooledChunk(records=3100, decompressed_bytes=1_000_000, extent=5) as chunk:
            progress.add(chunk)
        assert caplog.messages == [
            (
                "events: 5 of 10 days, 3,100 records, 1.0 MB, 100 records a second, 60 requests left this hour, "
                "about 31 seconds to go"
            )
        ]
        for _ in range(3600):
            clock.sleep(1)
            progress.tick()
    assert 8 <= len(caplog.messages) <= 12


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "0 seconds"),
        (1.2, "1 second"),
        (119.4, "1 minute 59 seconds"),
        (150, "2 minutes"),
        (3599, "1 hour"),
        (200_000, "2 days 7 hours 33 minutes"),
    ],
)
def test_durations_are_formatted_in_words(seconds: float, words: str) -> None:
    """A duration is written in words; hours have no seconds."""
    assert in_words(seconds) == words
