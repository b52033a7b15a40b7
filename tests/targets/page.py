"""What stands in docs/targets.md: every configuration, snippet and query there has a name, and is run under it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")
_NAMED = re.compile(r"^<!-- (?P<name>[^\n]+) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {found["name"]: found["text"] for found in _NAMED.finditer(PAGE)}


def settings(name: str) -> dict[str, Any]:
    """A configuration of the page; empty if there is none of this name."""
    read: dict[str, Any] = json.loads(BLOCKS.get(name, "{}"))
    return read
