"""Run `tap-mixpanel-stream | target-postgres` and pass on each log line. Independent of Dagster.

Both programs read their settings from the environment, TAP_MIXPANEL_STREAM_... and TARGET_POSTGRES_..., so that no
secret is in a file or on a command line.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Part = Literal["events", "others"]
    Singer = dict[str, Any]
    """A Singer state or catalog."""

TAP, TARGET = "tap-mixpanel-stream", "target-postgres"
# target-postgres stores times without a zone, in the session's time zone.
IN_UTC = {"PGTZ": "UTC"}


@dataclass
class PipelineResult:
    """The result of a pipeline.

    Attributes:
        tap: The tap's exit code; negative after a signal.
        target: The target's exit code.
        state: The last state that the target emitted, which covers the loaded data. None without one.
        errors: Log lines of both that are errors, and stderr lines that are not log lines.
    """

    tap: int = 0
    target: int = 0
    state: Singer | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether both exited with 0."""
        return self.tap == self.target == 0

    def __str__(self) -> str:
        """Return the exit codes and the last error."""
        codes = f"{TAP} ended with {self.tap}, {TARGET} with {self.target}"
        return f"{codes}: {self.errors[-1]}" if self.errors else codes


def run(
    on_line: Callable[[str], None],
    options: Sequence[str] = (),
    *,
    settings: Mapping[str, str] | None = None,
    part: Part | None = None,
    state: Singer | None = None,
) -> PipelineResult:
    """Run the pipeline. An exception, such as an interrupt, ends both programs.

    Args:
        on_line: Called on this thread with each log line of both programs.
        options: More options for the tap.
        settings: Settings of the tap for this run only, by name.
        part: Only events, or only the other default streams; None for both.
        state: The state to continue from; None to start from the beginning.
    """
    own = {f"TAP_MIXPANEL_STREAM_{name.upper()}": value for name, value in (settings or {}).items()}
    environment = {**os.environ, **IN_UTC, **own}
    with tempfile.TemporaryDirectory() as folder:
        tap = [TAP, "--config=ENV", *options]
        if part:
            discovery = subprocess.run(
                [*tap[:2], "--discover"], env=environment, capture_output=True, text=True, check=False
            )
            if discovery.returncode:
                result = PipelineResult(tap=discovery.returncode)
                for line in discovery.stderr.splitlines():
                    _note(TAP, line, result, on_line)
                return result
            catalog = _select(part, json.loads(discovery.stdout))
            tap += ["--catalog", _write_json(Path(folder, "catalog.json"), catalog)]
        if state:
            tap += ["--state", _write_json(Path(folder, "state.json"), state)]
        return _run_pipe(tap, [TARGET, "--config=ENV"], environment, on_line)


def _select(part: Part, catalog: Singer) -> Singer:
    for stream in catalog["streams"]:
        is_events = stream["tap_stream_id"] == "events"
        for entry in stream["metadata"]:
            if not entry["breadcrumb"] and (is_events or part == "events"):
                entry["metadata"]["selected"] = is_events and part == "events"
    return catalog


def _write_json(path: Path, content: Singer) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def _run_pipe(
    tap: list[str], target: list[str], environment: Mapping[str, str], on_line: Callable[[str], None]
) -> PipelineResult:
    result = PipelineResult()
    # The threads only read, so that no full pipe blocks a program; this thread handles the lines.
    lines: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()

    def read(name: str, pipe: IO[str]) -> None:
        for line in pipe:
            lines.put((name, line.rstrip("\n")))
        lines.put(None)

    with (
        subprocess.Popen(tap, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as source,
        subprocess.Popen(
            target, env=environment, stdin=source.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as sink,
    ):
        if source.stdout:
            source.stdout.close()  # Only the target has the pipe open now, so the tap notices if it stops.
        pipes = [(tap[0], source.stderr), (target[0], sink.stderr), ("state", sink.stdout)]
        readers = [threading.Thread(target=read, args=each) for each in pipes]
        try:
            for reader in readers:
                reader.start()
            for _ in readers:
                while line := lines.get():
                    _note(*line, result, on_line)
            result.tap, result.target = source.wait(), sink.wait()
        finally:
            for program in (source, sink):
                if program.poll() is None:
                    program.terminate()
            for reader in readers:
                reader.join()
    return result


def _note(name: str, line: str, result: PipelineResult, on_line: Callable[[str], None]) -> None:
    if name == "state":
        result.state = json.loads(line)
        return
    if "| ERROR " in line or "| CRITICAL " in line or " | " not in line:
        result.errors.append(line)
    on_line(f"{name}: {line}")
