"""What stands in docs/ runs: no block of code is there that no test knows."""

from __future__ import annotations

import re

import pytest

from tests import pages

# By what the tests call them: a block under another name runs nowhere.
LOADERS = ("postgres", "duckdb", "jsonl", "csv")
KNOWN = {
    "targets.md": {
        *(f"{name}: {kind}" for name in LOADERS for kind in ("target.json", "meltano.yml")),
        *(f"{name}: query of {kind}" for name in LOADERS for kind in ("events", "raw events")),
        *(f"{name}: {kind}" for name in ("postgres", "postgres-batch") for kind in ("config.json", "shell")),
        "postgres: config.json for deleted profiles",
        "half a character: config.json",
    },
    "meltano.md": {
        *("emulator", "run against the emulator", "first steps", "doctor", "settings", "in another project", "select"),
        *("job and schedule", "state", "set back", "full refresh", "backfill.sh", "several at once"),
    },
}


@pytest.mark.parametrize("name", list(KNOWN))
def test_every_block_of_code_is_one_that_runs(name: str) -> None:
    page = pages.Page(name)
    assert set(page.blocks) == KNOWN[name]
    assert len(re.findall(r"^```\w", page.text, re.MULTILINE)) == len(page.blocks)


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for path in [
        *pages.FOLDER.glob("*.md"),
        *(pages.FOLDER.parent / name for name in ("README.md", "CONTRIBUTING.md")),
    ]:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = path.parent / name if name else path
            assert target.exists(), f"{path.name}: {link}"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{path.name}: {link}"
