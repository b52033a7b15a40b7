"""Run the installed command as in a pipeline, and parse its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAP = Path(sys.executable).parent / "tap-mixpanel-stream"

# The tap gets no settings and proxies from the environment, and no coverage: a test may send a signal, and a handler
# that raises inside coverage leaves its lock locked, so that the process hangs.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("TAP_MIXPANEL_STREAM_", "COVERAGE_")) and not name.lower().endswith("_proxy")
} | {"PYTHONDONTWRITEBYTECODE": ""}
MEASURED = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


@dataclass
class Run:
    """A finished run of the command.

    Attributes:
        exit_code: The exit code in a shell: 128 + N after signal N.
        stdout: The output.
        stderr: The lines of the log.
    """

    exit_code: int
    stdout: bytes
    stderr: list[str]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All Singer messages; raises an error if a line is not JSON."""
        assert self.stdout.endswith(b"\n") or not self.stdout
        return [json.loads(line) for line in self.stdout.split(b"\n")[:-1]]

    def records(self, stream: str = "events") -> list[dict[str, Any]]:
        """Return the records of a stream in order."""
        return [
            message["record"]
            for message in self.messages
            if message["type"] == "RECORD" and message["stream"] == stream
        ]

    def schemas(self) -> dict[str, dict[str, Any]]:
        """Return the SCHEMA messages by stream."""
        return {message["stream"]: message for message in self.messages if message["type"] == "SCHEMA"}

    @property
    def states(self) -> list[dict[str, Any]]:
        """The values of all STATE messages in order."""
        return [message["value"] for message in self.messages if message["type"] == "STATE"]

    @property
    def bookmark(self) -> str | None:
        """The last bookmark of events."""
        values = [state["bookmarks"].get("events", {}).get("replication_key_value") for state in self.states]
        return values[-1] if values else None

    @property
    def problems(self) -> list[str]:
        """The lines of stderr that are warnings or errors."""
        return [line for line in self.stderr if "| WARNING " in line or "| ERROR " in line]

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that are errors, without the prefix of each line."""
        return [line.split("|", 3)[-1].strip() for line in self.stderr if "| ERROR " in line]

    def well(self) -> Run:
        """Check that the run succeeded, and return it."""
        assert self.exit_code == 0, "\n".join(self.stderr)
        assert not self.errors
        return self


def catalog_of(*streams: str, raw: bool = False, deselected: Mapping[str, list[str]] | None = None) -> dict[str, Any]:
    """Return a discovered catalog that selects only these streams, without the deselected columns."""
    discovered = run_tap({"raw": raw}, "--discover")
    catalog: dict[str, Any] = json.loads(discovered.stdout)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] in streams
            elif entry["breadcrumb"][-1] in (deselected or {}).get(stream["tap_stream_id"], []):
                entry["metadata"]["selected"] = False
    return catalog


def command(
    folder: Path,
    config: Mapping[str, Any],
    *options: str,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write the files of a run to a folder and return the command line."""
    arguments = [str(TAP)]
    for name, content in (("config", config), ("state", state), ("catalog", catalog)):
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
            arguments += [f"--{name}", str(folder / f"{name}.json")]
    return [*arguments, *options]


def run_tap(
    config: Mapping[str, Any],
    *options: str,
    state: Mapping[str, Any] | None = None,
    catalog: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 120,
    within: Sequence[str] = (),
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> Run:
    """Run the installed command, optionally within another command or with another stdout."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*within, *command(Path(folder), config, *options, state=state, catalog=catalog)],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
            env={**ENVIRONMENT, **MEASURED, **(environment or {})},
            timeout=timeout,
        )
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Run(code, done.stdout or b"", done.stderr.decode().splitlines())
