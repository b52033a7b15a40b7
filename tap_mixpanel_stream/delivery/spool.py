"""The spool: where record lines wait until their window is known to be whole."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A spool stays in memory up to this size. Many can wait at once (`concurrent_exports`), so it is kept small.
IN_MEMORY = 1024 * 1024
BLOCK = 256 * 1024


class SpoolError(Exception):
    """The temporary file could not be written."""


class Spool:
    """Lines kept in memory while they are few, beyond that in a temporary file.

    The file has no name in the file system (or loses it at once), only this process can read it, and it is gone when
    the process ends, however it ends.
    """

    def __init__(self, file: IO[bytes] | None = None) -> None:
        # Closed by `close`.
        self._file = file or tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, mode="w+b")  # noqa: SIM115

    @classmethod
    def in_file(cls, descriptor: int) -> Spool:
        """Make a spool that writes into another one's file, from the `fileno` of that one."""
        return cls(os.fdopen(descriptor, "wb"))

    def fileno(self) -> int:
        """Return the descriptor of the file, which there is from now on however few the lines."""
        return self._file.fileno()

    def write(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            SpoolError: The file system did not take them; the message says what to do.
        """
        try:
            self._file.write(lines)
        except OSError as error:
            raise _not_taken(error) from None

    def flush(self) -> None:
        """Have all lines in the file.

        Raises:
            SpoolError: The file system did not take them; the message says what to do.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise _not_taken(error) from None

    def blocks(self) -> Iterator[bytes]:
        """Yield everything from the start, in blocks of whole lines."""
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            yield block if block.endswith(b"\n") else block + self._file.readline()

    def lines(self) -> Iterator[bytes]:
        """Yield everything from the start, line by line, each with its line end."""
        self._file.seek(0)
        yield from self._file

    def close(self) -> None:
        """Let go of the lines."""
        self._file.close()


def _not_taken(error: OSError) -> SpoolError:
    where = tempfile.gettempdir()
    cause = (
        f"no space left in the temporary folder {where}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}
        else f"the temporary folder {where} cannot be written ({error.strerror})"
    )
    return SpoolError(
        f"{cause}; free some space, point TMPDIR at a larger disk, or lower window_days or concurrent_exports"
    )
