"""Append malformed lines to the file in `bad_lines_path`."""

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
    """The file for rejected lines cannot be written."""


def check_path(path: Path) -> None:
    """Check that rejected lines can be written to a path. Does not create the file.

    Raises:
        RejectedLinesError: The path cannot be written or is not suitable.
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
            _check_file(path, file)
        finally:
            os.close(file)


def write_rejected_lines(path: Path, blocks: Iterable[bytes]) -> None:
    """Append the lines of a chunk as a whole, and sync them to disk.

    The file is locked, so that other taps can append to it too. If the call ends with an exception, even one from a
    signal handler, the file is truncated to its previous size. Only if the process is killed during the call do some of
    the lines remain, and the last may be truncated. The next run then writes all of them again, with their chunk.

    Args:
        path: The file. If missing, it is created, readable only by its owner because it contains personal data.
        blocks: Lines, each with its newline.

    Raises:
        RejectedLinesError: The lines cannot be written, or the path is not a regular file.
    """
    try:
        # Non-blocking, since opening a named pipe would wait for a reader.
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            _check_file(path, file)
            fcntl.flock(file, fcntl.LOCK_EX)
            _append(file, blocks)
        finally:
            os.close(file)
    except OSError as error:
        raise RejectedLinesError(f"{path} cannot be written: {error.strerror}") from None


def _check_file(path: Path, file: int) -> None:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise RejectedLinesError(f"{path} is not a regular file")
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with contextlib.suppress(OSError):  # stdout or stderr can be closed.
            if os.path.samestat(status, os.fstat(descriptor)):
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
        # Because of the lock, everything after the previous end was written by this call.
        os.ftruncate(file, size)
        raise
