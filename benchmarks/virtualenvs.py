"""Virtual environments of the programs that the tap is compared with. Each is created on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEER_FOLDER = Path(__file__).with_name("peers")


class NotInstalledError(Exception):
    """A program is not installed and could not be installed."""


def python_with(peer: str) -> Path:
    """Return the Python of a peer's virtual environment. Create or update the environment if necessary.

    Raises:
        NotInstalledError: The installation failed. The message contains pip's last line.
    """
    requirements = PEER_FOLDER / f"{peer}.txt"
    environment = ROOT / ".venv-peers" / peer
    python, installed = environment / "bin" / "python", environment / "installed.txt"
    if installed.exists() and installed.read_bytes() == requirements.read_bytes():
        return python
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", str(requirements)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(environment)], pip):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no error message"])[-1]
            raise NotInstalledError(f"cannot install {peer}: {last_line}")
    installed.write_bytes(requirements.read_bytes())
    return python


def version_of(package: str) -> str:
    """Return the version of a package that is pinned for a peer or a target."""
    files = [*PEER_FOLDER.glob("*.txt"), *(ROOT / "tests").glob("targets-*.txt")]
    lines = [line for path in files for line in path.read_text().splitlines()]
    return next(line.removeprefix(f"{package}==") for line in lines if line.startswith(f"{package}=="))
