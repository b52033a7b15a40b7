from __future__ import annotations

import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import catalog_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@cache
def _only(stream: str, *, raw: bool) -> dict[str, Any]:
    return catalog_of(stream, raw=raw)


@pytest.fixture(scope="session")
def only_events() -> dict[str, Any]:
    """Return a catalog that selects only events."""
    return _only("events", raw=False)


@pytest.fixture(scope="session")
def only_raw_events() -> dict[str, Any]:
    """Return a catalog that selects only raw events."""
    return _only("events", raw=True)


@pytest.fixture(scope="session")
def only_profiles() -> dict[str, Any]:
    """Return a catalog that selects only profiles."""
    return _only("profiles", raw=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=False, capture_output=True)  # noqa: S607
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted")
    yield disk
    subprocess.run(["umount", disk], check=True)  # noqa: S607
