"""Who runs, and how each is called.

To add one of the tap's own ways, add a line to `OURS`. One whose settings this version of the tap does not have is left
out by itself.
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

from .data import LAYOUTS, USUAL
from .environments import PEERS, ROOT, python_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from .serving import Site

TAP = str(Path(sys.executable).with_name("tap-mixpanel-stream"))

SCHEMA = (b'{"type":"SCHEMA"', b'{"type": "SCHEMA"')
"""How the line of a SCHEMA message begins."""


@dataclass(frozen=True)
class Task:
    """What is to be read, and what a program may need for it.

    Attributes:
        site: Where the local Mixpanel is.
        first: The first day.
        last: The last day, inclusive.
        body: The answer to a request for these days, or the profiles, as a gzip file.
        names: A file with the names of all event properties, as a JSON list.
        folder: An empty folder, gone after the run.
    """

    site: Site
    first: date
    last: date
    body: Path
    names: Path
    folder: Path


@dataclass(frozen=True)
class Size:
    """How much a program is given, so that a run takes neither a moment nor an hour.

    Attributes:
        rounds: How often it runs.
        large: Events or profiles in the run that is measured.
        small: Events or profiles in the run that is taken off it, and with it the start-up.
    """

    rounds: int
    large: int
    small: int


QUICK = Size(5, 100_000, 4_000)
IN_A_LAYOUT = Size(3, 100_000, 4_000)
SLOW = Size(3, 20_000, 4_000)
# It takes milliseconds for an event.
SLOWEST = Size(3, 6_000, 2_000)
PROFILES = Size(5, 40_000, 4_000)
LONG = Size(3, 1_000_000, 200_000)


@dataclass(frozen=True)
class Program:
    """One way to get events or profiles out.

    Attributes:
        name: What the tables call it.
        command: Makes its command line.
        size: How much it is given.
        stream: `events` or `profiles`.
        zone: The zone of the project that it reads.
        layout: How the lines are laid out that it reads.
        environment: Variables to add.
        is_singer: Whether it writes a SCHEMA message.
        is_ours: Whether it is this tap.
        is_peer: Whether it is one of the peers.
        needs: The settings of this tap that it is about.
    """

    name: str
    command: Callable[[Task], list[str]]
    size: Size = QUICK
    stream: str = "events"
    zone: str = "UTC"
    layout: str = USUAL
    environment: tuple[tuple[str, str], ...] = ()
    is_singer: bool = False
    is_ours: bool = False
    is_peer: bool = False
    needs: frozenset[str] = frozenset()

    def given(self, large: int, small: int) -> Program:
        """The same, which runs once and is given less."""
        return replace(self, size=Size(1, large, small))


# --- This tap --------------------------------------------------------------------------------------------------------


@functools.cache
def known_settings() -> frozenset[str]:
    """The settings that this version of the tap has."""
    about = subprocess.run([TAP, "--about", "--format", "json"], check=True, capture_output=True)
    return frozenset(json.loads(about.stdout)["settings"]["properties"])


@functools.cache
def catalog_of(stream: str, deselected: str = "", *, config_json: str) -> dict[str, Any]:
    """Return the catalog discovered with a configuration, with one stream selected less one of its columns."""
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


def ours(
    name: str,
    *,
    stream: str = "events",
    size: Size = QUICK,
    deselected: str = "",
    in_batches: bool = False,
    **settings: Any,
) -> Program:
    """Make one of the tap's own ways.

    Args:
        name: What the tables call it.
        stream: `events` or `profiles`.
        size: How much it is given.
        deselected: A column to leave out.
        in_batches: Whether it writes batch files, packed.
        settings: The tap's settings.
    """

    def command(task: Task) -> list[str]:
        config = {"start_date": str(task.first), "end_date": str(task.last), **task.site.settings, **settings}
        if in_batches:
            config["batch_config"] = {
                "encoding": {"format": "jsonl", "compression": "gzip"},
                "storage": {"root": task.folder.as_uri()},
            }
        of_columns = {name: settings[name] for name in ("raw", "event_columns") if name in settings}
        catalog = catalog_of(stream, deselected, config_json=json.dumps(of_columns))
        arguments = [TAP]
        for option, content in (("config", config), ("catalog", catalog)):
            path = task.folder / f"{option}.json"
            path.write_text(json.dumps(content))
            arguments += [f"--{option}", str(path)]
        return arguments

    zone = settings.get("project_timezone", "UTC")
    return Program(name, command, size, stream, zone, is_singer=True, is_ours=True, needs=frozenset(settings))


A_STREAM_MAP = {"events": {"city": "properties.get('$city')"}}
FIVE_COLUMNS = [
    {"name": "city", "property": "$city", "type": "string"},
    {"name": "browser", "property": "$browser", "type": "string"},
    {"name": "os", "property": "$os", "type": "string"},
    {"name": "screen_width", "property": "$screen_width", "type": "integer"},
    {"name": "score", "property": "score", "type": "number"},
]

OURS = (
    ours("raw", raw=True),
    ours("normalized"),
    ours("raw, batch files packed by gzip", raw=True, in_batches=True),
    ours("normalized, batch files packed by gzip", in_batches=True),
    ours("normalized, `distinct_id` deselected", deselected="distinct_id"),
    ours("normalized, `time_in_ms`", time_in_ms=True),
    ours("normalized, `project_timezone` Europe/Zurich", project_timezone="Europe/Zurich"),
    ours("normalized, five `event_columns`", event_columns=FIVE_COLUMNS),
    ours("normalized, a stream map", size=SLOW, stream_maps=A_STREAM_MAP),
    ours("normalized, flattened", size=SLOW, flattening_enabled=True, flattening_max_depth=1),
    ours("profiles, raw", stream="profiles", size=PROFILES, raw=True),
    ours("profiles, normalized", stream="profiles", size=PROFILES),
)

# Long windows, lest the limit of three requests a second decides.
IN_LONG_WINDOWS = tuple(
    ours(name, size=LONG, window_days=100, concurrent_exports=3, **settings)
    for name, settings in (
        ("raw", {"raw": True}),
        ("normalized", {}),
        ("raw, 2 worker processes", {"raw": True, "worker_processes": 2}),
        ("normalized, 2 worker processes", {"worker_processes": 2}),
    )
)


def as_installed(programs: tuple[Program, ...]) -> list[Program]:
    """Those of this tap's ways that the installed version has."""
    return [program for program in programs if program.needs <= known_settings()]


# --- What it is compared with ----------------------------------------------------------------------------------------


def _unpacking(*command: str) -> Callable[[Task], list[str]]:
    return lambda task: [*command, str(task.body)]


IGZIP = ("igzip", "-dc") if shutil.which("igzip") else (sys.executable, "-m", "isal.igzip", "-dc")
"""ISA-L's command; where it is not installed, the Python package's."""

GZIP = Program("`gzip -dc`", _unpacking("gzip", "-dc"))
GZIP_OF_PROFILES = replace(GZIP, stream="profiles", size=PROFILES)
GZIP_AT_LENGTH = replace(GZIP, size=LONG)
IN_EACH_LAYOUT = tuple(
    tuple(replace(each, layout=layout, size=IN_A_LAYOUT) for each in (GZIP, ours(layout)))
    for layout in LAYOUTS
    if layout != USUAL
)
"""The tap's normalized events in each layout of a line but the usual one, and what they are measured by."""

UNPACKING = (GZIP, Program(f"`{'igzip' if IGZIP[0] == 'igzip' else 'python -m isal.igzip'} -dc`", _unpacking(*IGZIP)))


def _obvious(name: str, *, stream: str = "events", size: Size = SLOW, msgspec: bool = False) -> Program:
    def command(task: Task) -> list[str]:
        config = task.folder / "config.json"
        days = {"start_date": str(task.first), "end_date": str(task.last)}
        config.write_text(json.dumps({**task.site.settings, **days, "stream": stream}))
        return [sys.executable, "-m", "benchmarks.obvious_tap", "--config", str(config)]

    environment = (("PYTHONPATH", str(ROOT)), *((("MSGSPEC_WRITER", "1"),) if msgspec else ()))
    return Program(name, command, size, stream, environment=environment, is_singer=True)


OBVIOUS = (
    _obvious("the obvious tap"),
    _obvious("the obvious tap, the SDK's msgspec writer", msgspec=True),
    _obvious("profiles, the obvious tap", stream="profiles", size=PROFILES),
)


def _peer(name: str, *, size: Size, is_singer: bool = False) -> Program:
    def command(task: Task) -> list[str]:
        driver = PEERS / f"{name.replace('-', '_')}.py"
        return [
            str(python_with(name)),
            str(driver),
            task.site.base,
            str(task.first),
            str(task.last),
            str(task.names),
        ]

    return Program(name, command, size, is_singer=is_singer, is_peer=True)


THE_PEERS = (
    _peer("mixpanel-utils", size=QUICK),
    _peer("mixpanel-headless", size=SLOW),
    _peer("tap-mixpanel", size=SLOW, is_singer=True),
    _peer("airbyte-source-mixpanel", size=SLOWEST),
)
