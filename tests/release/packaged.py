"""The built package, and the environment it was installed into; `make test-wheel` makes both."""

from __future__ import annotations

import subprocess
import tomllib
from typing import Any

import pytest

from tests.docs.programs import ENVIRONMENT, ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION: str = PROJECT["version"]
DIST = ROOT / "dist"
WHEEL = DIST / f"tap_mixpanel_stream-{VERSION}-py3-none-any.whl"
SDIST = DIST / f"tap_mixpanel_stream-{VERSION}.tar.gz"
# Programs in the wheel's own environment, and those that check.
INSTALLED = ROOT / ".venv-wheel" / "bin"
TOOLS = ROOT / ".venv-tools" / "release" / "bin"
BUILDER = ROOT / ".venv-tools" / "dist" / "bin" / "python"


def said(*command: object) -> str:
    """Run a command, which must end well, and return what it said."""
    done = subprocess.run(
        list(map(str, command)),
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def made() -> None:
    """Fail where the package was not built yet."""
    if not (WHEEL.exists() and (INSTALLED / "python").exists()):
        pytest.fail("the package is not built: run `make test-wheel`, which does")
