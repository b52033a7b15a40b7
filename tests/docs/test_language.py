"""Words that the project has retired stay out of its pages and docstrings."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.docs import pages
from tests.docs.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Said instead: continue, emit, discard, truncated, decompress, retry, request, malformed, in halves, credentials.
RETIRED = [
    r"\baside\b",
    r"\bportions?\b",
    r"\bfarewell\b",
    r"\bwhat there is not\b",
    r"\bthat are none\b",
    r"\b(refused|rejected|named|said) by name\b",
    r"\bturn(s|ed)? (it |that )?round\b",
    r"\b(go|goes|went|going) on (from|with|with the|at|and|as|there|newest|in)\b",
    r"\b(break|breaks|broke|broken)[ -]off\b",
    r"\bunpack(s|ed|ing)?\b",
    r"\bhand(s|ed)? (it |them |the state )?on\b(?! two)",
    r"\bthrown? away\b",
    r"\bbelieved\b",
    r"\bquarrel",
    r"\bhelps itself\b",
    r"\banew\b",
    r"\bin good order\b",
    r"\bmend(s|ed)?\b",
    r"\bthe ways? in\b",
    r"\btr(ied|ies) again\b",
    r"\bby halves\b",
    r"\bpassed over\b",
    r"\bso to speak\b",
]
PAGES = [*pages.PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
# Code, which quotes messages and names, and what other programs write.
_CODE = re.compile(
    r"```.*?```|`[^`\n]*`|<!-- (\w[^:\n]*): written from here.*?<!-- \1: to here -->|<!--.*?-->", re.DOTALL
)


def retired(text: str) -> list[str]:
    """The retired words in a text, with what stands around them."""
    flat = " ".join(text.split())
    return [
        flat[max(0, found.start() - 40) : found.end() + 20]
        for pattern in RETIRED
        for found in re.finditer(pattern, flat, re.IGNORECASE)
    ]


def docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_uses_a_retired_word(page: Path) -> None:
    """Code blocks and code spans may: they quote messages and names."""
    assert retired(_CODE.sub(" ", page.read_text(encoding="utf-8"))) == []


def test_no_docstring_of_the_package_uses_a_retired_word() -> None:
    """The tap's own modules, with the emulator."""
    found = {
        str(path.relative_to(ROOT)): words
        for path in sorted((ROOT / "tap_mixpanel_stream").rglob("*.py"))
        if (words := [word for text in docstrings(path) for word in retired(re.sub(r"`[^`]*`", " ", text))])
    }
    assert found == {}


def test_a_retired_word_is_found() -> None:
    """Retired words are found across line breaks."""
    assert retired("Lines are set aside\nand the run goes\non with the rest.") != []
    assert len(retired("unpacked, then handed on, then mended")) == 3
    assert retired("The run continues. Load it by hand on two cores.") == []
