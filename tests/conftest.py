from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write the snapshots anew")
    parser.addoption("--seeds", type=_seeds, metavar="FIRST-LAST", help="seeds for the tests that take any")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test marked `seeds(n)` each of the first n seeds, or those of the command line."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds_of(metafunc.definition, metafunc.config))


def seeds_of(item: pytest.Item, config: pytest.Config) -> range:
    """The seeds that a marked test is to take."""
    marker = item.get_closest_marker("seeds")
    assert marker is not None
    chosen: range | None = config.getoption("seeds")
    return range(*marker.args) if chosen is None else chosen


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """All of the seeds at once, for a test about what they come to together."""
    return seeds_of(request.node, request.config)


@pytest.fixture
def renew(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--renew"))
