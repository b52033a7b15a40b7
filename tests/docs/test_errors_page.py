"""docs/errors.md: its lines are the tap's, and it knows all that Mixpanel can answer."""

from __future__ import annotations

import ast
import re

from tap_mixpanel_stream.mixpanel.errors import TABLE
from tests.docs.pages import text_of
from tests.docs.programs import ROOT
from tests.harness import run_tap

# The messages; the rest of the page is about the doctor and the faults.
PAGE = text_of("docs/errors.md").split("\n## How to read a message\n")[1].split("\n## Faults\n", maxsplit=1)[0]


def explained(table: str) -> dict[str, str]:
    """What the lines say, with the statuses that stand before it."""
    rows = re.findall(r"^\|(?: ([^|`]*) \|)? (`[^|]*`) \|", table, re.MULTILINE)
    return {words: statuses for statuses, cell in rows for words in re.findall(r"`(.*?)`", cell)}


def texts() -> list[str]:
    """All texts in the tap's own code; in place of a value there is an ellipsis."""
    found = []
    for path in (ROOT / "tap_mixpanel_stream").rglob("*.py"):
        if "emulator" in path.parts:
            continue
        for node in ast.walk(_without_docstrings(ast.parse(path.read_text(encoding="utf-8")))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return tree


def test_every_line_explained_is_one_that_the_tap_can_write() -> None:
    told = explained(PAGE)
    assert len(told) > 50
    # The words for a value that does not fit are the schema validator's, those for a missing file the SDK's or click's.
    wrong = {"raw": "yes", "region": "us-east", "lookback_days": -1, "concurrent_exports": 1000}
    missing = [line for option in ("--config", "--catalog") for line in run_tap({}, option, "missing.json").stderr]
    code = texts() + run_tap(wrong).errors + missing
    assert [words for words in told if not any(words in text for text in code)] == []


def test_every_answer_in_the_table_of_answers_is_explained_under_its_status() -> None:
    told = explained(PAGE.split("\n## Mixpanel rejects the request\n")[1].split("\n## ")[0])
    assert len(told) == len({rule.remedy for rule in TABLE})
    for rule in TABLE:
        [statuses] = [statuses for words, statuses in told.items() if words in rule.remedy]
        if len(rule.status) <= 2:
            assert str(rule.status[0]) in statuses
        elif len(rule.status) == 100:
            assert f"{rule.status[0] // 100}xx" in statuses
        else:
            assert statuses == "other"
