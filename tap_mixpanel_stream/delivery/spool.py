"""Keep record lines in memory or in a temporary file until their window or page is complete."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

# Maximum size in bytes of a spool in memory. Small, because there can be many spools at once (`concurrent_exports`).
MAX_IN_MEMORY = 1024 * 1024
BLOCK_BYTES = 256 * 1024
# Bytes to write between checks of the free disk space.
CHECK_INTERVAL = 16 * 1024 * 1024
# Disk space to keep free: this many bytes, or one twentieth of a small disk.
RESERVED_BYTES = 1024 * 1024 * 1024
RESERVED_DIVISOR = 20

REMEDY = "free some space, point TMPDIR at a larger disk, or lower window_days or concurrent_exports"


class SpoolError(Exception):
    """The temporary file cannot be written or read, or the disk is nearly full."""


class Spool:
    """Stores lines in memory, and in a temporary file once they exceed `MAX_IN_MEMORY`.

    The file has no name in the file system (or loses it right after its creation), so that only this process can read
    it, and it disappears however the process ends. Part of the disk stays free, however much Mixpanel sends.

    Attributes:
        size: The number of bytes written.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        # Closed by `close`.
        self._file = file or tempfile.SpooledTemporaryFile(max_size=MAX_IN_MEMORY, mode="w+b")  # noqa: SIM115
        self.size = 0
        self._next_check = CHECK_INTERVAL

    @classmethod
    def in_file(cls, descriptor: int) -> Spool:
        """Return a spool that writes to the file of another spool.

        Args:
            descriptor: The file descriptor, from the other spool's `fileno`.
        """
        return cls(os.fdopen(descriptor, "wb"))

    def fileno(self) -> int:
        """Return the descriptor of the file. Creates the file if the lines are still in memory.

        Raises:
            SpoolError: The file cannot be created.
        """
        with _translate_errors():
            return self._file.fileno()

    def write(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            SpoolError: The lines cannot be written, or the disk is nearly full. The message names the remedy.
        """
        with _translate_errors():
            self._file.write(lines)
        self.size += len(lines)
        if self.size >= self._next_check:
            self._next_check = self.size + CHECK_INTERVAL
            self._check_free_space()

    def flush(self) -> None:
        """Write buffered lines to the file.

        Raises:
            SpoolError: The lines cannot be written. The message names the remedy.
        """
        with _translate_errors():
            self._file.flush()

    def blocks(self) -> Iterator[bytes]:
        """Yield all lines, in blocks of whole lines.

        Raises:
            SpoolError: The file cannot be read.
        """
        with _translate_errors():
            self._file.seek(0)
            while block := self._file.read(BLOCK_BYTES):
                yield block if block.endswith(b"\n") else block + self._file.readline()

    def lines(self) -> Iterator[bytes]:
        """Yield all lines one by one, each with its newline.

        Raises:
            SpoolError: As for `blocks`.
        """
        with _translate_errors():
            self._file.seek(0)
            yield from self._file

    def close(self) -> None:
        """Delete the lines."""
        with suppress(OSError):  # Closing flushes the buffer, which fails on a full disk. The lines are not needed.
            self._file.close()

    def _check_free_space(self) -> None:
        with _translate_errors():
            disk = shutil.disk_usage(temporary_folder())
        if disk.free < reserved_bytes(disk.total):
            raise SpoolError(
                f"{self.size / 1e6:,.0f} MB were received, and the disk of {_folder()} is nearly full, with "
                f"{disk.free / 1e6:,.0f} MB left: {REMEDY}"
            )


@dataclass
class SpooledChunk:
    r"""The spooled records of one window or page, with their counts.

    Attributes:
        lines: The record lines.
        rejected_lines: The malformed lines as received, each terminated by a newline.
        records: The number of record lines.
        what: What was requested, for messages.
        rejected: The number of malformed lines.
        first_rejected: The position of the first malformed line in the response: the line number from 1, or the index
            of a profile from 0.
        first_reason: Why the first malformed line is malformed.
        nuls: The number of `\u0000` removed from strings.
        misfits: By property column, the number of values that became null because they do not fit the column's type.
        extent: The number of days in a window, or of profiles in a page.
        received: The size of the response as sent, in bytes.
        decompressed_bytes: The decompressed size of the response.
        names: If names are collected: the names of the events.
        days: If events are counted: their number by day of the stored `time`. The keys are days since 1970.
    """

    lines: Spool = field(default_factory=Spool)
    rejected_lines: Spool = field(default_factory=Spool)
    records: int = 0
    what: str = ""
    rejected: int = 0
    first_rejected: int = 0
    first_reason: str = ""
    nuls: int = 0
    misfits: dict[str, int] = field(default_factory=dict)
    extent: int = 0
    received: int = 0
    decompressed_bytes: int = 0
    names: set[str] = field(default_factory=set)
    days: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def filling(self) -> Iterator[Self]:
        """Complete the chunk at the end of the `with` block, or close it after an error.

        Raises:
            SpoolError: The chunk cannot be written.
        """
        try:
            yield self
            self.complete()
        except BaseException:
            self.close()
            raise

    def reject(self, line: bytes, position: int, reason: str) -> None:
        """Add a malformed line.

        Args:
            line: The line with its newline.
            position: The position in the response, as for `first_rejected`.
            reason: Why the line is malformed.

        Raises:
            SpoolError: The line cannot be written.
        """
        self.rejected_lines.write(line)
        if not self.rejected:
            self.first_rejected, self.first_reason = position, reason
        self.rejected += 1

    @property
    def counts(self) -> dict[str, Any]:
        """The attributes that a conversion sets, by name."""
        names = (
            *("records", "rejected", "first_rejected", "first_reason", "nuls", "misfits", "decompressed_bytes"),
            *("names", "days"),
        )
        return {name: getattr(self, name) for name in names}

    @counts.setter
    def counts(self, counts: dict[str, Any]) -> None:
        for name, count in counts.items():
            setattr(self, name, count)

    def complete(self) -> None:
        """Write all buffered lines to the files.

        Raises:
            SpoolError: The lines cannot be written.
        """
        self.lines.flush()
        self.rejected_lines.flush()

    def close(self) -> None:
        """Delete the lines."""
        self.lines.close()
        self.rejected_lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reserved_bytes(total: int) -> int:
    """Return the number of bytes to keep free on a disk of `total` bytes."""
    return min(RESERVED_BYTES, total // RESERVED_DIVISOR)


def temporary_folder() -> str:
    """Return the folder for temporary files.

    Raises:
        SpoolError: No folder is usable.
    """
    with _translate_errors():
        return tempfile.gettempdir()


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cause = f"no space left in {_folder()}" if is_full else f"{_folder()} cannot be used ({error.strerror})"
        raise SpoolError(f"{cause}: {REMEDY}") from None


def _folder() -> str:
    try:
        return f"the temporary folder {tempfile.gettempdir()}"
    except OSError:  # No folder is usable.
        return "a temporary folder"
