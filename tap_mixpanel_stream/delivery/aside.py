"""Where lines that are no records are set aside: a file of the user's, which grows by whole portions."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class AsideError(Exception):
    """The file could not be written."""


def set_aside(path: Path, blocks: Iterable[bytes]) -> None:
    """Append a portion's lines, all of them or none, and see them on the disk.

    Whatever ends the call early, an exception of a signal too, the file is as long as before. Only a process that is
    killed within it leaves some of the lines, the last of them perhaps cut; they come again with the portion.

    Args:
        path: The file; made if there is none.
        blocks: Lines, each with its line end.

    Raises:
        AsideError: The file system did not take them.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _append(file, blocks)
        finally:
            os.close(file)
    except OSError as error:
        raise AsideError(f"{path} cannot be written: {error.strerror}") from None


def _append(file: int, blocks: Iterable[bytes]) -> None:
    about = os.fstat(file)
    has_length = stat.S_ISREG(about.st_mode)  # /dev/stderr has none
    try:
        if has_length and about.st_size and os.pread(file, 1, about.st_size - 1) != b"\n":
            _write_all(file, b"\n")
        for block in blocks:
            _write_all(file, block)
        if has_length:
            os.fsync(file)
    except BaseException:
        if has_length:
            os.ftruncate(file, about.st_size)
        raise


def _write_all(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]
