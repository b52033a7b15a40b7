from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import _FULL, _QUICK
from benchmarks.page import PAGE, README, between_marks, write
from benchmarks.tables import Goal, figure, table

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_has_a_place_for_every_part_and_the_readme_one() -> None:
    assert set(_FULL) == set(_QUICK)
    for part in _FULL:
        between_marks(PAGE.read_text(encoding="utf-8"), part)
    between_marks(README.read_text(encoding="utf-8"), "how fast")


def test_a_part_takes_its_place_and_leaves_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: written from here by us -->\nold\n<!-- a: to here -->\nafter\n")
    for _ in range(2):
        write(page, "a", "new")
        assert page.read_text() == (
            "before\n<!-- a: written from here by us -->\n\nnew\n\n<!-- a: to here -->\nafter\n"
        )


def test_a_part_without_a_place_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="the marks of a are missing"):
        write(page, "a", "new")


def test_a_goal_says_by_how_much_it_is_missed() -> None:
    assert Goal("", 2.0, 2.0).verdict == "holds"
    assert Goal("", 2.0, 2.5).verdict == "**does not hold**, 25% over"
    assert Goal("", 0, 1).verdict == "**does not hold**"
    assert Goal("", 1.1, nan).verdict != "holds"


def test_figures_are_as_exact_as_they_are_worth() -> None:
    assert [figure(number) for number in (0.123, 12.34, 1234.5, 1234)] == ["0.12", "12.3", "1,234", "1,234"]


def test_short_rows_fill_the_table() -> None:
    assert table(["a", "b"], [["1"]]) == "| a | b |\n| --- | --- |\n| 1 |  |"
