"""Parsing of README.md and the pages of docs/: code blocks, tables of examples, links.

The comment in the line above a block of `sh` or `json`, or above a table, is its mark. It says how the block is tested:

    runs in the tests            sh     runs in the page's folder, after the blocks above it
    NAME.json                    json   is that file in the page's folder; a configuration gets the emulator's URLs
    a configuration              json   the tap runs with it
    rejected: TEXT               json   the tap rejects it with this text
    an event, a profile          json   is sent by Mixpanel, and becomes …
    normalized, raw              json   … this record
    schema: STREAM, SHAPE        json   is the stream's schema
    examples: PROPERTY, COLUMN   table  the property's value in the first column gives the column's in the second
    examples in ZONE: …          table  the same, with `project_timezone`
    not run: REASON              any    is not tested
    checked by TEST              any    is tested by the test with this name

Blocks of another language, or of none, are the output of a program or only for reading. On a page whose tests find its
blocks by name, the mark is that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.docs.programs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
MARKS = re.compile(
    r"runs in the tests|[\w-]+\.json|a configuration|rejected: .+|an event|a profile|normalized|raw"
    r"|schema: \w+, (?:normalized|raw)|examples(?: in [\w/]+)?: \S+, \w+|not run: .+|checked by \w+"
)

_BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^<!-- (examples[^\n]*) -->\n((?:\|[^\n]*\n)+)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        mark: the comment above it; empty if there is none.
        language: the language after its opening fence.
        text: its content.
    """

    mark: str
    language: str
    text: str


def text_of(name: str) -> str:
    """Return a page's text by its path from the project's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page, or of a part of one, in order."""
    return [Block(mark or "", language, inside) for mark, language, inside in _BLOCK.findall(text)]


def named(name: str) -> dict[str, str]:
    """Return the blocks of a page by mark, for a page whose blocks have names."""
    return {block.mark: block.text for block in blocks(text_of(name))}


def section(text: str, title: str) -> str:
    """Return the part of a page below a heading of the second level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def marked(text: str, *marks: str) -> list[Block]:
    """Return the blocks with one of these marks."""
    return [block for block in blocks(text) if block.mark in marks]


def examples(text: str) -> dict[str, list[list[str]]]:
    """Return the tables of examples by mark: the cells of the rows below the heading."""
    return {
        mark: [[cell.strip(" `") for cell in row.strip().strip("|").split("|")] for row in rows.splitlines()[2:]]
        for mark, rows in _TABLE.findall(text)
    }


def links(text: str) -> list[str]:
    """Return the targets of the page's links, except those with a scheme."""
    return [link for link in _LINK.findall(_BLOCK.sub("", text)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by the rules that GitHub and MkDocs share."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
