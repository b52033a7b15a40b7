"""S3 by `rclone serve s3` and GCS by gcp-storage-emulator, with a folder for each bucket.

They emulate the services. A missing bucket, a wrong name and (S3) a wrong key fail as in the service; permissions,
encryption and storage classes are not emulated.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.docs.programs import installed
from tests.targets.servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# The bucket of docs/targets.md.
BUCKET = "lake"
KEY, SECRET, REGION = "AKIATESTS", "known-on-loopback-only", "eu-central-1"


@dataclass(frozen=True)
class ObjectStorage:
    """A running object storage.

    Attributes:
        url: Its URL.
        folder: The folder with a folder for each bucket.
        environment: The variables with which a client connects.
    """

    url: str
    folder: Path
    environment: Mapping[str, str]

    @property
    def bucket(self) -> Path:
        """The folder of the only bucket."""
        return self.folder / BUCKET


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[ObjectStorage]:
    """Serve S3. An object is in the folder as soon as it is complete."""
    port = free_port()
    (folder / BUCKET).mkdir(parents=True)
    options = [
        f"--addr=127.0.0.1:{port}",
        f"--auth-key={KEY},{SECRET}",
        "--vfs-write-back=0s",
        # Not 0s: rclone then clears its cache without a pause, on all cores, and uploads time out.
        "--dir-cache-time=1ms",
    ]
    program = str(installed("objectstores", "rclone"))
    url = f"http://127.0.0.1:{port}"
    access = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}
    with running([program, "serve", "s3", str(folder), f"--config={os.devnull}", *options], port, log_of(folder)):
        yield ObjectStorage(url, folder, access | {"AWS_ENDPOINT_URL": url})


@contextlib.contextmanager
def gcs(folder: Path) -> Iterator[ObjectStorage]:
    """Serve GCS."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    program = str(installed("objectstores", "gcp-storage-emulator"))
    command = [program, "start", "--host=127.0.0.1", f"--port={port}"]
    url = f"http://127.0.0.1:{port}"
    place = {"STORAGE_BASE": str(folder.parent), "STORAGE_DIR": folder.name}
    with running([*command, f"--default-bucket={BUCKET}", "--quiet"], port, log_of(folder), place):
        yield ObjectStorage(url, folder, {"STORAGE_EMULATOR_HOST": url})


def log_of(folder: Path) -> Path:
    """Return the log file of a folder's server."""
    return folder.with_suffix(".log")
