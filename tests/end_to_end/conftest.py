from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.pipeline import catalog_of


@cache
def _only(stream: str, *, raw: bool) -> dict[str, Any]:
    return catalog_of(stream, raw=raw)


@pytest.fixture(scope="session")
def only_events() -> dict[str, Any]:
    """A catalog that selects the events alone."""
    return _only("events", raw=False)


@pytest.fixture(scope="session")
def only_raw_events() -> dict[str, Any]:
    """A catalog that selects the raw events alone."""
    return _only("events", raw=True)


@pytest.fixture(scope="session")
def only_profiles() -> dict[str, Any]:
    """A catalog that selects the profiles alone."""
    return _only("profiles", raw=False)
