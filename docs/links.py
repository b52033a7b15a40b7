"""A hook of MkDocs: links that lead out of docs/ lead to the repository, or, where its address is not known, nowhere.

The pages link to files as they lie in a checkout, such as `../README.md`, so a site and a forge can both show them.
"""
# ruff: noqa: INP001 - no package, MkDocs loads the file

from __future__ import annotations

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^]\n]*)\]\(\.\./([^)\s]*)\)")


def on_page_markdown(markdown: str, *, config: Any, **_others: Any) -> str:
    """Redirect the links of a page."""
    base = f"{config.repo_url.rstrip('/')}/blob/main/" if config.repo_url else None
    return _OUTWARD.sub(lambda link: f"[{link[1]}]({base}{link[2]})" if base else link[1], markdown)
