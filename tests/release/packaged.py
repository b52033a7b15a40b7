"""The built package and the environment with it installed; `make test-wheel` makes both."""

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
# Programs in the wheel's environment, and tools for the checks.
INSTALLED = ROOT / ".venv-wheel" / "bin"
TOOLS = ROOT / ".venv-tools" / "release" / "bin"
BUILDER = ROOT / ".venv-tools" / "dist" / "bin" / "python"


def output_of(*command: object) -> str:
    """Run a command that must succeed, and return its output."""
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


def require_package() -> None:
    """Fail if the package has not been built."""
    if not (WHEEL.exists() and (INSTALLED / "python").exists()):
        pytest.fail("the package is not built: run `make test-wheel`, which builds it")
