"""Batch files: record lines as JSON-lines files in a storage, for targets that load files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4
from zlib import DEFLATED

from upath import UPath

try:
    from isal.isal_zlib import compressobj
except ImportError:  # a platform without wheels: the same files, more slowly
    from zlib import compressobj  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singer_sdk.helpers._batch import BatchConfig

# For isal, whose levels end at 3, the level of its gzip command; for zlib a fast one.
LEVEL = 2
# zlib's `wbits` for a gzip header and trailer.
GZIP = 31


class BatchFileError(Exception):
    """A batch file could not be written. The message says where, why and what to do."""


def batch_files(blocks: Iterable[bytes], config: BatchConfig, prefix: str) -> Iterator[str]:
    """Write record lines into files of at most `batch_size` lines.

    Args:
        blocks: Record lines, in blocks of whole lines.
        config: The storage, the lines of a file and the compression.
        prefix: What the file names begin with, after the storage's own prefix.

    Yields:
        The URL of each file, once it is complete.

    Raises:
        BatchFileError: The file could not be written.
    """
    is_compressed = config.encoding.compression != "none"
    folder = UPath(config.storage.root, **config.storage.params).resolve()
    name_of_run = f"{config.storage.prefix or ''}{prefix}-{uuid4()}"
    for number, blocks_of_file in enumerate(_by_lines(blocks, config.batch_size), start=1):
        name = f"{name_of_run}-{number}.json{'.gz' if is_compressed else ''}"
        with _new_file(folder, name) as file:
            for piece in _compress(blocks_of_file) if is_compressed else blocks_of_file:
                file.write(piece)
        yield (folder / name).as_uri()


@contextlib.contextmanager
def _new_file(folder: UPath, name: str) -> Iterator[IO[bytes]]:
    """Open a file that gets its name when it is complete, and is deleted after an error.

    The SDK's own way leaves a temporary file behind after an error or a signal, and a truncated one on a full disk.
    """
    try:
        if folder.protocol in {"", "file", "local"}:
            with _renamed_when_complete(Path(folder.path), name) as file:
                yield file
        else:
            with folder.fs.transaction, folder.joinpath(name).open("wb") as file:
                yield file
    except OSError as error:
        raise BatchFileError(
            f"batch_config: {folder} cannot be written ({error.strerror or error}): fix that, and run again"
        ) from None


@contextlib.contextmanager
def _renamed_when_complete(folder: Path, name: str) -> Iterator[IO[bytes]]:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.partial"
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(folder / name)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _compress(blocks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = compressobj(LEVEL, DEFLATED, GZIP)
    for block in blocks:
        yield compressor.compress(block)
    yield compressor.flush()


def _by_lines(blocks: Iterable[bytes], most: int) -> Iterator[Iterator[bytes]]:
    """Split blocks of lines into groups of at most `most` lines."""
    source = iter(blocks)
    rest = next(source, b"")

    def group() -> Iterator[bytes]:
        nonlocal rest
        room = most
        while rest:
            lines = rest.count(b"\n")
            if lines > room:
                end = _after_line(rest, room)
                piece, rest = rest[:end], rest[end:]
                yield piece
                return
            room -= lines
            piece, rest = rest, next(source, b"")
            yield piece
            if not room:
                return

    while rest:
        yield group()


def _after_line(block: bytes, count: int) -> int:
    end = 0
    for _ in range(count):
        end = block.index(b"\n", end) + 1
    return end
