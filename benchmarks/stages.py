"""Where the tap's own time goes: its stages, one more at a time, over one and the same answer.

Each stage does all that the ones before it do, with the tap's own parts, in this process. What a stage adds is what it
costs. The last one is the command itself, its start-up left out; it adds threads, windows, state and the SDK.
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
from tap_mixpanel_stream.mixpanel.response_body import Counts, decompress, raw_blocks
from tap_mixpanel_stream.pipeline.window import Conversion
from tap_mixpanel_stream.records import EventSchema, LineCutter, record_envelope
from tap_mixpanel_stream.records.json_lines import is_utf8

from .data import EVENTS_A_DAY, FIRST_DAY, History, last_day_of
from .processes import emptied_pipe, run
from .programs import GZIP, Task, ours
from .report import progress
from .serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_mixpanel_stream.records import BadLine
    from tap_mixpanel_stream.records.json_lines import LineConverter

    from .programs import Program
    from .serving import Site

EVENTS, ROUNDS = 60_000, 5
QUICK_EVENTS, QUICK_ROUNDS = 4_000, 1

_ENVELOPE = record_envelope("events", time_extracted=datetime.now(UTC))


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: What it adds.
        shape: `raw`, `normalized`, or nothing where both are alike.
        cpu: Seconds of CPU an event, with all stages before it.
        times_gzip: The same, as a multiple of what `gzip -dc` takes.
    """

    name: str
    shape: str
    cpu: float
    times_gzip: float


def time_stages(*, quick: bool) -> list[Stage]:
    """Time all stages, a few times in turns; the figures are medians."""
    events, rounds = (QUICK_EVENTS, QUICK_ROUNDS) if quick else (EVENTS, ROUNDS)
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        bench = _Bench(stack.enter_context(serving()), Path(stack.enter_context(tempfile.TemporaryDirectory())), events)
        for number in range(rounds):
            progress(f"stages: round {number + 1}")
            measure = bench.command(GZIP)
            for key, stage in bench.stages().items():
                cpu = stage()
                took[key].append(cpu)
                times[key].append(cpu / measure if measure > 0 else nan)
    return [Stage(name, shape, median(took[name, shape]), median(times[name, shape])) for name, shape in took]


class _Bench:
    """The stages, each returning the seconds of CPU that it takes for an event."""

    def __init__(self, site: Site, folder: Path, events: int) -> None:
        self._site = site
        self._folder = folder
        self._events = events
        self._bodies = {amount: folder / f"{amount}.gz" for amount in (events, EVENTS_A_DAY)}
        history = History()
        for amount, body in self._bodies.items():
            history.save(body, amount)

    def stages(self) -> dict[tuple[str, str], Callable[[], float]]:
        """All of them, in their order, by name and shape."""
        stages: dict[tuple[str, str], Callable[[], float]] = {
            ("read the response", ""): partial(self._timed, self._read),
            ("decompress it", ""): partial(self._timed, self._unpack),
            ("cut it into whole lines", ""): partial(self._timed, self._cut),
            ("check that it is UTF-8", ""): partial(self._timed, self._check),
        }
        for shape, raw in (("raw", True), ("normalized", False)):
            whole = ours(shape, raw=raw, window_days=self._events // EVENTS_A_DAY)
            stages |= {
                ("make records", shape): partial(self._timed, self._convert, raw),
                ("spool them", shape): partial(self._timed, self._spool, raw),
                ("copy them out", shape): partial(self._timed, self._copy, raw),
                ("the command itself", shape): partial(self.command, whole),
            }
        return stages

    def command(self, program: Program) -> float:
        """Run a command over all of it and over little, as in the comparison."""
        small, large = (self._run(program, amount) for amount in (EVENTS_A_DAY, self._events))
        return (large - small) / (self._events - EVENTS_A_DAY)

    def _run(self, program: Program, amount: int) -> float:
        task = Task(self._site, FIRST_DAY, last_day_of(amount), self._bodies[amount], Path(), self._folder)
        return run(program.command(task)).cpu

    def _timed(self, stage: Callable[..., None], *arguments: bool) -> float:
        began = time.process_time()
        stage(*arguments)
        return (time.process_time() - began) / self._events

    def _answer(self) -> requests.Response:
        session = requests.Session()
        # No proxy must come in between.
        session.trust_env = False
        settings = self._site.settings
        return session.get(
            f"{settings['data_api_url']}/export",
            params={
                "project_id": settings["project_id"],
                "from_date": str(FIRST_DAY),
                "to_date": str(last_day_of(self._events)),
            },
            auth=(settings["service_account_username"], settings["service_account_secret"]),
            headers={"Accept-Encoding": "gzip"},
            stream=True,
            timeout=60,
        )

    def _read(self) -> None:
        with self._answer() as answer:
            for _ in raw_blocks(answer, Counts()):
                pass

    def _unpack(self) -> None:
        with self._answer() as answer:
            for _ in decompress(answer):
                pass

    def _lines(self) -> Iterator[bytes]:
        cutter = LineCutter()
        with self._answer() as answer:
            for block in decompress(answer):
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
        with self._spooled(raw) as chunk, emptied_pipe() as pipe:
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
        with self._answer() as answer, SpooledChunk().filling() as chunk:
            conversion(raw_blocks(answer, Counts()), chunk)
        return chunk


def _converter(raw: bool) -> LineConverter:
    def fail(bad_line: BadLine) -> None:
        raise bad_line

    return EventSchema(raw).converter(envelope=_ENVELOPE, on_bad_line=fail)
