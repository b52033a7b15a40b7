"""CPU time of the stages of the tap, measured by adding one stage at a time.

Each stage includes all previous ones. They run in this process, with the code of the tap and the same response. The
difference to the previous stage is the cost of a stage. The last stage is the command itself without start-up, which
adds threads, windows, state and the SDK.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import nan
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import requests

from tap_mixpanel_stream.delivery.spool import SpooledChunk
from tap_mixpanel_stream.mixpanel.response_body import Counts, decompressed_blocks, raw_blocks
from tap_mixpanel_stream.pipeline.window import Conversion
from tap_mixpanel_stream.records import EventSchema, LineCutter, record_envelope
from tap_mixpanel_stream.records.json_lines import is_utf8

from .data import EVENTS_PER_DAY, FIRST_DAY, History, last_day
from .emulator_process import run_emulator
from .processes import drained_pipe, run
from .programs import GZIP, Task, tap_variant
from .report import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_mixpanel_stream.records import BadLine
    from tap_mixpanel_stream.records.json_lines import LineConverter

    from .emulator_process import EmulatorServer
    from .programs import Program

EVENTS, ROUNDS = 60_000, 5
QUICK_EVENTS, QUICK_ROUNDS = 4_000, 1

_ENVELOPE = record_envelope("events", time_extracted=datetime.now(UTC))


@dataclass(frozen=True)
class Stage:
    """The result of a stage.

    Attributes:
        name: Name of the stage.
        shape: `raw` or `normalized`; empty for a stage that is the same for both.
        cpu: CPU seconds per event, including all previous stages.
        times_gzip: Ratio of `cpu` to the CPU of `gzip -dc`.
    """

    name: str
    shape: str
    cpu: float
    times_gzip: float


def measure(*, quick: bool) -> list[Stage]:
    """Measure all stages in alternating rounds and return the medians."""
    events, rounds = (QUICK_EVENTS, QUICK_ROUNDS) if quick else (EVENTS, ROUNDS)
    cpus: dict[tuple[str, str], list[float]] = defaultdict(list)
    ratios: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        bench = _Bench(
            stack.enter_context(run_emulator()), Path(stack.enter_context(tempfile.TemporaryDirectory())), events
        )
        for number in range(rounds):
            progress(f"stages: round {number + 1}")
            reference = bench.command(GZIP)
            for key, stage in bench.stages().items():
                cpu = stage()
                cpus[key].append(cpu)
                ratios[key].append(cpu / reference if reference > 0 else nan)
    return [Stage(name, shape, median(cpus[name, shape]), median(ratios[name, shape])) for name, shape in cpus]


class _Bench:
    """The stages as functions that return CPU seconds per event."""

    def __init__(self, server: EmulatorServer, folder: Path, events: int) -> None:
        self._site = server
        self._folder = folder
        self._events = events
        self._bodies = {amount: folder / f"{amount}.gz" for amount in (events, EVENTS_PER_DAY)}
        history = History()
        for amount, body in self._bodies.items():
            history.save(body, amount)

    def stages(self) -> dict[tuple[str, str], Callable[[], float]]:
        """Return the stages in order, by name and shape."""
        stages: dict[tuple[str, str], Callable[[], float]] = {
            ("read the response", ""): partial(self._timed, self._read),
            ("decompress it", ""): partial(self._timed, self._unpack),
            ("split it into lines", ""): partial(self._timed, self._cut),
            ("validate UTF-8", ""): partial(self._timed, self._check),
        }
        for shape, raw in (("raw", True), ("normalized", False)):
            program = tap_variant(shape, raw=raw, window_days=self._events // EVENTS_PER_DAY)
            stages |= {
                ("convert to records", shape): partial(self._timed, self._convert, raw),
                ("spool to disk", shape): partial(self._timed, self._spool, raw),
                ("copy to stdout", shape): partial(self._timed, self._copy, raw),
                ("complete command", shape): partial(self.command, program),
            }
        return stages

    def command(self, program: Program) -> float:
        """Run a command with much and with little data and return CPU seconds per event, as in the comparison."""
        small, large = (self._run(program, amount) for amount in (EVENTS_PER_DAY, self._events))
        return (large - small) / (self._events - EVENTS_PER_DAY)

    def _run(self, program: Program, amount: int) -> float:
        task = Task(self._site, FIRST_DAY, last_day(amount), self._bodies[amount], Path(), self._folder)
        return run(program.command(task)).cpu

    def _timed(self, stage: Callable[..., None], *arguments: bool) -> float:
        began = time.process_time()
        stage(*arguments)
        return (time.process_time() - began) / self._events

    def _response(self) -> requests.Response:
        session = requests.Session()
        # Ignore proxies in the environment.
        session.trust_env = False
        settings = self._site.settings
        return session.get(
            f"{settings['data_api_url']}/export",
            params={
                "project_id": settings["project_id"],
                "from_date": str(FIRST_DAY),
                "to_date": str(last_day(self._events)),
            },
            auth=(settings["service_account_username"], settings["service_account_secret"]),
            headers={"Accept-Encoding": "gzip"},
            stream=True,
            timeout=60,
        )

    def _read(self) -> None:
        with self._response() as response:
            for _ in raw_blocks(response, Counts()):
                pass

    def _unpack(self) -> None:
        with self._response() as response:
            for _ in decompressed_blocks(response):
                pass

    def _lines(self) -> Iterator[bytes]:
        cutter = LineCutter()
        with self._response() as response:
            for block in decompressed_blocks(response):
                if lines := cutter.cut(block):
                    yield lines

    def _cut(self) -> None:
        for _ in self._lines():
            pass

    def _check(self) -> None:
        for lines in self._lines():
            is_utf8(lines)

    def _convert(self, raw: bool) -> None:
        converter = _converter(raw)
        for lines in self._lines():
            converter.convert(lines)

    def _spool(self, raw: bool) -> None:
        with self._spooled(raw):
            pass

    def _copy(self, raw: bool) -> None:
        with self._spooled(raw) as chunk, drained_pipe() as pipe:
            for block in chunk.lines.blocks():
                pipe.write(block)

    def _spooled(self, raw: bool) -> SpooledChunk:
        conversion = Conversion(
            schema=EventSchema(raw),
            envelope=_ENVELOPE,
            columns=None,
            zone=ZoneInfo("UTC"),
            strip_nul=False,
            skip_bad_lines=False,
            content_encoding="gzip",
        )
        with self._response() as response, SpooledChunk().filling() as chunk:
            conversion(raw_blocks(response, Counts()), chunk)
        return chunk


def _converter(raw: bool) -> LineConverter:
    def fail(bad_line: BadLine) -> None:
        raise bad_line

    return EventSchema(raw).converter(envelope=_ENVELOPE, on_bad_line=fail)
