"""The spool: where record lines wait until their window is known to be whole."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A spool stays in memory up to this size. Many can wait at once (`concurrent_exports`), so it is kept small.
IN_MEMORY = 1024 * 1024
BLOCK = 256 * 1024
# How much a spool grows before it looks again at what is left of the disk.
LOOK_EVERY = 16 * 1024 * 1024
# What is left of the disk to others: so much, or this share of a small one.
LEFT_FREE = 1024 * 1024 * 1024
LEFT_SHARE = 20

REMEDY = "free some space, point TMPDIR at a larger disk, or lower window_days or concurrent_exports"


class SpoolError(Exception):
    """The temporary file could not be written or read, or has no more room."""


class Spool:
    """Lines kept in memory while they are few, beyond that in a temporary file.

    The file has no name in the file system (or loses it at once), only this process can read it, and it is gone when
    the process ends, however it ends. It never takes the last of the disk: whatever Mixpanel sends, and however much of
    it, others can go on.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        # Closed by `close`.
        self._file = file or tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, mode="w+b")  # noqa: SIM115
        self._size = 0
        self._look_at = LOOK_EVERY

    @classmethod
    def in_file(cls, descriptor: int) -> Spool:
        """Make a spool that writes into another one's file, from the `fileno` of that one."""
        return cls(os.fdopen(descriptor, "wb"))

    def fileno(self) -> int:
        """Return the descriptor of the file, which there is from now on however few the lines.

        Raises:
            SpoolError: The file system did not take it.
        """
        with _telling_errors():
            return self._file.fileno()

    def write(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            SpoolError: The file system did not take them, or is nearly full; the message says what to do.
        """
        with _telling_errors():
            self._file.write(lines)
        self._size += len(lines)
        if self._size >= self._look_at:
            self._look_at = self._size + LOOK_EVERY
            self._leave_room()

    def flush(self) -> None:
        """Have all lines in the file.

        Raises:
            SpoolError: The file system did not take them; the message says what to do.
        """
        with _telling_errors():
            self._file.flush()

    def blocks(self) -> Iterator[bytes]:
        """Yield everything from the start, in blocks of whole lines.

        Raises:
            SpoolError: The file system does not give them back.
        """
        with _telling_errors():
            self._file.seek(0)
            while block := self._file.read(BLOCK):
                yield block if block.endswith(b"\n") else block + self._file.readline()

    def lines(self) -> Iterator[bytes]:
        """Yield everything from the start, line by line, each with its line end.

        Raises:
            SpoolError: As for `blocks`.
        """
        with _telling_errors():
            self._file.seek(0)
            yield from self._file

    def close(self) -> None:
        """Let go of the lines."""
        with suppress(OSError):  # A full disk does not take what is still in a buffer, and nobody wants it any more.
            self._file.close()

    def _leave_room(self) -> None:
        with _telling_errors():
            disk = shutil.disk_usage(temporary_folder())
        if disk.free < left_to_others(disk.total):
            raise SpoolError(
                f"{self._size / 1e6:,.0f} MB have come, and the disk of {_folder()} is nearly full, with "
                f"{disk.free / 1e6:,.0f} MB left: {REMEDY}"
            )


def left_to_others(total: int) -> int:
    """Say how many bytes of a disk of `total` stay free."""
    return min(LEFT_FREE, total // LEFT_SHARE)


def temporary_folder() -> str:
    """Find the folder where temporary files go.

    Raises:
        SpoolError: None can be used.
    """
    with _telling_errors():
        return tempfile.gettempdir()


@contextmanager
def _telling_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cause = f"no space left in {_folder()}" if full else f"{_folder()} cannot be used ({error.strerror})"
        raise SpoolError(f"{cause}: {REMEDY}") from None


def _folder() -> str:
    try:
        return f"the temporary folder {tempfile.gettempdir()}"
    except OSError:  # None of those that there might be can be used.
        return "a temporary folder"
