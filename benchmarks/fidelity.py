"""Comparison of the output of each program with its input: rows, names, values, times and truncated responses.

The input is a day of the benchmark data and events with edge-case values. Each event has a unique `trace_id`, by which
it is found in the output of a program. Numbers are compared by their digits, not as floating-point numbers.
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
from .emulator_process import EmulatorServer
from .processes import RunFailedError, run
from .programs import MINIMAL_TAPS, PEERS, STREAM_MAP, Task, tap_variant
from .report import progress
from .virtualenvs import NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .programs import Program

EDGE_CASES = {
    "2^53 + 1, as a number": "9007199254740993",
    "2^70, as a number": "1180591620717411303424",
    "20 decimals": "0.12345678901234567891",
    "1e400": "1e400",
    "`true`": "true",
    "the string `true`": '"true"',
    "`null`": "null",
    "an empty list": "[]",
    "an object": '{"a":{"b":[1,null]}}',
    "U+2028 in a string": '"to be,\u2028or not to be"',
    "`\\u0000` in a string": '"a\\u0000b"',
    "unpaired surrogate": '"\\ud83d"',
}
"""Edge-case values as JSON, by description."""

TRUNCATIONS = {
    "last line is `terminated early`": "sentinel:terminated early",
    "last line is incomplete": "half-line",
    "gzip body truncated, valid HTTP framing": "gzip-cut",
    "connection closed in the middle": "chunk-cut",
}
"""Emulator faults that truncate a response with status 200, by description."""

_EDGE_CASE = "edge_case"
_LIMIT = 150.0
# Only the first day has events. The second day is required by a peer that requests nothing for a range of one day.
_DAYS = 2
# Outcome of a run that did not detect a truncated response.
_NO_ERROR = "no error"
# Names that some programs give to Mixpanel's keys.
_COLUMNS = {"event": "event_name", "time": "event_time"}
_EXAMPLE = 40


@dataclass
class Differences:
    """Differences between the input and the output of a program.

    Attributes:
        program: The program.
        events: Events in the input.
        dropped: Events that are missing in the output.
        duplicated: Additional copies of events in the output.
        values: Values of the events that are in the output.
        names: Names of properties, plus `event`.
        renamed: New names of renamed properties by original name.
        as_text: Values that were converted to text.
        changed: Values that were changed in another way.
        missing: Values that are missing in the output.
        times_changed: Times that are a different point in time.
        examples: For each kind of change, a name with the value before and after.
        edge_cases: Outcome for each edge-case value.
        truncations: Outcome for each truncated response.
        failure: Reason why the program did not run; empty if it ran.
    """

    program: Program
    events: int = 0
    dropped: int = 0
    duplicated: int = 0
    values: int = 0
    names: int = 0
    renamed: dict[str, str] = field(default_factory=dict)
    as_text: int = 0
    changed: int = 0
    missing: int = 0
    times_changed: int = 0
    examples: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    edge_cases: dict[str, str] = field(default_factory=dict)
    truncations: dict[str, str] = field(default_factory=dict)
    failure: str = ""

    @property
    def changes(self) -> int:
        """The number of changed or missing values, without those that were converted to text."""
        return self.changed + self.missing + self.times_changed

    @property
    def undetected(self) -> int:
        """The number of truncated responses that caused missing or duplicated events without an error."""
        return sum(end.startswith(_NO_ERROR) for end in self.truncations.values())


def measure(*, quick: bool) -> list[Differences]:
    """Compare input and output of the programs with comparable output."""
    # One request for both days, as the other programs send, so that the fault in the first request applies.
    variants = [
        tap_variant("normalized", window_days=_DAYS),
        tap_variant("raw", raw=True, window_days=_DAYS),
        tap_variant("normalized, stream map", stream_maps=STREAM_MAP, window_days=_DAYS),
    ]
    return [compare(program) for program in (variants[:1] if quick else (*variants, MINIMAL_TAPS[0], *PEERS))]


def compare(program: Program) -> Differences:
    """Run a program with a day of events, with edge cases and with truncated responses."""
    progress(f"fidelity: {program.name}")
    found = Differences(program)
    day = History().days[0].lines.splitlines()
    edge_cases = {name: _edge_case_event(name, value) for name, value in EDGE_CASES.items()}
    try:
        _compare(found, day, _output(program, day))
        try:
            rows = {row.get("trace_id"): row for row in _rows(_output(program, [*edge_cases.values()]))}
            found.edge_cases = {name: _outcome(rows.get(name), value) for name, value in EDGE_CASES.items()}
        except RunFailedError:
            # An edge case failed the run. Run each one separately.
            found.edge_cases = {
                name: _outcome_alone(program, edge_cases[name], value) for name, value in EDGE_CASES.items()
            }
        for name, fault in TRUNCATIONS.items():
            found.truncations[name] = _truncation_outcome(program, day, fault)
    except (RunFailedError, NotInstalledError) as failure:
        found.failure = str(failure)
        progress(f"fidelity: {program.name}: {failure}")
    return found


# --- Running ---------------------------------------------------------------------------------------------------------


def _output(program: Program, events: Sequence[bytes], fault: str = "") -> bytes:
    """Run a program with events on the first of two days and return its output.

    Raises:
        RunFailedError: The program failed.
    """
    faults = [Fault("export", 1, fault)] if fault else []
    with tempfile.TemporaryDirectory() as name, Emulator(FixedProject({FIRST_DAY: events}), faults=faults) as emulator:
        folder = Path(name)
        names = folder / "names.json"
        names.write_text(json.dumps(sorted({key for line in events for key in _properties(line)})))
        task = Task(
            server=EmulatorServer(emulator.api_url.removesuffix("/api"), emulator.settings),
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
                raise _TruncationError(output.read_bytes(), failure) from None
            raise
        return output.read_bytes()


class _TruncationError(Exception):
    """A program failed on a truncated response."""

    def __init__(self, output: bytes, failure: RunFailedError) -> None:
        super().__init__(str(failure))
        self.output = output


def _truncation_outcome(program: Program, events: Sequence[bytes], fault: str) -> str:
    """Describe the outcome when the first response is truncated."""
    began = time.monotonic()
    try:
        output, outcome = _output(program, events, fault), _NO_ERROR
    except _TruncationError as failure:
        has_ended = time.monotonic() - began < _LIMIT
        output, outcome = failure.output, "error" if has_ended else f"no end within {_LIMIT:.0f} s"
    sent = Counter(_properties(line)["trace_id"] for line in events)
    received = Counter(row.get("trace_id") for row in _rows(output))
    delivered = (received & sent).total()
    more = (received - sent).total()
    if outcome == _NO_ERROR and delivered == len(events) and not more:
        return "retried, complete"
    written = f"{delivered:,} of {len(events):,} written" if delivered else "nothing written"
    return f"{outcome}, {written}" + (f", {more:,} duplicated" if more else "")


# --- Comparing -------------------------------------------------------------------------------------------------------


def _compare(found: Differences, events: Sequence[bytes], output: bytes) -> None:
    sent = [json.loads(line, parse_float=Decimal) for line in events]
    rows = defaultdict(list)
    for row in _rows(output):
        rows[row.get("trace_id")].append(row)
    counts = Counter(event["properties"]["trace_id"] for event in sent)
    found.events = len(sent)
    found.dropped = sum(max(0, count - len(rows[trace])) for trace, count in counts.items())
    found.duplicated = sum(max(0, len(of_trace) - counts[trace]) for trace, of_trace in rows.items())
    names = set()
    for event in sent:
        trace = event["properties"]["trace_id"]
        # Rows of duplicate events cannot be assigned to the input.
        if counts[trace] == 1 and rows[trace]:
            for name, value in {"event": event["event"], **event["properties"]}.items():
                names.add(name)
                found.values += 1
                _compare_value(found, name, value, rows[trace][0])
    found.names = len(names)


def _compare_value(found: Differences, name: str, value: object, row: dict[str, Any]) -> None:
    names = [each for each in _possible_names(name) if each in row]
    after = next((each for each in names if _same(name, value, row[each])), names[0] if names else None)
    if after is None:
        kind = "missing"
        found.missing += 1
    else:
        if after != name:
            found.renamed.setdefault(name, after)
        if _same(name, value, row[after]):
            return
        if name == "time":
            kind = "times_changed"
            found.times_changed += 1
        elif isinstance(row[after], str) and not isinstance(value, str):
            kind = "as_text"
            found.as_text += 1
        else:
            kind = "changed"
            found.changed += 1
    found.examples.setdefault(kind, (name, _json(value), "" if after is None else _json(row[after])))


def _possible_names(name: str) -> Iterator[str]:
    """Yield the possible names of a property in the output."""
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
    # In Python, True equals 1.
    return isinstance(before, bool) == isinstance(after, bool) and before == after


def _outcome_alone(program: Program, line: bytes, value: str) -> str:
    try:
        return _outcome(next(_rows(_output(program, [line])), None), value)
    except RunFailedError:
        return "run failed"


def _outcome(row: dict[str, Any] | None, value: str) -> str:
    """Describe what a program did with an edge-case value."""
    if row is None:
        return "event lost"
    if _EDGE_CASE not in row:
        return "missing"
    return "kept" if _equal(json.loads(value, parse_float=Decimal), row[_EDGE_CASE]) else f"`{_json(row[_EDGE_CASE])}`"


# --- Reading ---------------------------------------------------------------------------------------------------------


def _rows(output: bytes) -> Iterator[dict[str, Any]]:
    """Yield the records in the output of a program, each as a mapping of names to values."""
    for row in _values(output):
        # RECORD messages of Singer and Airbyte. Rows without a message have no type.
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
            progress("fidelity: the output is not valid JSON and is ignored")
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


def _edge_case_event(name: str, value: str) -> bytes:
    properties = f'"time":1262304000,"distinct_id":"u","$insert_id":{json.dumps(name)},"trace_id":{json.dumps(name)}'
    return f'{{"event":"Edge case","properties":{{{properties},"{_EDGE_CASE}":{value}}}}}'.encode()


def _json(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _EXAMPLE else text[:_EXAMPLE] + "…"
