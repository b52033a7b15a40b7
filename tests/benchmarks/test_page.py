from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

import pytest

from benchmarks.__main__ import _FULL, _QUICK
from benchmarks.page import PAGE, README, between_marks, write
from benchmarks.tables import Goal, figure, table

if TYPE_CHECKING:
    from pathlib import Path


def test_every_part_has_a_place() -> None:
    """Every part has its marks on the page, and the README has one part."""
    assert set(_FULL) == set(_QUICK)
    for part in _FULL:
        between_marks(PAGE.read_text(encoding="utf-8"), part)
    between_marks(README.read_text(encoding="utf-8"), "how fast")


def test_writing_a_part_replaces_only_that_part(tmp_path: Path) -> None:
    """Writing a part twice replaces only the text between its marks."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a: written from here by us -->\nold\n<!-- a: to here -->\nafter\n")
    for _ in range(2):
        write(page, "a", "new")
        assert page.read_text() == (
            "before\n<!-- a: written from here by us -->\n\nnew\n\n<!-- a: to here -->\nafter\n"
        )


def test_a_part_without_marks_is_rejected(tmp_path: Path) -> None:
    """A part without marks on the page is an error."""
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="the marks of a are missing"):
        write(page, "a", "new")


def test_a_missed_goal_has_the_excess() -> None:
    """A missed goal shows the excess in percent; NaN is missed."""
    assert Goal("", 2.0, 2.0).verdict == "met"
    assert Goal("", 2.0, 2.5).verdict == "**missed**, 25% over"
    assert Goal("", 0, 1).verdict == "**missed**"
    assert Goal("", 1.1, nan).verdict != "met"


def test_figures_are_rounded_by_size() -> None:
    """Figures are rounded by their size."""
    assert [figure(number) for number in (0.123, 12.34, 1234.5, 1234)] == ["0.12", "12.3", "1,234", "1,234"]


def test_short_rows_are_padded() -> None:
    """A row with too few cells is padded."""
    assert table(["a", "b"], [["1"]]) == "| a | b |\n| --- | --- |\n| 1 |  |"
