"""The measured programs and their command lines.

To measure another configuration of the tap, add a line to `TAP_VARIANTS`. Configurations with settings that the
installed version of the tap does not have are skipped.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data import DEFAULT_LAYOUT, LAYOUTS
from .virtualenvs import PEER_FOLDER, ROOT, python_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from .emulator_process import EmulatorServer

TAP = str(Path(sys.executable).with_name("tap-mixpanel-stream"))

SCHEMA = (b'{"type":"SCHEMA"', b'{"type": "SCHEMA"')
"""Possible first bytes of a SCHEMA message."""


@dataclass(frozen=True)
class Task:
    """The data that a program reads in one run, and the files it needs.

    Attributes:
        server: Running emulator.
        first: First day.
        last: Last day, inclusive.
        body: Gzip file with the export of these days, or with the profiles.
        names: File with the names of all event properties, as a JSON list.
        folder: Empty temporary folder.
    """

    server: EmulatorServer
    first: date
    last: date
    body: Path
    names: Path
    folder: Path


@dataclass(frozen=True)
class Size:
    """The amount of data for a program, chosen by its speed so that runs have a suitable duration.

    Attributes:
        rounds: Number of rounds.
        large: Events or profiles in the large run.
        small: Events or profiles in the small run. Subtracting its cost removes the start-up.
    """

    rounds: int
    large: int
    small: int


FAST = Size(5, 100_000, 4_000)
LAYOUT_SIZE = Size(3, 100_000, 4_000)
SLOW = Size(3, 20_000, 4_000)
# For programs that take more than a millisecond per event.
VERY_SLOW = Size(3, 6_000, 2_000)
PROFILE_RUN = Size(5, 40_000, 4_000)
LONG_RUN = Size(3, 1_000_000, 200_000)


@dataclass(frozen=True)
class Program:
    """A program that reads events or profiles, with its configuration.

    Attributes:
        name: Name in the tables.
        command: Function that returns the command line for a task.
        size: Amount of data and number of rounds.
        stream: `events` or `profiles`.
        zone: Time zone of the project.
        layout: Layout of the lines, a key of `LAYOUTS`.
        environment: Additional environment variables.
        is_singer: Whether the program writes a SCHEMA message.
        is_tap: Whether the program is this tap.
        is_peer: Whether the program is another connector or client.
        needs: Settings of this tap that the configuration uses.
    """

    name: str
    command: Callable[[Task], list[str]]
    size: Size = FAST
    stream: str = "events"
    zone: str = "UTC"
    layout: str = DEFAULT_LAYOUT
    environment: tuple[tuple[str, str], ...] = ()
    is_singer: bool = False
    is_tap: bool = False
    is_peer: bool = False
    needs: frozenset[str] = frozenset()

    def with_size(self, large: int, small: int) -> Program:
        """Return the program with one round and another amount of data."""
        return replace(self, size=Size(1, large, small))


# --- This tap --------------------------------------------------------------------------------------------------------


@functools.cache
def known_settings() -> frozenset[str]:
    """Return the names of the settings of the installed tap."""
    about = subprocess.run([TAP, "--about", "--format", "json"], check=True, capture_output=True)
    return frozenset(json.loads(about.stdout)["settings"]["properties"])


@functools.cache
def catalog_of(stream: str, deselected: str = "", *, config_json: str) -> dict[str, Any]:
    """Discover a catalog and select one stream, without the column `deselected`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        config.write(config_json)
        config.flush()
        discovered = subprocess.run([TAP, "--discover", "--config", config.name], check=True, capture_output=True)
    catalog: dict[str, Any] = json.loads(discovered.stdout)
    for entry in catalog["streams"]:
        for part in entry["metadata"]:
            if not part["breadcrumb"]:
                part["metadata"]["selected"] = entry["tap_stream_id"] == stream
            elif part["breadcrumb"][-1] == deselected:
                part["metadata"]["selected"] = False
    return catalog


def tap_variant(
    name: str,
    *,
    stream: str = "events",
    size: Size = FAST,
    deselected: str = "",
    in_batches: bool = False,
    **settings: Any,
) -> Program:
    """Return a configuration of this tap as a program.

    Args:
        name: Name in the tables.
        stream: `events` or `profiles`.
        size: Amount of data and number of rounds.
        deselected: Column to deselect.
        in_batches: Whether the tap writes batch files, compressed with gzip.
        settings: Settings of the tap.
    """

    def command(task: Task) -> list[str]:
        config = {"start_date": str(task.first), "end_date": str(task.last), **task.server.settings, **settings}
        if in_batches:
            config["batch_config"] = {
                "encoding": {"format": "jsonl", "compression": "gzip"},
                "storage": {"root": task.folder.as_uri()},
            }
        schema_settings = {name: settings[name] for name in ("raw", "event_columns") if name in settings}
        catalog = catalog_of(stream, deselected, config_json=json.dumps(schema_settings))
        arguments = [TAP]
        for option, content in (("config", config), ("catalog", catalog)):
            path = task.folder / f"{option}.json"
            path.write_text(json.dumps(content))
            arguments += [f"--{option}", str(path)]
        return arguments

    zone = settings.get("project_timezone", "UTC")
    return Program(name, command, size, stream, zone, is_singer=True, is_tap=True, needs=frozenset(settings))


STREAM_MAP = {"events": {"city": "properties.get('$city')"}}
FIVE_COLUMNS = [
    {"name": "city", "property": "$city", "type": "string"},
    {"name": "browser", "property": "$browser", "type": "string"},
    {"name": "os", "property": "$os", "type": "string"},
    {"name": "screen_width", "property": "$screen_width", "type": "integer"},
    {"name": "score", "property": "score", "type": "number"},
]

TAP_VARIANTS = (
    tap_variant("raw", raw=True),
    tap_variant("normalized"),
    tap_variant("raw, gzip batch files", raw=True, in_batches=True),
    tap_variant("normalized, gzip batch files", in_batches=True),
    tap_variant("normalized, `distinct_id` deselected", deselected="distinct_id"),
    tap_variant("normalized, `time_in_ms`", time_in_ms=True),
    tap_variant("normalized, `project_timezone` Europe/Zurich", project_timezone="Europe/Zurich"),
    tap_variant("normalized, five `event_columns`", event_columns=FIVE_COLUMNS),
    tap_variant("normalized, stream map", size=SLOW, stream_maps=STREAM_MAP),
    tap_variant("normalized, flattened", size=SLOW, flattening_enabled=True, flattening_max_depth=1),
    tap_variant("profiles, raw", stream="profiles", size=PROFILE_RUN, raw=True),
    tap_variant("profiles, normalized", stream="profiles", size=PROFILE_RUN),
)

# Long windows, so that the limit of three requests per second does not determine the wall time.
LONG_WINDOW_VARIANTS = tuple(
    tap_variant(name, size=LONG_RUN, window_days=100, concurrent_exports=3, **settings)
    for name, settings in (
        ("raw", {"raw": True}),
        ("normalized", {}),
        ("raw, 2 worker processes", {"raw": True, "worker_processes": 2}),
        ("normalized, 2 worker processes", {"worker_processes": 2}),
    )
)


def supported(programs: tuple[Program, ...]) -> list[Program]:
    """Return the programs whose settings the installed tap has."""
    return [program for program in programs if program.needs <= known_settings()]


# --- Other programs --------------------------------------------------------------------------------------------------


def _decompressor(*command: str) -> Callable[[Task], list[str]]:
    return lambda task: [*command, str(task.body)]


IGZIP = ("igzip", "-dc") if shutil.which("igzip") else (sys.executable, "-m", "isal.igzip", "-dc")
"""The command of ISA-L, or of the Python package isal if ISA-L is not installed."""

GZIP = Program("`gzip -dc`", _decompressor("gzip", "-dc"))
GZIP_OF_PROFILES = replace(GZIP, stream="profiles", size=PROFILE_RUN)
GZIP_LONG = replace(GZIP, size=LONG_RUN)
LAYOUT_GROUPS = tuple(
    tuple(replace(each, layout=layout, size=LAYOUT_SIZE) for each in (GZIP, tap_variant(layout)))
    for layout in LAYOUTS
    if layout != DEFAULT_LAYOUT
)
"""For each layout except the default: `gzip -dc` and the tap with normalized events."""

_IGZIP_NAME = "igzip" if IGZIP[0] == "igzip" else "python -m isal.igzip"
DECOMPRESSORS = (GZIP, Program(f"`{_IGZIP_NAME} -dc`", _decompressor(*IGZIP)))


def _minimal_tap(name: str, *, stream: str = "events", size: Size = SLOW, msgspec: bool = False) -> Program:
    def command(task: Task) -> list[str]:
        config = task.folder / "config.json"
        days = {"start_date": str(task.first), "end_date": str(task.last)}
        config.write_text(json.dumps({**task.server.settings, **days, "stream": stream}))
        return [sys.executable, "-m", "benchmarks.minimal_tap", "--config", str(config)]

    environment = (("PYTHONPATH", str(ROOT)), *((("MSGSPEC_WRITER", "1"),) if msgspec else ()))
    return Program(name, command, size, stream, environment=environment, is_singer=True)


MINIMAL_TAPS = (
    _minimal_tap("minimal SDK tap"),
    _minimal_tap("minimal SDK tap, msgspec writer", msgspec=True),
    _minimal_tap("profiles, minimal SDK tap", stream="profiles", size=PROFILE_RUN),
)


def _peer(name: str, *, size: Size, is_singer: bool = False) -> Program:
    def command(task: Task) -> list[str]:
        driver = PEER_FOLDER / f"{name.replace('-', '_')}.py"
        return [
            str(python_with(name)),
            str(driver),
            task.server.url,
            str(task.first),
            str(task.last),
            str(task.names),
        ]

    return Program(name, command, size, is_singer=is_singer, is_peer=True)


PEERS = (
    _peer("mixpanel-utils", size=FAST),
    _peer("mixpanel-headless", size=SLOW),
    _peer("tap-mixpanel", size=SLOW, is_singer=True),
    _peer("airbyte-source-mixpanel", size=VERY_SLOW),
)
