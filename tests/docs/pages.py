"""README.md and the pages of docs/ as the tests read them: code blocks, tables of examples, links.

The comment in the line above a block of `sh` or `json`, or above a table, tells what is done with it:

    runs in the tests            sh     runs in the page's folder, after what stands above it
    NAME.json                    json   is that file in the page's folder; a configuration gets the emulator's address
    a configuration              json   the tap runs with it
    refused: WORDS               json   the tap refuses it with these words
    an event, a profile          json   is sent by Mixpanel, and becomes …
    normalized, raw              json   … this
    schema: STREAM, SHAPE        json   the stream's schema
    tried: PROPERTY, COLUMN      table  the property's value in its first column makes the column's in its second
    tried in ZONE: …             table  the same, with `project_timezone`
    not run: REASON              any    nothing is done with it
    checked by TEST              any    the test of this name does it

Blocks of another language, or of none, are what a program prints, or something to be read. On a page whose tests look
for its blocks by name the comment is that name.
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
    r"runs in the tests|[\w-]+\.json|a configuration|refused: .+|an event|a profile|normalized|raw"
    r"|schema: \w+, (?:normalized|raw)|tried(?: in [\w/]+)?: \S+, \w+|not run: .+|checked by \w+"
)

_BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^<!-- (tried[^\n]*) -->\n((?:\|[^\n]*\n)+)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        mark: what the comment above it says; empty where there is none.
        language: what follows its opening fence.
        text: what it holds.
    """

    mark: str
    language: str
    text: str


def text_of(name: str) -> str:
    """A page's text, by its path from the project's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """The blocks of a page, or of a part of one, in their order."""
    return [Block(mark or "", language, inside) for mark, language, inside in _BLOCK.findall(text)]


def named(name: str) -> dict[str, str]:
    """The blocks of a page by what stands above them, for a page whose blocks have names."""
    return {block.mark: block.text for block in blocks(text_of(name))}


def section(text: str, title: str) -> str:
    """The part of a page below a heading of the second level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def marked(text: str, *marks: str) -> list[Block]:
    """The blocks that one of these marks stands above."""
    return [block for block in blocks(text) if block.mark in marks]


def tried(text: str) -> dict[str, list[list[str]]]:
    """The tables of examples: the rows below their heading, cell by cell, by their mark."""
    return {
        mark: [[cell.strip(" `") for cell in row.strip().strip("|").split("|")] for row in rows.splitlines()[2:]]
        for mark, rows in _TABLE.findall(text)
    }


def links(text: str) -> list[str]:
    """Where the page's links lead, but for those into the web."""
    return [link for link in _LINK.findall(_BLOCK.sub("", text)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """What a link to a part of a page may name, by the rules that GitHub and MkDocs share."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
