"""What the tap says of itself, as README.md, meltano.yml and plugin.yml repeat it.

The tests compare these texts with the files. To renew the files: `.venv/bin/python tests/newcomer/written.py`
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAP = Path(sys.executable).with_name("tap-mixpanel-stream")
RENEW = "run `.venv/bin/python tests/newcomer/written.py` to renew it"

About = dict[str, Any]


def about() -> About:
    """Ask the installed command."""
    answer = subprocess.run([TAP, "--about", "--format", "json"], check=True, capture_output=True)
    told: About = json.loads(answer.stdout)
    return told


def own_settings(told: About) -> dict[str, dict[str, Any]]:
    """The tap's own settings; those that every SDK tap has come after the first of them."""
    names = list(told["settings"]["properties"])
    return {name: told["settings"]["properties"][name] for name in names[: names.index("stream_maps")]}


def sdk_settings(told: About) -> dict[str, dict[str, Any]]:
    """The settings that every SDK tap has."""
    own = own_settings(told)
    return {name: spec for name, spec in told["settings"]["properties"].items() if name not in own}


def readme_table(told: About) -> str:
    """The README's table of settings."""
    rows = ["| setting | type | default | |", "|---|---|---|---|"]
    for name, spec in own_settings(told).items():
        kind = " ".join(f"`{value}`" for value in spec.get("enum", ())) or _type(spec)
        kind += ", secret" if spec.get("secret") else ""
        default = f"`{plain(spec['default'])}`" if "default" in spec else ""
        rows.append(f"| `{name}` | {kind} | {default} | {_escaped(spec['description'])} |")
    return "\n".join(rows) + "\n"


def definition(told: About) -> str:
    """Capabilities and settings as a Meltano plugin definition lists them, in YAML."""
    lines = ["capabilities:", *(f"- {capability}" for capability in told["capabilities"]), "settings:"]
    for name, spec in told["settings"]["properties"].items():
        lines += [f"- name: {name}", f"  label: {_quoted(spec['title'])}", f"  kind: {_kind(name, spec)}"]
        if options := spec.get("enum"):
            lines.append("  options:")
            lines += [f"  - {{label: {_quoted(option)}, value: {_quoted(option)}}}" for option in options]
        if spec.get("secret"):
            lines.append("  sensitive: true")
        if "default" in spec:
            lines.append(f"  value: {json.dumps(spec['default'])}")
        lines.append(f"  description: {_quoted(spec['description'])}")
    return "\n".join(lines) + "\n"


def plain(value: object) -> str:
    """A default as people write it: JSON, text without quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _type(spec: dict[str, Any]) -> str:
    [kind] = [kind for kind in spec["type"] if kind != "null"]
    return str(kind)


def _kind(name: str, spec: dict[str, Any]) -> str:
    if spec.get("enum"):
        return "options"
    # A date-time is taken as well; this kind is what lets Meltano offer a calendar.
    return "date_iso8601" if name in {"start_date", "end_date"} else _type(spec)


def _quoted(text: str) -> str:
    # Single quotes take everything as it is, a backslash too.
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


# In YAML `# written from here`, in Markdown `<!-- written from here -->`, closed by the same with `to here`.
_MARKED = re.compile(
    r"^ *(?:#|<!--) written from here[^\n]*\n(?P<inside>.*?)^ *(?:#|<!--) to here",
    re.MULTILINE | re.DOTALL,
)


def between_marks(text: str) -> tuple[int, int]:
    """Where the part of a file is that this module writes: from after one mark's line to before the other's."""
    found = _MARKED.search(text)
    if not found:
        raise ValueError("the marks are missing")
    return found.span("inside")


def indented(text: str, width: int) -> str:
    """A definition as a part of a larger YAML file."""
    return "".join(" " * width + line for line in text.splitlines(keepends=True))


def files(told: About) -> dict[str, str]:
    """What is to stand between the marks, by file."""
    return {
        "README.md": readme_table(told),
        "meltano.yml": indented(definition(told), 4),
        "plugin.yml": definition(told),
    }


def renew() -> None:
    """Write the parts between the marks again."""
    for name, inside in files(about()).items():
        text = (ROOT / name).read_text(encoding="utf-8")
        begin, end = between_marks(text)
        (ROOT / name).write_text(text[:begin] + inside + text[end:], encoding="utf-8")


if __name__ == "__main__":
    renew()
