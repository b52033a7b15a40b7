from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
COMMANDS: dict[str, str] = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["scripts"]


@pytest.mark.parametrize("command", COMMANDS)
def test_windows_is_rejected_in_one_line(command: str) -> None:
    """Each command says where it runs instead of ending with a traceback."""
    module, main = COMMANDS[command].split(":")
    # Modules that Windows lacks are missing too, to check that nothing imports them before.
    code = (
        "import sys; sys.platform = 'win32'; sys.modules['fcntl'] = None; "
        f"from {module} import {main}; sys.exit({main}())"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "tap-mixpanel-stream runs on Linux and macOS; on Windows, install and run it in WSL\n"
