"""Pages of docs/ whose code blocks run in the tests, each under the name that stands above it in a comment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "docs"
_NAMED = re.compile(r"^<!-- (?P<name>[^\n]+) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """A page, and its code blocks by name."""

    def __init__(self, name: str) -> None:
        self.text = (FOLDER / name).read_text(encoding="utf-8")
        self.blocks = {found["name"]: found["text"] for found in _NAMED.finditer(self.text)}

    def settings(self, name: str) -> dict[str, Any]:
        """A configuration; empty if there is none of this name."""
        read: dict[str, Any] = json.loads(self.blocks.get(name, "{}"))
        return read


TARGETS = Page("targets.md")
MELTANO = Page("meltano.md")
