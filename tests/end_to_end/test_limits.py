"""Memory and disk: a run needs little of both, whatever Mixpanel sends, and fails with a clear error."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject, SyntheticProject
from tests.harness import Run, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 1, 3)
CONFIG: dict[str, Any] = {
    "project_timezone": "UTC",
    "start_date": str(FIRST),
    "end_date": str(LAST),
    "window_days": 1,
    "raw": True,
    "max_retries": 0,
}
NOW = dt.datetime.now(dt.UTC)
MIB = 1 << 20

# Runs a command with a limit on file sizes, and prints its peak memory at the end. A process starts with its parent's
# peak memory, so the command is started by this small program instead of pytest.
LIMITED = """
import resource, subprocess, sys
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
code = subprocess.run(sys.argv[2:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def limited(size_of_files: int = 0) -> list[str]:
    return [sys.executable, "-c", LIMITED, str(size_of_files)]


def measured(faults: list[Fault], extra: dict[str, Any], catalog: dict[str, Any]) -> tuple[Run, int]:
    """Return a run and its peak memory in MiB."""
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | CONFIG | extra, catalog=catalog, within=limited())
    return run, int(run.stderr.pop().removeprefix("peak ")) // 1024


def project(events_per_day: int = 50) -> SyntheticProject:
    return SyntheticProject(first_day=FIRST, last_day=LAST, events_per_day=events_per_day, profiles=50)


def assert_stopped(run: Run, *says: str) -> None:
    assert run.exit_code == 1
    assert len(run.errors) == 1, run.stderr
    assert [words for words in says if words not in run.errors[0]] == [], run.errors[0]
    assert not any("Traceback" in line for line in run.stderr)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"concurrent_exports": 3}, {"concurrent_exports": 1, "worker_processes": 1}])
def test_a_bomb_in_events_takes_little_memory(more: dict[str, Any], only_raw_events: dict[str, Any]) -> None:
    """A decompression bomb in the export is one error line and takes less than 128 MiB."""
    bombs = [Fault("export", None, "bomb", value=1 << 40)]
    run, peak = measured(bombs, more, only_raw_events)
    assert_stopped(run, "events 2024-01-01", "expands to more than 500 times its size")
    assert peak < 128


def test_an_endless_line_takes_little_memory(only_raw_events: dict[str, Any]) -> None:
    """An endless line in the export is one error line and takes less than 160 MiB."""
    endless = [Fault("export", None, "endless-line", value=1 << 40)]
    run, peak = measured(endless, {"concurrent_exports": 1}, only_raw_events)
    assert_stopped(run, "events 2024-01-01", "a line exceeds")
    assert peak < 160


def test_a_bomb_in_a_page_takes_limited_memory(only_profiles: dict[str, Any]) -> None:
    """A decompression bomb in a page of profiles is one error line and takes less than 400 MiB."""
    run, peak = measured([Fault("engage", None, "bomb", value=1 << 40)], {"raw": False}, only_profiles)
    assert_stopped(run, "profiles page 0", "expands to more than 500 times its size")
    assert peak < 400


# --- disk ------------------------------------------------------------------------------------------------------------


class OneBigDay(SyntheticProject):
    """A project whose second day has about 3 MB, more than a spool keeps in memory."""

    EVENTS = 3000

    def lines(self, first: dt.date, last: dt.date, *, now: dt.datetime, in_ms: bool = False) -> Iterator[bytes]:
        big = first == FIRST + dt.timedelta(days=1)
        days = SyntheticProject(
            first_day=FIRST, last_day=LAST, events_per_day=self.EVENTS if big else self.events_per_day
        )
        return days.lines(first, last, now=now, in_ms=in_ms)


@pytest.mark.parametrize("more", [{}, {"worker_processes": 1}])
def test_a_full_disk_fails_the_run(more: dict[str, Any], only_raw_events: dict[str, Any], small_disk: Path) -> None:
    """A full disk fails the run with one line; the next run continues from the state."""
    with Emulator(OneBigDay(first_day=FIRST, last_day=LAST, events_per_day=50)) as emulator:
        config = emulator.settings | CONFIG | more
        run = run_tap(config, catalog=only_raw_events, environment={"TMPDIR": str(small_disk)})
        assert_stopped(run, "events 2024-01-02", f"no space left in the temporary folder {small_disk}", "TMPDIR")
        assert len(run.records()) == 50
        assert run.bookmark == "2024-01-02T00:00:00+00:00"
        assert list(small_disk.iterdir()) == []
        rest = run_tap(config | {"lookback_days": 0}, catalog=only_raw_events, state=run.states[-1]).well()
    assert len(rest.records()) == OneBigDay.EVENTS + 50


def test_a_file_size_limit_fails_the_run(only_raw_events: dict[str, Any]) -> None:
    """A file size limit fails the run with one line that names TMPDIR."""
    with Emulator(OneBigDay(first_day=FIRST, last_day=LAST, events_per_day=50)) as emulator:
        run = run_tap(emulator.settings | CONFIG, catalog=only_raw_events, within=limited(2 * MIB))
    run.stderr.pop()
    assert_stopped(run, "events 2024-01-02", "the temporary folder", "cannot be used (File too large)", "TMPDIR")
    assert len(run.records()) == 50


def test_a_full_disk_fails_profiles(only_profiles: dict[str, Any], small_disk: Path) -> None:
    """A full disk fails the profiles before any of the page is delivered."""
    many = [{"$distinct_id": f"u{number}", "$properties": {"text": "x" * 2000}} for number in range(1500)]
    with Emulator(FixedProject(profiles=many)) as emulator:
        run = run_tap(emulator.settings, catalog=only_profiles, environment={"TMPDIR": str(small_disk)})
    assert_stopped(run, "profiles page 0", "no space left in the temporary folder")
    assert run.records("profiles") == []


def test_a_missing_tmpdir_is_not_used(only_raw_events: dict[str, Any]) -> None:
    """If TMPDIR does not exist, another temporary folder is used."""
    with Emulator(OneBigDay(first_day=FIRST, last_day=LAST, events_per_day=50)) as emulator:
        run_tap(emulator.settings | CONFIG, catalog=only_raw_events, environment={"TMPDIR": "/nowhere"}).well()


def test_a_full_stdout_fails_the_run(only_raw_events: dict[str, Any]) -> None:
    """A full disk behind stdout fails the run with one line."""
    with Emulator(project()) as emulator, Path("/dev/full").open("wb") as full:
        run = run_tap(emulator.settings | CONFIG, catalog=only_raw_events, stdout=full)
    assert_stopped(run, "stdout cannot be written: No space left on device")


@pytest.mark.parametrize("batches", [False, True])
def test_unwritable_rejected_lines_fail_the_run(
    only_raw_events: dict[str, Any], tmp_path: Path, small_disk: Path, *, batches: bool
) -> None:
    """If rejected lines cannot be written, the run fails before the state covers them."""
    bad = [b"no event of %d" % number for number in range(3)]
    days = [FIRST + dt.timedelta(days=number) for number in range(3)]
    source = FixedProject(
        {day: [line, b"[]", *project().lines(day, day, now=NOW)] for day, line in zip(days, bad, strict=True)}
    )
    storage = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    extra = {"bad_lines": "skip", "lookback_days": 0} | ({"batch_config": storage} if batches else {})
    rejected = tmp_path / "rejected"
    with Emulator(source) as emulator:
        config = emulator.settings | CONFIG | extra
        with contextlib.suppress(OSError):
            (small_disk / "filler").write_bytes(b"x" * 3 * MIB)
        run = run_tap(config | {"bad_lines_path": str(small_disk / "rejected")}, catalog=only_raw_events)
        assert_stopped(run, f"events: bad_lines_path {small_disk}/rejected cannot be written: No space left on device")
        assert run.bookmark is None
        run_tap(config | {"bad_lines_path": str(rejected)}, catalog=only_raw_events).well()
    assert rejected.read_bytes() == b"".join(line + b"\n[]\n" for line in bad)


def test_a_retried_window_writes_rejected_lines_once(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """The rejected lines of a retried window are written once."""
    rejected = tmp_path / "rejected"
    extra = {"bad_lines": "skip", "bad_lines_path": str(rejected), "max_retries": 1, "concurrent_exports": 1}
    faults = [Fault("export", (1, 2), "bad-line"), Fault("export", 1, "gzip-no-trailer")]
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | CONFIG | extra, catalog=only_raw_events).well()
    assert rejected.read_bytes() == b"this line is no JSON\n"
    assert any(line.endswith(f"1 malformed lines written to {rejected}") for line in run.problems)
    found = re.compile(r"events \d{4}-.*: 1 malformed, the first at position \d+ of the response")
    assert any(found.search(line) for line in run.stderr)


def test_a_failed_run_reports_rejected_lines(only_raw_events: dict[str, Any], tmp_path: Path) -> None:
    """A failed run also reports the rejected lines."""
    extra = {"bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected"), "concurrent_exports": 1}
    faults = [Fault("export", 1, "bad-line"), Fault("export", 2, "status:403")]
    with Emulator(project(), faults=faults) as emulator:
        run = run_tap(emulator.settings | CONFIG | extra, catalog=only_raw_events)
    assert_stopped(run, "events 2024-01-02")
    assert any("malformed lines written to" in line for line in run.problems)
