"""An MkDocs hook that adds the README as the first page and rewrites links from docs/ to files in the repository.

Pages use relative links such as `../CONTRIBUTING.md`, which work in a checkout and on GitHub. On the site, they become
links to the repository, or plain text if `repo_url` is not set.
"""
# ruff: noqa: INP001 - not a package; MkDocs loads the file

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # type: ignore[import-not-found] # only installed in .venv-tools/docs

_README = Path(__file__).resolve().parents[1] / "README.md"
_FROM_README = re.compile(r"\]\((docs/)?(?!https?:|#)")
_OUTSIDE_DOCS = re.compile(r"\[([^]\n]*)\]\(\.\./([^)\s]*)\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the README as `index.md`, with links relative to docs/."""
    text = _FROM_README.sub(lambda link: "](" if link[1] else "](../", _README.read_text(encoding="utf-8"))
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, *, config: Any, **_others: Any) -> str:
    """Rewrite the links of a page to files outside docs/."""
    base = f"{config.repo_url.rstrip('/')}/blob/main/" if config.repo_url else None
    return _OUTSIDE_DOCS.sub(lambda link: f"[{link[1]}]({base}{link[2]})" if base else link[1], markdown)
