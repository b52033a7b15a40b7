from __future__ import annotations

import pytest

from scripts import generate_docs


@pytest.fixture(scope="session")
def about() -> generate_docs.About:
    """What the installed command says of itself."""
    return generate_docs.about()
