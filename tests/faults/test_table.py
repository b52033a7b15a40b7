"""The table of faults in docs/errors.md: each outcome is checked by a run with that fault."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.emulator import FAULT_DESCRIPTIONS, Fault
from tests.faults.cases import Case

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
SENTINELS = ["terminated early", "export terminated early", "[terminated early]"]
NOT_APPLICABLE = "—"
# They take seconds, and their outcome does not depend on the shape of records.
SLOW = {"bomb", "endless-line", "stall", "silence", "trickle"}


@dataclass(frozen=True)
class Row:
    """A row of the page's table of faults."""

    name: str
    text: str
    cells: dict[tuple[str, str], str]


def table(*titles: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the table with these titles."""
    head = f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"
    for row in PAGE.split(head)[1].split("\n\n")[0].splitlines():
        yield row.removeprefix("| ").removesuffix(" |").split(" | ")


ROWS = [
    Row(
        name.strip("`"),
        text,
        dict(zip([(k, h) for k in ("export", "engage") for h in ("once", "always")], cells, strict=True)),
    )
    for name, text, *cells in table(
        "fault", "what goes wrong", "events: once", "events: always", "profiles: once", "profiles: always"
    )
]
UNDER_SKIP = {
    kind: {
        name.strip("`"): words[place] for name, *words in table("fault", "events", "profiles") if words[place] != "—"
    }
    for place, kind in enumerate(("export", "engage"))
}


def names(row: Row) -> list[str]:
    """Return the faults of a row: a sentinel has several texts."""
    return [f"sentinel:{text}" for text in SENTINELS] if row.name == "sentinel:TEXT" else [row.name]


def cases(how: str, *, without: Collection[str] = ()) -> list[tuple[str, str, str]]:
    """Return each kind of request, each fault that applies to it, and the outcome on the page."""
    return [
        (kind, name, row.cells[kind, how])
        for row in ROWS
        for kind in ("export", "engage")
        if row.cells[kind, how] != NOT_APPLICABLE and row.name not in without
        for name in names(row)
    ]


def matches(expected: str, outcome: str) -> bool:
    words = re.fullmatch(r"fails: `(.+)`", expected)
    return (outcome.startswith("fails: ") and words[1] in outcome) if words else outcome == expected


def test_the_page_lists_all_faults() -> None:
    """The page lists every fault with the emulator's description."""
    assert {row.name: row.text for row in ROWS} == FAULT_DESCRIPTIONS


def test_a_fault_marked_not_applicable_is_rejected() -> None:
    """The emulator rejects a fault that the page marks as not applicable."""
    for row in ROWS:
        for (kind, how), expected in row.cells.items():
            assert (expected == NOT_APPLICABLE) == (row.cells[kind, "once"] == NOT_APPLICABLE), how
            if expected == NOT_APPLICABLE:
                with pytest.raises(ValueError, match="does not apply to"):
                    Fault(kind, 1, row.name)


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "expected"), cases("once"))
def test_a_fault_in_one_request_has_its_outcome(kind: str, name: str, expected: str, seed: int) -> None:
    """A fault in one request has the outcome on the page."""
    assert matches(expected, Case(name, kind, seed, extra={"max_retries": 2}).once())


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "expected"), cases("once", without=SLOW))
def test_a_fault_with_raw_records_has_its_outcome(kind: str, name: str, expected: str, seed: int) -> None:
    """With raw records a fault has the same outcome; `time-null` is delivered."""
    outcome = Case(name, kind, seed, raw=True, extra={"max_retries": 2}).once()
    assert matches("delivered" if name == "time-null" else expected, outcome)


@pytest.mark.seeds(1)
@pytest.mark.parametrize(
    ("name", "expected"), [(name, expected) for kind, name, expected in cases("once", without=SLOW) if kind == "export"]
)
def test_a_fault_with_a_worker_has_its_outcome(name: str, expected: str, seed: int) -> None:
    """With worker processes a fault has the same outcome."""
    assert matches(expected, Case(name, "export", seed, extra={"max_retries": 2, "worker_processes": 1}).once())


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "expected"), cases("always"))
def test_a_fault_in_all_requests_has_its_outcome(kind: str, name: str, expected: str, seed: int) -> None:
    """A fault in all requests has the outcome on the page."""
    case = Case(name, kind, seed, extra={"max_retries": 0, "max_quota_wait": 5})
    assert matches(expected, case.always())


@pytest.mark.seeds(1)
@pytest.mark.parametrize("kind", ["export", "engage"])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_both_retry_after_formats_are_waited_for(kind: str, form: str, seed: int) -> None:
    """Retry-After in seconds or as a date is waited for, and the run succeeds."""
    case = Case("status:429", kind, seed, value=form, extra={"max_quota_wait": 4})
    assert case.once() == "waits"


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "expected"), cases("once", without=SLOW))
def test_a_fault_under_skip_has_its_outcome(kind: str, name: str, expected: str, seed: int, tmp_path: Path) -> None:
    """With `bad_lines: skip` a fault has the outcome on the page."""
    expected = UNDER_SKIP[kind].get(name, expected)
    extra = {"max_retries": 2, "bad_lines": "skip", "bad_lines_path": str(tmp_path / "rejected")}
    assert matches(expected, Case(name, kind, seed, extra=extra).once())
