"""docs/errors.md says of each fault what the tap makes of it: here it is seen to be so."""

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
DOES_NOT_STRIKE = "—"
# They take seconds, and what they do has nothing to do with the shape of records.
SLOW = {"bomb", "endless-line", "stall", "silence", "trickle"}


@dataclass(frozen=True)
class Row:
    """What the page says of a fault."""

    name: str
    text: str
    cells: dict[tuple[str, str], str]


def table(*titles: str) -> Iterator[list[str]]:
    """The cells of each row of the table with these titles."""
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
    """The faults of a row: a sentinel has several wordings."""
    return [f"sentinel:{text}" for text in SENTINELS] if row.name == "sentinel:TEXT" else [row.name]


def cases(how: str, *, without: Collection[str] = ()) -> list[tuple[str, str, str]]:
    """Each kind of request, each fault that strikes it, and the page's word for what becomes of it."""
    return [
        (kind, name, row.cells[kind, how])
        for row in ROWS
        for kind in ("export", "engage")
        if row.cells[kind, how] != DOES_NOT_STRIKE and row.name not in without
        for name in names(row)
    ]


def is_so(said: str, outcome: str) -> bool:
    words = re.fullmatch(r"fails: `(.+)`", said)
    return (outcome.startswith("fails: ") and words[1] in outcome) if words else outcome == said


def test_the_page_has_all_faults_and_says_what_they_are() -> None:
    assert {row.name: row.text for row in ROWS} == FAULT_DESCRIPTIONS


def test_a_fault_that_is_said_not_to_strike_cannot() -> None:
    for row in ROWS:
        for (kind, how), said in row.cells.items():
            assert (said == DOES_NOT_STRIKE) == (row.cells[kind, "once"] == DOES_NOT_STRIKE), how
            if said == DOES_NOT_STRIKE:
                with pytest.raises(ValueError, match="does not apply to"):
                    Fault(kind, 1, row.name)


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "said"), cases("once"))
def test_a_fault_at_one_request_does_what_the_page_says(kind: str, name: str, said: str, seed: int) -> None:
    assert is_so(said, Case(name, kind, seed, extra={"max_retries": 2}).once())


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "said"), cases("once", without=SLOW))
def test_with_raw_records_it_does_the_same(kind: str, name: str, said: str, seed: int) -> None:
    outcome = Case(name, kind, seed, raw=True, extra={"max_retries": 2}).once()
    assert is_so("delivered" if name == "time-null" else said, outcome)


@pytest.mark.seeds(1)
@pytest.mark.parametrize(
    ("name", "said"), [(name, said) for kind, name, said in cases("once", without=SLOW) if kind == "export"]
)
def test_in_a_worker_process_it_does_the_same(name: str, said: str, seed: int) -> None:
    assert is_so(said, Case(name, "export", seed, extra={"max_retries": 2, "worker_processes": 1}).once())


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "said"), cases("always"))
def test_a_fault_at_all_requests_does_what_the_page_says(kind: str, name: str, said: str, seed: int) -> None:
    case = Case(name, kind, seed, extra={"max_retries": 0, "max_quota_wait": 5})
    assert is_so(said, case.always())


@pytest.mark.seeds(1)
@pytest.mark.parametrize("kind", ["export", "engage"])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_after_is_waited_out_in_both_forms(kind: str, form: str, seed: int) -> None:
    case = Case("status:429", kind, seed, value=form, extra={"max_quota_wait": 4})
    assert case.once() == "waits"


@pytest.mark.seeds(1)
@pytest.mark.parametrize(("kind", "name", "said"), cases("once", without=SLOW))
def test_under_skip_it_does_what_the_page_says(kind: str, name: str, said: str, seed: int, tmp_path: Path) -> None:
    said = UNDER_SKIP[kind].get(name, said)
    extra = {"max_retries": 2, "bad_lines": "skip", "bad_lines_path": str(tmp_path / "aside")}
    assert is_so(said, Case(name, kind, seed, extra=extra).once())
