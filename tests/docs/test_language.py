"""Retired words stay out of pages, docstrings, comments and messages; every test has a short name and a docstring."""

from __future__ import annotations

import ast
import re
import tokenize
from typing import TYPE_CHECKING

import pytest

from tests.docs import pages
from tests.docs.programs import ROOT
from tests.docs.test_errors_page import texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Use instead: continue, emit, discard, truncated, decompress, retry, request, malformed, in halves, credentials,
# except, only, unchanged, succeed, at most, reject, omit, minus.
RETIRED = [
    r"\baside\b",
    r"\bportions?\b",
    r"\bfarewell\b",
    r"\bwhat there is not\b",
    r"\bthat (is|are) (?-i:none)\b",
    r"\b(refused|rejected|named|said) by name\b",
    r"\bturn(s|ed)? (it |that )?round\b",
    r"\b(go|goes|gone|went|going) on (from|with|with the|at|and|as|there|newest|in)\b",
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
    r"\btr(ied|ies) (it |them )?again\b",
    r"\bby halves\b",
    r"\bpassed over\b",
    r"\bso to speak\b",
    r"\bat the (most|least)\b",
    r"\ball the same\b",
    r"\bso many\b",
    r"\b(nothing|none) but\b",
    r"\bbut for (its|their|the|those|one|what)\b",
    r"\bas (it|they) (came|comes|come)\b",
    r"\bwhole or not at all\b",
    r"\b(come|comes|came|arrives?) whole\b",
    r"\b(go|goes|went) well\b",
    r"\bout of step\b",
    r"\bthereof\b",
    r"\bhalf (a character|a surrogate|surrogate)\b",
    r"\bof (its|their) own accord\b",
    r"\bwithout a word\b",
    r"\bquieten",
    r"\bstr(ike|ikes|uck)\b",
    r"\brefus(es|al|als|ing)\b",
    r"\bleft out\b",
    r"\bleaves? out\b",
    r"\bless the\b",
]
PAGES = [*pages.PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
CODE = ["tap_mixpanel_stream", "tests", "benchmarks", "scripts", "examples"]
LONGEST_NAME = 60
# Code, which quotes messages and names, and generated parts.
_CODE = re.compile(
    r"```.*?```|`[^`\n]*`|<!-- (\w[^:\n]*): written from here.*?<!-- \1: to here -->|<!--.*?-->", re.DOTALL
)


def retired(text: str) -> list[str]:
    """Return the retired words in a text with the text around them."""
    flat = " ".join(text.split())
    return [
        flat[max(0, found.start() - 40) : found.end() + 20]
        for pattern in RETIRED
        for found in re.finditer(pattern, flat, re.IGNORECASE)
    ]


def prose(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a module without code spans. Consecutive comment lines are one comment."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield re.sub(r"`[^`]*`", " ", ast.get_docstring(node) or "")
    comment, next_line = "", 0
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                if token.start[0] != next_line:
                    yield re.sub(r"`[^`]*`", " ", comment)
                    comment = ""
                comment += token.string.removeprefix("#")
                next_line = token.start[0] + 1
    yield re.sub(r"`[^`]*`", " ", comment)


def modules(folder: str) -> list[Path]:
    """Return the modules of a folder."""
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_uses_a_retired_word(page: Path) -> None:
    """Code blocks and code spans may use them: they quote messages and names."""
    assert retired(_CODE.sub(" ", page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("folder", CODE)
def test_no_docstring_or_comment_uses_a_retired_word(folder: str) -> None:
    """Docstrings and comments of the package, the tests and all programs are checked."""
    found = {
        str(path.relative_to(ROOT)): words
        for path in modules(folder)
        if (words := [word for text in prose(path) for word in retired(text)])
    }
    assert found == {}


def test_no_message_uses_a_retired_word() -> None:
    """Errors, log lines and setting descriptions are strings in the tap's code."""
    assert [word for text in texts() for word in retired(text)] == []


def test_a_retired_word_is_found(tmp_path: Path) -> None:
    """Retired words are found across line breaks, in docstrings and in comments, but not in code spans."""
    assert retired("Lines are set aside\nand the run goes\non with the rest.") != []
    assert len(retired("unpacked, then handed on, then mended")) == 3
    assert retired("The run continues. Load it by hand on two cores.") == []
    module = tmp_path / "module.py"
    module.write_text('"""Set it aside."""\n\nONE = 1  # so\n# Set that\n# aside, and `aside`.\n')
    assert len([word for text in prose(module) for word in retired(text)]) == 2


def test_every_test_has_a_short_name_and_a_docstring() -> None:
    """A test's name has at most 60 characters after `test_`, and its docstring states the rule."""
    tests = [
        (path, node)
        for path in modules("tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(tests) > 1000
    assert [node.name for _, node in tests if len(node.name.removeprefix("test_")) > LONGEST_NAME] == []
    assert [f"{path.name}: {node.name}" for path, node in tests if not ast.get_docstring(node)] == []
