"""Runs `tap-mixpanel-stream | target-postgres` and tells line by line what the two say. Knows nothing of Dagster.

Both programs take their settings from the environment, TAP_MIXPANEL_STREAM_... and TARGET_POSTGRES_..., so that no
secret stands in a file or on a command line.
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
# target-postgres stores instants without a zone, in the session's.
IN_UTC = {"PGTZ": "UTC"}


@dataclass
class Ended:
    """How a pipeline ended.

    Attributes:
        tap: The tap's exit code; negative after a signal.
        target: The target's.
        state: The last state that the target handed on: what is loaded for certain. None if there was none.
        complaints: What the two wrote to stderr as errors, or at all where it is no log line.
    """

    tap: int = 0
    target: int = 0
    state: Singer | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        """Whether both ended with 0."""
        return self.tap == self.target == 0

    def __str__(self) -> str:
        """The exit codes, and the last complaint."""
        codes = f"{TAP} ended with {self.tap}, {TARGET} with {self.target}"
        return f"{codes}: {self.complaints[-1]}" if self.complaints else codes


def run(
    hear: Callable[[str], None],
    options: Sequence[str] = (),
    *,
    settings: Mapping[str, str] | None = None,
    part: Part | None = None,
    state: Singer | None = None,
) -> Ended:
    """Run the pipeline to its end. Should this be interrupted, both programs are ended too.

    Args:
        hear: Told each line of both programs' logs, on this thread.
        options: More options for the tap.
        settings: Settings of the tap for this run only, by name.
        part: Events alone, or the other streams that are read by default; None for both.
        state: What the tap is to go on from; None for the beginning.
    """
    own = {f"TAP_MIXPANEL_STREAM_{name.upper()}": value for name, value in (settings or {}).items()}
    surroundings = {**os.environ, **IN_UTC, **own}
    with tempfile.TemporaryDirectory() as folder:
        tap = [TAP, "--config=ENV", *options]
        if part:
            tap += ["--catalog", _written(Path(folder, "catalog.json"), _catalog(part, surroundings))]
        if state:
            tap += ["--state", _written(Path(folder, "state.json"), state)]
        return _piped(tap, [TARGET, "--config=ENV"], surroundings, hear)


def _catalog(part: Part, surroundings: Mapping[str, str]) -> Singer:
    told = subprocess.run([TAP, "--config=ENV", "--discover"], env=surroundings, check=True, capture_output=True)
    catalog: Singer = json.loads(told.stdout)
    for stream in catalog["streams"]:
        is_events = stream["tap_stream_id"] == "events"
        for entry in stream["metadata"]:
            if not entry["breadcrumb"] and (is_events or part == "events"):
                entry["metadata"]["selected"] = is_events and part == "events"
    return catalog


def _written(path: Path, content: Singer) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def _piped(tap: list[str], target: list[str], surroundings: Mapping[str, str], hear: Callable[[str], None]) -> Ended:
    ended = Ended()
    # The threads only read, so that no full pipe holds a program up; what to make of a line is for this thread.
    lines: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()

    def read(name: str, pipe: IO[str]) -> None:
        for line in pipe:
            lines.put((name, line.rstrip("\n")))
        lines.put(None)

    with (
        subprocess.Popen(tap, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as source,
        subprocess.Popen(
            target, env=surroundings, stdin=source.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as sink,
    ):
        if source.stdout:
            source.stdout.close()  # only the target holds it now: should it stop, the tap notices
        pipes = [(tap[0], source.stderr), (target[0], sink.stderr), ("state", sink.stdout)]
        readers = [threading.Thread(target=read, args=each) for each in pipes]
        try:
            for reader in readers:
                reader.start()
            for _ in readers:
                while line := lines.get():
                    _note(*line, ended, hear)
            ended.tap, ended.target = source.wait(), sink.wait()
        finally:
            for program in (source, sink):
                if program.poll() is None:
                    program.terminate()
            for reader in readers:
                reader.join()
    return ended


def _note(name: str, line: str, ended: Ended, hear: Callable[[str], None]) -> None:
    if name == "state":
        ended.state = json.loads(line)
        return
    if "| ERROR " in line or "| CRITICAL " in line or " | " not in line:
        ended.complaints.append(line)
    hear(f"{name}: {line}")
