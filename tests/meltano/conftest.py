from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.meltano.project import Project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a new Meltano project."""
    return Project(tmp_path)
