"""docs/errors.md: the messages it explains are the tap's, and every error response is explained."""

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
    """Return the messages of a table, each with the statuses before it."""
    rows = re.findall(r"^\|(?: ([^|`]*) \|)? (`[^|]*`) \|", table, re.MULTILINE)
    return {words: statuses for statuses, cell in rows for words in re.findall(r"`(.*?)`", cell)}


def texts() -> list[str]:
    """Return all strings in the tap's code, without docstrings; values of f-strings are an ellipsis."""
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


def test_every_message_on_the_page_exists_in_the_code() -> None:
    """Every message that the page explains is in the tap's code or written by it."""
    messages = explained(PAGE)
    assert len(messages) > 50
    # The text for an invalid value is the schema validator's, that for a missing file the SDK's or click's.
    wrong = {"raw": "yes", "region": "us-east", "lookback_days": -1, "concurrent_exports": 1000}
    missing = [line for option in ("--config", "--catalog") for line in run_tap({}, option, "missing.json").stderr]
    code = texts() + run_tap(wrong).errors + missing
    assert [words for words in messages if not any(words in text for text in code)] == []


def test_every_error_response_is_on_the_page() -> None:
    """Every rule of the table of error responses is explained with its status."""
    messages = explained(PAGE.split("\n## Mixpanel rejects the request\n")[1].split("\n## ")[0])
    assert len(messages) == len({rule.remedy for rule in TABLE})
    for rule in TABLE:
        [statuses] = [statuses for words, statuses in messages.items() if words in rule.remedy]
        if len(rule.status) <= 2:
            assert str(rule.status[0]) in statuses
        elif len(rule.status) == 100:
            assert f"{rule.status[0] // 100}xx" in statuses
        else:
            assert statuses == "other"
