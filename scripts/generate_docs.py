"""Generate the settings and the lists of pages in README.md, docs/, meltano.yml, plugin.yml and mkdocs.yml.

Run `.venv/bin/python scripts/generate_docs.py` after changing settings, streams or pages. A test checks that the files
are up to date.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TAP = Path(sys.executable).with_name("tap-mixpanel-stream")
UPDATE_HINT = "run `.venv/bin/python scripts/generate_docs.py` to update it"

About = dict[str, Any]

# The settings in the README.
COMMON = (
    "project_id",
    "service_account_username",
    "service_account_secret",
    "region",
    "start_date",
    "project_timezone",
    "streams",
    "raw",
    "event_names",
    "lookback_days",
)

# The pages of docs/ in reading order, with the question that each page answers.
PAGES = {
    "Start": {
        "getting-started": "Set up a nightly load into PostgreSQL.",
        "meltano": "Configure, schedule and back-fill with Meltano.",
        "settings": "All settings, and how they interact.",
    },
    "Data": {
        "streams": "What each stream requests, requires and delivers.",
        "state": "What the state contains, and how late events are loaded.",
        "backfill": "Load years of history, in one run or in shards.",
        "targets": "Tested configurations and queries for each target.",
        "is-everything-there": "Compare the loaded events with Mixpanel's counts.",
        "after-the-load": "Model users and sessions, and draw a chart.",
    },
    "Operate": {
        "production": "Install, schedule, monitor, stop, upgrade and secure the tap.",
        "time-zones": "Find the project's time zone and set `project_timezone`.",
        "errors": "Every message, its cause and its fix.",
    },
    "Background": {
        "benchmarks": "Speed, memory and a comparison with other connectors.",
        "how-it-works": "The architecture.",
    },
}


def about() -> About:
    """Return the output of `tap-mixpanel-stream --about`."""
    result = subprocess.run([TAP, "--about", "--format", "json"], check=True, capture_output=True)
    parsed: About = json.loads(result.stdout)
    return parsed


@functools.cache
def selection() -> str:
    """Return the `select` list of a Meltano plugin definition, in YAML. It selects the tap's default streams."""
    result = subprocess.run([TAP, "--discover"], check=True, capture_output=True)
    lines = ["select:", "- '*.*'"]
    for stream in json.loads(result.stdout)["streams"]:
        [metadata] = [entry["metadata"] for entry in stream["metadata"] if not entry["breadcrumb"]]
        if not metadata["selected"]:
            lines.append(f"- '!{stream['tap_stream_id']}.*'")
    return "\n".join(lines) + "\n"


def tap_settings(info: About) -> dict[str, dict[str, Any]]:
    """Return the settings that the tap defines. In the schema, they come before the settings of the SDK."""
    names = list(info["settings"]["properties"])
    return {name: info["settings"]["properties"][name] for name in names[: names.index("stream_maps")]}


def sdk_settings(info: About) -> dict[str, dict[str, Any]]:
    """Return the settings that the SDK defines."""
    own = tap_settings(info)
    return {name: spec for name, spec in info["settings"]["properties"].items() if name not in own}


def settings_table(settings: dict[str, dict[str, Any]]) -> str:
    """Return a table of settings."""
    rows = ["| setting | type | default | |", "|---|---|---|---|"]
    for name, spec in settings.items():
        kind = " ".join(f"`{value}`" for value in spec.get("enum", ())) or _type(spec)
        kind += ", secret" if spec.get("secret") else ""
        default = f"`{plain(spec['default'])}`" if "default" in spec else ""
        rows.append(f"| `{name}` | {kind} | {default} | {_escaped(spec['description'])} |")
    return "\n".join(rows) + "\n"


def definition(info: About) -> str:
    """Return the selection, capabilities and settings of a Meltano plugin definition, in YAML."""
    lines = [
        selection() + "capabilities:",
        *(f"- {capability}" for capability in info["capabilities"]),
        "settings:",
    ]
    for name, spec in info["settings"]["properties"].items():
        lines += [f"- name: {name}", f"  label: {_quoted(spec['title'])}", f"  kind: {_kind(spec)}"]
        if options := spec.get("enum"):
            lines.append("  options:")
            lines += [f"  - {{label: {_quoted(option)}, value: {_quoted(option)}}}" for option in options]
        if spec.get("secret"):
            lines.append("  sensitive: true")
        if "default" in spec:
            lines.append(f"  value: {json.dumps(spec['default'])}")
        lines.append(f"  description: {_quoted(spec['description'])}")
    return "\n".join(lines) + "\n"


def pages(existing: set[str]) -> dict[str, dict[str, str]]:
    """Return the existing pages by section, in reading order. Pages that `PAGES` does not contain come last."""
    known = {page for section in PAGES.values() for page in section}
    sections = PAGES | {"More": dict.fromkeys(sorted(existing - known), "")}
    listed = {title: {page: text for page, text in of.items() if page in existing} for title, of in sections.items()}
    return {title: of for title, of in listed.items() if of}


def title(page: str) -> str:
    """Return the heading of a page."""
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def navigation(sections: dict[str, dict[str, str]]) -> str:
    """Return the list of pages for MkDocs, in YAML."""
    lines = ["- Overview: index.md"]
    for section, of in sections.items():
        lines += [f"- {section}:", *(f"  - {page}.md" for page in of)]
    return "\n".join(lines) + "\n"


def site_map(sections: dict[str, dict[str, str]]) -> str:
    """Return the list of pages for the README, in Markdown."""
    of_all = [(page, text) for of in sections.values() for page, text in of.items()]
    return "".join(f"- [{title(page)}](docs/{page}.md)" + (f": {text}" if text else "") + "\n" for page, text in of_all)


def plain(value: object) -> str:
    """Format a default value: strings without quotes, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _type(spec: dict[str, Any]) -> str:
    [kind] = [kind for kind in spec["type"] if kind != "null"]
    return str(kind)


def _kind(spec: dict[str, Any]) -> str:
    if spec.get("enum"):
        return "options"
    # Dates are strings. Meltano's date kind would complete 2024-01 with the current day of the month.
    return _type(spec)


def _quoted(text: str) -> str:
    # In single quotes, YAML has no escape sequences except the doubled quote.
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# The marks are `# begin: generated` and `# end: generated` in YAML, and the same in HTML comments in Markdown.
_MARKED = re.compile(
    r"^ *(?:#|<!--) begin: generated[^\n]*\n(?P<inside>.*?)^ *(?:#|<!--) end: generated",
    re.MULTILINE | re.DOTALL,
)


# plugin.yml has no marks, because it is copied to other projects.
_DEFINITION = re.compile(r"^(?P<inside>  select:\n.*)\Z", re.MULTILINE | re.DOTALL)


def between_marks(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each generated part of a file."""
    found = [match.span("inside") for match in list(_MARKED.finditer(text)) or _DEFINITION.finditer(text)]
    if not found:
        raise ValueError("the marks are missing")
    return found


def indented(text: str, width: int) -> str:
    """Indent each line of a text."""
    return "".join(" " * width + line for line in text.splitlines(keepends=True))


def files(info: About) -> dict[str, list[str]]:
    """Return the generated parts by file."""
    existing = {path.stem for path in (ROOT / "docs").glob("*.md")}
    return {
        "README.md": [
            settings_table({name: tap_settings(info)[name] for name in COMMON}),
            site_map(pages(existing)),
        ],
        "meltano.yml": [indented(definition(info), 4)],
        "plugin.yml": [indented(definition(info), 2)],
        "docs/settings.md": [settings_table(tap_settings(info)), settings_table(sdk_settings(info))],
        "mkdocs.yml": [navigation(pages(existing))],
    }


def update_text(text: str, parts: list[str]) -> str:
    """Replace the generated parts in the text of a file."""
    marked = between_marks(text)
    for (begin, end), inside in reversed(list(zip(marked, parts, strict=True))):
        text = text[:begin] + inside + text[end:]
    return text


def update() -> None:
    """Update the generated parts of all files and the diagram of the streams."""
    for name, parts in files(about()).items():
        text = (ROOT / name).read_text(encoding="utf-8")
        (ROOT / name).write_text(update_text(text, parts), encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "scripts" / "draw_streams.py"], check=True)


if __name__ == "__main__":
    update()
