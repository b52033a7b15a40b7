"""The spool: record lines wait in memory or in a temporary file until their window or page is known to be whole."""

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

# Bytes up to which a spool stays in memory. Many can wait at once (`concurrent_exports`), so it is kept small.
IN_MEMORY = 1024 * 1024
BLOCK = 256 * 1024
# Bytes that a spool grows between two checks of the disk's free space.
CHECK_EVERY = 16 * 1024 * 1024
# Bytes of a disk that stay free, or this share of a small disk.
RESERVED_BYTES = 1024 * 1024 * 1024
RESERVED_SHARE = 20

REMEDY = "free some space, point TMPDIR at a larger disk, or lower window_days or concurrent_exports"


class SpoolError(Exception):
    """The temporary file could not be written or read, or has no more room."""


class Spool:
    """Lines kept in memory while they are few, and in a temporary file once they are many.

    The file has no name in the file system (or loses it at once), only this process can read it, and it is gone when
    the process ends, however it ends. It leaves some of the disk free, however much Mixpanel sends.

    Attributes:
        size: Bytes written.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        # Closed by `close`.
        self._file = file or tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, mode="w+b")  # noqa: SIM115
        self.size = 0
        self._check_at = CHECK_EVERY

    @classmethod
    def in_file(cls, descriptor: int) -> Spool:
        """Return a spool that writes into the file of another one, given by its `fileno`."""
        return cls(os.fdopen(descriptor, "wb"))

    def fileno(self) -> int:
        """Return the descriptor of the file; creates the file if the lines are still in memory.

        Raises:
            SpoolError: The file could not be created.
        """
        with _translate_errors():
            return self._file.fileno()

    def write(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            SpoolError: The lines could not be written, or the disk is nearly full. The message says what to do.
        """
        with _translate_errors():
            self._file.write(lines)
        self.size += len(lines)
        if self.size >= self._check_at:
            self._check_at = self.size + CHECK_EVERY
            self._check_free_space()

    def flush(self) -> None:
        """Write buffered lines to the file.

        Raises:
            SpoolError: They could not be written. The message says what to do.
        """
        with _translate_errors():
            self._file.flush()

    def blocks(self) -> Iterator[bytes]:
        """Yield everything from the start, in blocks of whole lines.

        Raises:
            SpoolError: The file could not be read.
        """
        with _translate_errors():
            self._file.seek(0)
            while block := self._file.read(BLOCK):
                yield block if block.endswith(b"\n") else block + self._file.readline()

    def lines(self) -> Iterator[bytes]:
        """Yield everything from the start, line by line, each with its line end.

        Raises:
            SpoolError: As for `blocks`.
        """
        with _translate_errors():
            self._file.seek(0)
            yield from self._file

    def close(self) -> None:
        """Delete the lines."""
        with suppress(OSError):  # A full disk does not take what is still in a buffer, and nobody wants it any more.
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
    r"""The records of one window or page on their way to stdout.

    Attributes:
        lines: The record lines.
        rejected_lines: Malformed lines, as they came, each ended by a line feed.
        records: Number of record lines.
        what: What was requested, for messages.
        rejected: Number of malformed lines.
        first_rejected: The place in the response of the first of them, from 1 for a line and from 0 for a profile.
        first_reason: Why it was rejected.
        nuls: Number of `\u0000` removed from strings.
        misfits: By chosen column, the number of values that became null because they did not fit its type.
        extent: How much of its stream it covers: days of a window, profiles of a page.
        received: Bytes of the response as sent.
        decompressed_bytes: Bytes of the response, decompressed.
        names: Names of events, if they are collected.
        days: Events by day of the stored clock, in days since 1970, if they are counted.
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
        """Complete the chunk at the end, or close it if it cannot be filled.

        Raises:
            SpoolError: The chunk could not be kept.
        """
        try:
            yield self
            self.complete()
        except BaseException:
            self.close()
            raise

    def reject(self, line: bytes, place: int, reason: str) -> None:
        """Add a malformed line.

        Args:
            line: The line with its line feed.
            place: Its place in the response.
            reason: What is wrong with it.

        Raises:
            SpoolError: It could not be kept.
        """
        self.rejected_lines.write(line)
        if not self.rejected:
            self.first_rejected, self.first_reason = place, reason
        self.rejected += 1

    @property
    def counts(self) -> dict[str, Any]:
        """Return what a conversion counts, by the attributes' names."""
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
            SpoolError: They could not be written.
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
    """Return how many bytes of a disk of `total` bytes stay free."""
    return min(RESERVED_BYTES, total // RESERVED_SHARE)


def temporary_folder() -> str:
    """Return the folder for temporary files.

    Raises:
        SpoolError: No folder can be used.
    """
    with _translate_errors():
        return tempfile.gettempdir()


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cause = f"no space left in {_folder()}" if full else f"{_folder()} cannot be used ({error.strerror})"
        raise SpoolError(f"{cause}: {REMEDY}") from None


def _folder() -> str:
    try:
        return f"the temporary folder {tempfile.gettempdir()}"
    except OSError:  # No folder can be used.
        return "a temporary folder"
