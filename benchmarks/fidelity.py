"""The output of each program, compared with its source: rows, names, values, times, and truncated responses.

The events are a day of the usual ones, and some with a value that is hard to keep. Each has a `trace_id` of its own, by
which it is found again in whatever a program writes. Numbers are compared digit by digit, not as doubles.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tap_mixpanel_stream.emulator import Emulator, Fault, FixedProject

from .data import FIRST_DAY, History
from .environments import NotInstalledError
from .processes import RunFailedError, run
from .programs import A_STREAM_MAP, OBVIOUS, THE_PEERS, Task, ours
from .report import progress
from .serving import Site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .programs import Program

ODD_VALUES = {
    "2^53 + 1, as a number": "9007199254740993",
    "2^70, as a number": "1180591620717411303424",
    "20 decimals": "0.12345678901234567891",
    "1e400": "1e400",
    "`true`": "true",
    "the text `true`": '"true"',
    "`null`": "null",
    "an empty list": "[]",
    "an object": '{"a":{"b":[1,null]}}',
    "U+2028 in a text": '"to be,\u2028or not to be"',
    "`\\u0000` in a text": '"a\\u0000b"',
    "half a surrogate pair": '"\\ud83d"',
}
"""Values that are hard to keep, as JSON."""

CUTS = {
    "`terminated early` as its last line": "sentinel:terminated early",
    "half of a line as its last": "half-line",
    "half of the gzip body, well framed": "gzip-cut",
    "the connection ends in between": "chunk-cut",
}
"""Ways in which an answer with status 200 can break off half-way, with the emulator's names for them."""

_ODD = "odd"
_LIMIT = 150.0
# All events are of the first; one of the peers asks for nothing where the first day is the last.
_DAYS = 2
# How a run ended that should have noticed.
_WELL = "no error"
# Mixpanel's own keys, and what some make columns of them.
_COLUMNS = {"event": "event_name", "time": "event_time"}
_EXAMPLE = 40


@dataclass
class Differences:
    """How a program's output differs from what it was sent.

    Attributes:
        program: Whose output it is.
        events: How many events there were.
        dropped: Events that did not come out.
        doubled: Events that came out more often than they went in.
        values: How many values there were, those of events that came out.
        names: How many names there were, of properties and `event`.
        renamed: Those that are others now, each with an example.
        as_text: Values that became text.
        altered: Values that are others now.
        left_out: Values that are no more.
        shifted: Times that are another instant now.
        examples: A name, the value before and the value after, by the attribute's name.
        odd: What became of each odd value.
        cuts: What became of each answer that broke off.
        failure: Why there is nothing.
    """

    program: Program
    events: int = 0
    dropped: int = 0
    doubled: int = 0
    values: int = 0
    names: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    as_text: int = 0
    altered: int = 0
    left_out: int = 0
    shifted: int = 0
    examples: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    cuts: dict[str, str] = field(default_factory=dict)
    failure: str = ""

    @property
    def changes(self) -> int:
        """How many values are not what they were, text that was something else left aside."""
        return self.altered + self.left_out + self.shifted

    @property
    def fooled(self) -> int:
        """How many answers that broke off ended in something else than all the events, or an error."""
        return sum(end.startswith(_WELL) for end in self.cuts.values())


def check_all(*, quick: bool) -> list[Differences]:
    """Run those whose output can be compared, and compare it."""
    # Both days in one request, as the others do, so that the first one is that which breaks off.
    own = [
        ours("normalized", window_days=_DAYS),
        ours("raw", raw=True, window_days=_DAYS),
        ours("normalized, a stream map", stream_maps=A_STREAM_MAP, window_days=_DAYS),
    ]
    return [check(program) for program in (own[:1] if quick else (*own, OBVIOUS[0], *THE_PEERS))]


def check(program: Program) -> Differences:
    """Run a program over the usual events, the odd ones, and answers that break off."""
    progress(f"fidelity: {program.name}")
    found = Differences(program)
    usual = History().days[0].lines.splitlines()
    odd = {name: _odd_event(name, value) for name, value in ODD_VALUES.items()}
    try:
        _compare(found, usual, _output(program, usual))
        try:
            rows = {row.get("trace_id"): row for row in _rows(_output(program, [*odd.values()]))}
            found.odd = {name: _fate(rows.get(name), value) for name, value in ODD_VALUES.items()}
        except RunFailedError:
            # One of them was too much: which, shows each by itself.
            found.odd = {name: _fate_alone(program, odd[name], value) for name, value in ODD_VALUES.items()}
        for name, fault in CUTS.items():
            found.cuts[name] = _end_of(program, usual, fault)
    except (RunFailedError, NotInstalledError) as failure:
        found.failure = str(failure)
        progress(f"fidelity: {program.name}: {failure}")
    return found


# --- Running ---------------------------------------------------------------------------------------------------------


def _output(program: Program, events: Sequence[bytes], fault: str = "") -> bytes:
    """Run a program over some events of the first of two days; return what it wrote.

    Raises:
        RunFailedError: It ended with an error.
    """
    faults = [Fault("export", 1, fault)] if fault else []
    with tempfile.TemporaryDirectory() as name, Emulator(FixedProject({FIRST_DAY: events}), faults=faults) as emulator:
        folder = Path(name)
        names = folder / "names.json"
        names.write_text(json.dumps(sorted({key for line in events for key in _properties(line)})))
        task = Task(
            site=Site(emulator.api_url.removesuffix("/api"), emulator.settings),
            first=FIRST_DAY,
            last=FIRST_DAY + timedelta(days=_DAYS - 1),
            body=Path(os.devnull),
            names=names,
            folder=folder,
        )
        output = folder / "output"
        try:
            run(program.command(task), environment=dict(program.environment), output=output, limit=_LIMIT)
        except RunFailedError as failure:
            if fault:
                raise _CutError(output.read_bytes(), failure) from None
            raise
        return output.read_bytes()


class _CutError(Exception):
    """A run over an answer that broke off ended with an error."""

    def __init__(self, output: bytes, failure: RunFailedError) -> None:
        super().__init__(str(failure))
        self.output = output


def _end_of(program: Program, events: Sequence[bytes], fault: str) -> str:
    """Say what a program makes of a first answer that breaks off half-way."""
    began = time.monotonic()
    try:
        output, ended = _output(program, events, fault), _WELL
    except _CutError as failure:
        is_over = time.monotonic() - began < _LIMIT
        output, ended = failure.output, "an error" if is_over else f"no end in {_LIMIT:.0f} s"
    sent = Counter(_properties(line)["trace_id"] for line in events)
    came = Counter(row.get("trace_id") for row in _rows(output))
    right = (came & sent).total()
    more = (came - sent).total()
    if ended == _WELL and right == len(events) and not more:
        return "asked again, all there"
    written = f"{right:,} of {len(events):,} written" if right else "nothing written"
    return f"{ended}, {written}" + (f", {more:,} of them twice" if more else "")


# --- Comparing -------------------------------------------------------------------------------------------------------


def _compare(found: Differences, events: Sequence[bytes], output: bytes) -> None:
    sent = [json.loads(line, parse_float=Decimal) for line in events]
    rows = defaultdict(list)
    for row in _rows(output):
        rows[row.get("trace_id")].append(row)
    counts = Counter(event["properties"]["trace_id"] for event in sent)
    found.events = len(sent)
    found.dropped = sum(max(0, count - len(rows[trace])) for trace, count in counts.items())
    found.doubled = sum(max(0, len(of_trace) - counts[trace]) for trace, of_trace in rows.items())
    names = set()
    for event in sent:
        trace = event["properties"]["trace_id"]
        # Of an event that was sent twice it cannot be told which is which.
        if counts[trace] == 1 and rows[trace]:
            for name, value in {"event": event["event"], **event["properties"]}.items():
                names.add(name)
                found.values += 1
                _compare_value(found, name, value, rows[trace][0])
    found.names = len(names)


def _compare_value(found: Differences, name: str, value: object, row: dict[str, Any]) -> None:
    spelled = [spelling for spelling in _spellings(name) if spelling in row]
    after = next((each for each in spelled if _same(name, value, row[each])), spelled[0] if spelled else None)
    if after is None:
        kind = "left_out"
        found.left_out += 1
    else:
        if after != name:
            found.renamed.setdefault(name, after)
        if _same(name, value, row[after]):
            return
        if name == "time":
            kind = "shifted"
            found.shifted += 1
        elif isinstance(row[after], str) and not isinstance(value, str):
            kind = "as_text"
            found.as_text += 1
        else:
            kind = "altered"
            found.altered += 1
    found.examples.setdefault(kind, (name, _json(value), "" if after is None else _json(row[after])))


def _spellings(name: str) -> Iterator[str]:
    """The names under which a property may have come out."""
    bare = name.removeprefix("$")
    yield from (name, f"mp_reserved_{bare}", bare, f"_{bare}")
    if name in _COLUMNS:
        yield _COLUMNS[name]


def _same(name: str, before: object, after: object) -> bool:
    if name == "time" and isinstance(after, str) and isinstance(before, int | Decimal):
        try:
            return round(datetime.fromisoformat(after).timestamp(), 3) == float(before)
        except ValueError:
            return False
    return _equal(before, after)


def _equal(before: object, after: object) -> bool:
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_equal(value, after[key]) for key, value in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_equal, before, after))
    # To Python, true equals 1.
    return isinstance(before, bool) == isinstance(after, bool) and before == after


def _fate_alone(program: Program, line: bytes, value: str) -> str:
    try:
        return _fate(next(_rows(_output(program, [line])), None), value)
    except RunFailedError:
        return "run failed"


def _fate(row: dict[str, Any] | None, value: str) -> str:
    """Say what became of an odd value."""
    if row is None:
        return "event lost"
    if _ODD not in row:
        return "left out"
    return "kept" if _equal(json.loads(value, parse_float=Decimal), row[_ODD]) else f"`{_json(row[_ODD])}`"


# --- Reading ---------------------------------------------------------------------------------------------------------


def _rows(output: bytes) -> Iterator[dict[str, Any]]:
    """Read the records out of whatever a program wrote: each as one mapping of all its values by name."""
    for row in _values(output):
        # RECORD messages of Singer, and of Airbyte; a row by itself has no type.
        if row.get("type") == "RECORD":
            row = row["record"].get("data", row["record"])  # noqa: PLW2901
        elif "type" in row:
            continue
        properties = row.get("properties")
        yield {**row, **properties} if isinstance(properties, dict) else row


def _values(output: bytes) -> Iterator[dict[str, Any]]:
    if output.lstrip().startswith(b"["):
        try:
            yield from json.loads(output, parse_float=Decimal)
        except ValueError:
            progress("fidelity: a list of rows that is no JSON counts as none")
        return
    for line in output.split(b"\n"):
        try:
            value = json.loads(line, parse_float=Decimal)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _properties(line: bytes) -> dict[str, Any]:
    properties: dict[str, Any] = json.loads(line)["properties"]
    return properties


def _odd_event(name: str, value: str) -> bytes:
    own = f'"time":1262304000,"distinct_id":"u","$insert_id":{json.dumps(name)},"trace_id":{json.dumps(name)}'
    return f'{{"event":"Odd","properties":{{{own},"{_ODD}":{value}}}}}'.encode()


def _json(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _EXAMPLE else text[:_EXAMPLE] + "…"
