"""Draw docs/streams.svg, a diagram of the streams with columns, keys and relations, from the discovered catalog.

`scripts/generate_docs.py` runs this script. A test compares the file with the catalog.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "streams.svg"
TAP = Path(sys.executable).with_name("tap-mixpanel-stream")

# Columns of the diagram from left to right, each with streams from top to bottom.
COLUMNS = [
    ["event_counts", "events", "lexicon_schemas"],
    ["profiles", "cohort_members", "cohorts"],
    ["annotations", "funnels", "insights"],
]
# Stream and column, the stream and column it refers to, and the side of the connecting line.
RELATIONS = [
    ("event_counts", "event_name", "events", "event_name", "left"),
    ("lexicon_schemas", "name", "events", "event_name", "left"),
    ("events", "distinct_id", "profiles", "distinct_id", "between"),
    ("cohort_members", "distinct_id", "profiles", "distinct_id", "right"),
    ("cohort_members", "cohort_id", "cohorts", "id", "left"),
]
MARGIN, WIDTH, GAP, ROW, HEAD, SPACE = 40, 250, 70, 20, 30, 26
FONT = 'font-family="system-ui, -apple-system, Roboto, sans-serif" font-size="14"'
STYLE = """\
    .box { fill: #ffffff; stroke: #57606a; stroke-width: 1.5 }
    .head { fill: #eef3ff; stroke: #57606a; stroke-width: 1.5 }
    .name { fill: #1f2328; font-weight: 600 }
    .column { fill: #1f2328; font-size: 13px }
    .key { font-weight: 600; text-decoration: underline }
    .type { fill: #57606a; font-size: 12px; text-anchor: end }
    .line { stroke: #3f51b5; stroke-width: 1.5; fill: none }
    @media (prefers-color-scheme: dark) {
      .box { fill: #161b22; stroke: #8b949e }
      .head { fill: #1b2333; stroke: #8b949e }
      .name, .column { fill: #e6edf3 }
      .type { fill: #9da7b1 }
      .line { stroke: #8c9eff }
    }
"""


def catalog() -> dict[str, dict[str, Any]]:
    """Return the entries of the discovered catalog by stream."""
    discovered = subprocess.run([TAP, "--discover"], check=True, capture_output=True)
    return {entry["tap_stream_id"]: entry for entry in json.loads(discovered.stdout)["streams"]}


def drawing(streams: dict[str, dict[str, Any]]) -> str:
    """Return the diagram as SVG.

    Args:
        streams: Catalog entries by stream.

    Raises:
        ValueError: The streams of the catalog differ from those in `COLUMNS`.
    """
    if set(streams) != {name for column in COLUMNS for name in column}:
        raise ValueError("the streams in COLUMNS differ from those of the catalog")
    boxes: list[str] = []
    rows: dict[tuple[str, str], tuple[int, int]] = {}
    bottom = 0
    for number, column in enumerate(COLUMNS):
        left, top = MARGIN + number * (WIDTH + GAP), MARGIN
        for name in column:
            properties = streams[name]["schema"]["properties"]
            height = HEAD + ROW * len(properties) + 8
            boxes.append(f'  <rect class="box" x="{left}" y="{top}" width="{WIDTH}" height="{height}" rx="4"/>')
            boxes.append(f'  <rect class="head" x="{left}" y="{top}" width="{WIDTH}" height="{HEAD}" rx="4"/>')
            boxes.append(f'  <text class="name" x="{left + 10}" y="{top + 20}">{name}</text>')
            for place, (title, spec) in enumerate(properties.items()):
                y = top + HEAD + ROW * place + 17
                kind = "column key" if title in streams[name]["key_properties"] else "column"
                boxes.append(f'  <text class="{kind}" x="{left + 10}" y="{y}">{title}</text>')
                boxes.append(f'  <text class="type" x="{left + WIDTH - 10}" y="{y}">{_type(spec)}</text>')
                rows[name, title] = left, y - 5
            top += height + SPACE
        bottom = max(bottom, top)
    lines = [_line(rows[relation[:2]], rows[relation[2:4]], relation[4]) for relation in RELATIONS]
    size = f"{2 * MARGIN + len(COLUMNS) * WIDTH + (len(COLUMNS) - 1) * GAP} {bottom - SPACE + MARGIN}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" aria-labelledby="title" {FONT}>',
            '  <title id="title">Streams, columns, keys (underlined) and references</title>',
            f"  <style>\n{STYLE}  </style>",
            *boxes,
            *lines,
            "</svg>\n",
        ]
    )


def _type(spec: dict[str, Any]) -> str:
    types = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    return str(spec.get("format") or " or ".join(each for each in types if each != "null"))


def _line(begin: tuple[int, int], end: tuple[int, int], side: str) -> str:
    (x1, y1), (x2, y2) = begin, end
    if side == "between":
        x1 += WIDTH
        middle = (x1 + x2) // 2
        return f'  <path class="line" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>'
    edge, outside = (x1, x1 - 30) if side == "left" else (x1 + WIDTH, x1 + WIDTH + 30)
    return f'  <path class="line" d="M{edge} {y1}C{outside} {y1} {outside} {y2} {edge} {y2}"/>'


if __name__ == "__main__":
    PICTURE.write_text(drawing(catalog()), encoding="utf-8")
