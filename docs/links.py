"""A hook of MkDocs: the README is the site's first page, and links out of docs/ lead to the repository.

The pages link to files as they lie in a checkout, such as `../CONTRIBUTING.md`, so a site and a forge can both show
them. Where the repository's address is not known, such a link becomes plain text.
"""
# ruff: noqa: INP001 - no package, MkDocs loads the file

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # type: ignore[import-not-found] # only where the site is built

_README = Path(__file__).resolve().parents[1] / "README.md"
_FROM_README = re.compile(r"\]\((docs/)?(?!https?:|#)")
_OUTWARD = re.compile(r"\[([^]\n]*)\]\(\.\./([^)\s]*)\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the README as `index.md`, with its links as seen from docs/."""
    text = _FROM_README.sub(lambda link: "](" if link[1] else "](../", _README.read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, *, config: Any, **_others: Any) -> str:
    """Redirect the links of a page."""
    base = f"{config.repo_url.rstrip('/')}/blob/main/" if config.repo_url else None
    return _OUTWARD.sub(lambda link: f"[{link[1]}]({base}{link[2]})" if base else link[1], markdown)
