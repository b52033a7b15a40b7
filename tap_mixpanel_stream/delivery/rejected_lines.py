"""The file of `bad_lines_path`, to which the malformed lines of each chunk are appended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from .stdout import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class RejectedLinesError(Exception):
    """The file could not be written."""


def check_path(path: Path) -> None:
    """Refuse a path that cannot take rejected lines. Creates nothing.

    Raises:
        RejectedLinesError: It cannot.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NONBLOCK)
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise RejectedLinesError(f"{path} cannot be written: its folder is missing or read-only") from None
    except OSError as error:
        raise RejectedLinesError(f"{path} cannot be written: {error.strerror}") from None
    else:
        try:
            _refuse_unless_suitable(path, file)
        finally:
            os.close(file)


def write_rejected_lines(path: Path, blocks: Iterable[bytes]) -> None:
    """Append a chunk's lines, all of them or none, and sync them to disk.

    Other taps can append to the same file: it is locked meanwhile. Whatever ends the call early, an exception of a
    signal too, the file is as long as before. Only a process that is killed within it leaves some of the lines, the
    last of them perhaps truncated; they come again with the chunk.

    Args:
        path: The file; created if missing, readable by its owner alone: it holds users' data.
        blocks: Lines, each with its line end.

    Raises:
        RejectedLinesError: The file system did not take them, or the path is not a regular file.
    """
    try:
        # Not blocking: a pipe without a reader would wait for one.
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            _refuse_unless_suitable(path, file)
            fcntl.flock(file, fcntl.LOCK_EX)
            _append(file, blocks)
        finally:
            os.close(file)
    except OSError as error:
        raise RejectedLinesError(f"{path} cannot be written: {error.strerror}") from None


def _refuse_unless_suitable(path: Path, file: int) -> None:
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        raise RejectedLinesError(f"{path} is not a regular file")
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(OSError):  # it can be closed
            if os.path.samestat(about, os.fstat(descriptor)):
                raise RejectedLinesError(f"{path} is the file that {name} is redirected to")


def _append(file: int, blocks: Iterable[bytes]) -> None:
    size = os.fstat(file).st_size
    try:
        if size and os.pread(file, 1, size - 1) != b"\n":
            write_all(file, b"\n")
        for block in blocks:
            write_all(file, block)
        os.fsync(file)
    except BaseException:
        # The lock keeps other taps out, so all that came since is this call's.
        os.ftruncate(file, size)
        raise
