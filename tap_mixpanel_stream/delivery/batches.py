"""Write records to batch files: JSON-lines files in a folder or bucket, for targets that load files."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4
from zlib import DEFLATED

from upath import UPath

try:
    from isal.isal_zlib import compressobj
except ImportError:  # No wheel for this platform. zlib writes equivalent files, but slower.
    from zlib import compressobj  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from singer_sdk.helpers._batch import BatchConfig

# The default level of isal's gzip command; isal's levels are 0 to 3. A fast level for zlib.
LEVEL = 2
# zlib's `wbits` for a gzip header and trailer.
GZIP = 31
# A storage setting whose name contains one of these words is a secret.
SECRET_WORDS = ("key", "pass", "secret", "token", "credential", "connection", "sas")
# Seconds to wait for the first response of a bucket.
BUCKET_TIMEOUT = 10


class BatchFileError(Exception):
    """A batch file could not be written. The message names the storage, the cause and the remedy."""


def batch_files(blocks: Iterable[bytes], config: BatchConfig, prefix: str) -> Iterator[str]:
    """Write record lines to files of at most `batch_size` lines.

    Args:
        blocks: Record lines, in blocks of whole lines.
        config: The storage, the number of lines of a file, and the compression.
        prefix: The beginning of the file names, after the storage's own prefix.

    Yields:
        The URL of each file, after it is complete.

    Raises:
        BatchFileError: The file could not be written.
    """
    is_compressed = config.encoding.compression != "none"
    folder = _folder(config)
    file_stem = f"{config.storage.prefix or ''}{prefix}-{uuid4()}"
    for number, blocks_of_file in enumerate(_by_lines(blocks, config.batch_size), start=1):
        name = f"{file_stem}-{number}.json{'.gz' if is_compressed else ''}"
        with _new_file(folder, name) as file:
            for piece in _compress(blocks_of_file) if is_compressed else blocks_of_file:
                file.write(piece)
        yield (folder / name).as_uri()


def check_bucket(config: BatchConfig) -> None:
    """Check that the bucket exists and the credentials are valid, before a run reads anything.

    A local folder is not checked, since it is created with its first file.

    Raises:
        BatchFileError: The bucket is missing, or the storage does not respond or rejects the credentials.
    """
    folder = _folder(config)
    bucket = folder.path.strip("/").split("/")[0]
    with _reporting_failures_of(folder, Exception):
        try:
            if folder.protocol in {"s3", "s3a"}:
                folder.fs.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1, timeout=BUCKET_TIMEOUT)
            elif folder.protocol in {"gs", "gcs"}:
                folder.fs.call("GET", "b/{}/o", bucket, maxResults=1, timeout=BUCKET_TIMEOUT)
        except FileNotFoundError:
            raise BatchFileError(
                f"batch_config: the bucket {bucket} does not exist: create it, and run again"
            ) from None
        except TimeoutError:
            problem = f"no response within {BUCKET_TIMEOUT} seconds"
            remedy = "check the endpoint, the network and the credentials, and run again"
            raise BatchFileError(f"batch_config: {folder}: {problem}: {remedy}") from None
        except OSError as error:
            if not _is_not_allowed_to_list(error):
                raise


def secrets_of(storage: Mapping[str, Any]) -> Iterator[str]:
    """Yield the secrets in the `params` of a storage: values with the name of a secret, and passwords in URLs."""
    for name, value in storage.items():
        if isinstance(value, dict):
            yield from secrets_of(value)
        elif isinstance(value, str):
            if any(word in name.lower() for word in SECRET_WORDS):
                yield value
            if "://" in value and "@" in value:
                yield value.split("://", 1)[1].rsplit("@", 1)[0].split(":", 1)[-1]


def _folder(config: BatchConfig) -> UPath:
    root, params = config.storage.root, config.storage.params or {}
    folder: UPath = UPath(root, **params)
    if not folder.protocol:
        # A plain path's URL is percent-encoded, but targets open a URL's path as it is.
        folder = UPath(f"file://{root}", **params)
    return folder.resolve()


def _is_not_allowed_to_list(error: OSError) -> bool:
    """Return whether the credentials are valid but may not list the bucket. Batch files need write access only."""
    response = getattr(error.__cause__, "response", {})  # botocore's
    return response.get("Error", {}).get("Code") == "AccessDenied" or str(error).startswith("Forbidden")


@contextlib.contextmanager
def _new_file(folder: UPath, name: str) -> Iterator[IO[bytes]]:
    """Open a file that gets its final name when it is complete, and is deleted after an error.

    The SDK's function leaves a temporary file behind after an error or a signal, and a truncated file on a full disk.
    It also creates missing buckets.
    """
    if folder.protocol in {"file", "local"}:
        with _reporting_failures_of(folder, OSError), _renamed_when_complete(Path(folder.path, name)) as file:
            yield file
        return
    with _reporting_failures_of(tempfile.gettempdir(), OSError), tempfile.TemporaryFile() as file:
        yield file
        file.seek(0)
        with (
            _reporting_failures_of(folder, Exception),
            folder.fs.transaction,
            folder.joinpath(name).open("wb") as upload,
        ):
            shutil.copyfileobj(file, upload)


@contextlib.contextmanager
def _reporting_failures_of(place: UPath | str, kind: type[Exception]) -> Iterator[None]:
    """Translate exceptions of a kind into `BatchFileError`. The packages for buckets raise many kinds."""
    try:
        yield
    except BatchFileError:
        raise
    except kind as error:
        problem = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise BatchFileError(f"batch_config: {place} cannot be written ({problem}): fix that, and run again") from None


@contextlib.contextmanager
def _renamed_when_complete(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)  # The prefix of the storage can name a folder too.
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _compress(blocks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = compressobj(LEVEL, DEFLATED, GZIP)
    for block in blocks:
        yield compressor.compress(block)
    yield compressor.flush()


def _by_lines(blocks: Iterable[bytes], max_lines: int) -> Iterator[Iterator[bytes]]:
    """Split blocks of lines into groups of at most `max_lines` lines."""
    source = iter(blocks)
    rest = next(source, b"")

    def group() -> Iterator[bytes]:
        nonlocal rest
        room = max_lines
        while rest:
            lines = rest.count(b"\n")
            if lines > room:
                end = _length_of_lines(rest, room)
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


def _length_of_lines(block: bytes, count: int) -> int:
    """Return the size in bytes of the first `count` lines of a block."""
    end = 0
    for _ in range(count):
        end = block.index(b"\n", end) + 1
    return end
