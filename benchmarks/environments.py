"""Where the peers are installed: each in an environment of its own, made when it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("peers")


class NotInstalledError(Exception):
    """A peer could not be installed here."""


def python_with(peer: str) -> Path:
    """Return the Python that has a peer, which is installed first where it is not yet, or where its list has changed.

    Raises:
        NotInstalledError: The packages could not be had; the message holds the end of what pip said.
    """
    pinned = PEERS / f"{peer}.txt"
    folder = ROOT / ".venv-peers" / peer
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if installed.exists() and installed.read_bytes() == pinned.read_bytes():
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", str(pinned)]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
            raise NotInstalledError(f"{peer} could not be installed: {last}")
    installed.write_bytes(pinned.read_bytes())
    return python


def version_of(package: str) -> str:
    """Return a program's version, as a list of the programs or of the targets pins it."""
    lists = [*PEERS.glob("*.txt"), *(ROOT / "tests").glob("targets-*.txt")]
    lines = [line for path in lists for line in path.read_text().splitlines()]
    return next(line.removeprefix(f"{package}==") for line in lines if line.startswith(f"{package}=="))
