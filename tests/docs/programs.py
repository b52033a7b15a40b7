"""Programs in the environments beside the checkout, which `make test` sets up."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_mixpanel_stream.emulator import ReceivedRequest

ROOT = Path(__file__).resolve().parents[2]
# The folder of the tap and the emulator: that of the Python that runs the tests.
COMMANDS = Path(sys.executable).parent

# The programs get no settings, proxies or Meltano project from the environment.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("TAP_", "TARGET_", "MELTANO_")) and not name.lower().endswith("_proxy")
} | {"PYTHONDONTWRITEBYTECODE": ""}


def requested_days(requests: Iterable[ReceivedRequest]) -> tuple[str, str]:
    """Return the first and last day of all exports requested, in any order."""
    exports = [seen.query for seen in requests if seen.kind == "export"]
    return min(query["from_date"] for query in exports), max(query["to_date"] for query in exports)


def installed(name: str, program: str) -> Path:
    """Return a program from one of the targets' environments."""
    path = ROOT / ".venv-targets" / name / "bin" / program
    if not path.exists():
        raise AssertionError(f"{path.relative_to(ROOT)} is missing: run `make test`, which sets it up")
    return path
