from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.delivery.rejected_lines import RejectedLinesError, write_rejected_lines

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_lines_are_appended_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are appended and synced to disk."""
    file = tmp_path / "rejected"
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(file.read_bytes()))
    write_rejected_lines(file, [b"1\n2\n", b"3\n"])
    write_rejected_lines(file, [b"4\n"])
    assert synced == [b"1\n2\n3\n", b"1\n2\n3\n4\n"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_an_interrupted_write_is_rolled_back(tmp_path: Path, error: type[BaseException]) -> None:
    """After an error or interrupt the file is as it was before."""

    def lines() -> Iterator[bytes]:
        yield b"2\n"
        raise error(28, "No space left on device")

    file = tmp_path / "rejected"
    write_rejected_lines(file, [b"1\n"])
    with pytest.raises(RejectedLinesError if error is OSError else error):
        write_rejected_lines(file, lines())
    assert file.read_bytes() == b"1\n"


def test_a_truncated_last_line_is_ended_first(tmp_path: Path) -> None:
    """A line truncated by an earlier kill stays separate from the lines appended."""
    file = tmp_path / "rejected"
    file.write_bytes(b"1\nhalf a li")
    write_rejected_lines(file, [b"half a line\n"])
    assert file.read_bytes() == b"1\nhalf a li\nhalf a line\n"


def test_a_file_that_cannot_grow_is_left_unchanged(tmp_path: Path) -> None:
    """The error names the file and the cause, and no line is written."""
    file = tmp_path / "rejected"
    write_rejected_lines(file, [b"1\n"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(RejectedLinesError, match=rf"^{file} cannot be written: File too large$"):
            write_rejected_lines(file, [b"2\n" * 400, b"3\n" * 400])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b"1\n"


def test_a_new_file_is_private(tmp_path: Path) -> None:
    """Rejected lines contain user data: only the owner can read a new file."""
    write_rejected_lines(tmp_path / "rejected", [b"1\n"])
    assert stat.S_IMODE((tmp_path / "rejected").stat().st_mode) == 0o600


def test_only_a_regular_file_is_accepted(tmp_path: Path) -> None:
    """A device, a folder and a pipe without a reader are rejected at once."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(RejectedLinesError, match=f"^{path} is not a regular file$"):
            write_rejected_lines(path, [b"1\n"])
    with pytest.raises(RejectedLinesError, match=f"^{tmp_path} cannot be written: Is a directory$"):
        write_rejected_lines(tmp_path, [b"1\n"])


def test_the_file_of_stdout_is_rejected(tmp_path: Path) -> None:
    """The file that stdout is redirected to is rejected under any name."""
    script = (
        "from pathlib import Path; from tap_mixpanel_stream.delivery.rejected_lines import write_rejected_lines; "
        "write_rejected_lines(Path('/dev/stdout'), [b'1\\n'])"
    )
    with (tmp_path / "messages").open("wb") as stdout:
        done = subprocess.run([sys.executable, "-c", script], stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert b"/dev/stdout is the file that stdout is redirected to" in done.stderr
    assert (tmp_path / "messages").read_bytes() == b""


def test_rollback_keeps_lines_of_another_process(tmp_path: Path) -> None:
    """Two taps share a file: one waits for the other, and a rollback removes only its own lines."""
    file = tmp_path / "rejected"
    begun, resume = threading.Event(), threading.Event()

    def interrupted() -> Iterator[bytes]:
        yield b"interrupted\n"
        begun.set()
        resume.wait(10)
        raise KeyboardInterrupt

    def first() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            write_rejected_lines(file, interrupted())

    threads = [threading.Thread(target=first), threading.Thread(target=write_rejected_lines, args=(file, [b"kept\n"]))]
    threads[0].start()
    begun.wait(10)
    threads[1].start()
    time.sleep(0.2)
    resume.set()
    for thread in threads:
        thread.join()
    assert file.read_bytes() == b"kept\n"
