from __future__ import annotations

import pytest

from scripts import generate_docs


@pytest.fixture(scope="session")
def about() -> generate_docs.About:
    """Return the output of `--about` of the installed command."""
    return generate_docs.about()
