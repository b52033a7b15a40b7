from __future__ import annotations

import pytest

from tests.newcomer import written


@pytest.fixture(scope="session")
def about() -> written.About:
    """What the installed command says of itself."""
    return written.about()
