"""Generate the settings and the lists of pages in README.md, docs/, meltano.yml, plugin.yml and mkdocs.yml.

Run `.venv/bin/python scripts/generate_docs.py` after a change of the settings or of the pages. A test compares the
files with what this module generates.
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
RENEW = "run `.venv/bin/python scripts/generate_docs.py` to renew it"

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

# The pages of docs/ in the order of a reader's day, and what each contains.
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
    """Ask the installed command."""
    answer = subprocess.run([TAP, "--about", "--format", "json"], check=True, capture_output=True)
    told: About = json.loads(answer.stdout)
    return told


@functools.cache
def selection() -> str:
    """The streams that the tap reads by default, as a Meltano plugin definition selects them, in YAML."""
    answer = subprocess.run([TAP, "--discover"], check=True, capture_output=True)
    lines = ["select:", "- '*.*'"]
    for stream in json.loads(answer.stdout)["streams"]:
        [metadata] = [entry["metadata"] for entry in stream["metadata"] if not entry["breadcrumb"]]
        if not metadata["selected"]:
            lines.append(f"- '!{stream['tap_stream_id']}.*'")
    return "\n".join(lines) + "\n"


def own_settings(told: About) -> dict[str, dict[str, Any]]:
    """The tap's own settings; those that every SDK tap has come after the first of them."""
    names = list(told["settings"]["properties"])
    return {name: told["settings"]["properties"][name] for name in names[: names.index("stream_maps")]}


def sdk_settings(told: About) -> dict[str, dict[str, Any]]:
    """The settings that every SDK tap has."""
    own = own_settings(told)
    return {name: spec for name, spec in told["settings"]["properties"].items() if name not in own}


def settings_table(settings: dict[str, dict[str, Any]]) -> str:
    """A table of settings."""
    rows = ["| setting | type | default | |", "|---|---|---|---|"]
    for name, spec in settings.items():
        kind = " ".join(f"`{value}`" for value in spec.get("enum", ())) or _type(spec)
        kind += ", secret" if spec.get("secret") else ""
        default = f"`{plain(spec['default'])}`" if "default" in spec else ""
        rows.append(f"| `{name}` | {kind} | {default} | {_escaped(spec['description'])} |")
    return "\n".join(rows) + "\n"


def definition(told: About) -> str:
    """Selection, capabilities and settings as a Meltano plugin definition lists them, in YAML."""
    lines = [selection() + "capabilities:", *(f"- {capability}" for capability in told["capabilities"]), "settings:"]
    for name, spec in told["settings"]["properties"].items():
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


def pages(there: set[str]) -> dict[str, dict[str, str]]:
    """The pages that there are, in their order; those that stand in no list come last."""
    known = {page for section in PAGES.values() for page in section}
    sections = PAGES | {"More": dict.fromkeys(sorted(there - known), "")}
    listed = {title: {page: text for page, text in of.items() if page in there} for title, of in sections.items()}
    return {title: of for title, of in listed.items() if of}


def title(page: str) -> str:
    """The heading of a page."""
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def navigation(sections: dict[str, dict[str, str]]) -> str:
    """The list of pages for MkDocs, in YAML."""
    lines = ["- index.md"]
    for section, of in sections.items():
        lines += [f"- {section}:", *(f"  - {page}.md" for page in of)]
    return "\n".join(lines) + "\n"


def site_map(sections: dict[str, dict[str, str]]) -> str:
    """The list of pages for the README, in Markdown."""
    of_all = [(page, text) for of in sections.values() for page, text in of.items()]
    return "".join(f"- [{title(page)}](docs/{page}.md)" + (f": {text}" if text else "") + "\n" for page, text in of_all)


def plain(value: object) -> str:
    """A default as people write it: JSON, text without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _type(spec: dict[str, Any]) -> str:
    [kind] = [kind for kind in spec["type"] if kind != "null"]
    return str(kind)


def _kind(spec: dict[str, Any]) -> str:
    if spec.get("enum"):
        return "options"
    # A date is text here, too: by its own kind for dates Meltano guesses, and makes today's day of month of 2024-01.
    return _type(spec)


def _quoted(text: str) -> str:
    # Single quotes take everything as it is, a backslash too.
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# In YAML `# begin: generated`, in Markdown `<!-- begin: generated -->`, closed by the same with `end: generated`.
_MARKED = re.compile(
    r"^ *(?:#|<!--) begin: generated[^\n]*\n(?P<inside>.*?)^ *(?:#|<!--) end: generated",
    re.MULTILINE | re.DOTALL,
)


# plugin.yml is copied into other projects, so it has no marks.
_DEFINITION = re.compile(r"^(?P<inside>  select:\n.*)\Z", re.MULTILINE | re.DOTALL)


def between_marks(text: str) -> list[tuple[int, int]]:
    """Where the parts of a file are that this module writes: from after one mark's line to before the other's."""
    found = [match.span("inside") for match in list(_MARKED.finditer(text)) or _DEFINITION.finditer(text)]
    if not found:
        raise ValueError("the marks are missing")
    return found


def indented(text: str, width: int) -> str:
    """A definition as a part of a larger YAML file."""
    return "".join(" " * width + line for line in text.splitlines(keepends=True))


def files(told: About) -> dict[str, list[str]]:
    """What is to stand between the marks, by file."""
    there = {path.stem for path in (ROOT / "docs").glob("*.md")}
    return {
        "README.md": [settings_table({name: own_settings(told)[name] for name in COMMON}), site_map(pages(there))],
        "meltano.yml": [indented(definition(told), 4)],
        "plugin.yml": [indented(definition(told), 2)],
        "docs/settings.md": [settings_table(own_settings(told)), settings_table(sdk_settings(told))],
        "mkdocs.yml": [navigation(pages(there))],
    }


def renewed(text: str, parts: list[str]) -> str:
    """A file's text with its parts between the marks written again."""
    marked = between_marks(text)
    for (begin, end), inside in reversed(list(zip(marked, parts, strict=True))):
        text = text[:begin] + inside + text[end:]
    return text


def renew() -> None:
    """Write the parts between the marks again, and draw the streams."""
    for name, parts in files(about()).items():
        text = (ROOT / name).read_text(encoding="utf-8")
        (ROOT / name).write_text(renewed(text, parts), encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "scripts" / "draw_streams.py"], check=True)


if __name__ == "__main__":
    renew()
