"""The checkout's Meltano project in a temporary folder, with the real Meltano.

Its plugins have no `pip_url` here, so Meltano uses programs on the path and installs nothing. In test_installed.py
Meltano installs them.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PIPELINE = ("tap-mixpanel-stream", "target-jsonl")
STATE_ID = "dev:tap-mixpanel-stream-to-target-jsonl"
LOADERS = ("jsonl", "duckdb", "postgres", "csv", "clickhouse", "s3", "gcs")


@dataclass(frozen=True)
class Done:
    """The result of a command.

    Attributes:
        code: The exit code in a shell: 128 + N after signal N.
        out: Its stdout and stderr.
    """

    code: int
    out: str

    def well(self) -> str:
        """Check that it succeeded, and return its output."""
        assert self.code == 0, self.out
        return self.out


class Project:
    """A Meltano project with the tap, and with target-jsonl as its loader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.definition = folder / "meltano.yml"
        self.definition.write_text(without_pip_urls((ROOT / "meltano.yml").read_text(encoding="utf-8")))
        programs = [COMMANDS / "tap-mixpanel-stream", COMMANDS / "tap-mixpanel-emulator"]
        programs += [installed(name, f"target-{name}") for name in LOADERS]
        own = folder / "bin"
        own.mkdir()
        for program in [*programs, installed("meltano", "meltano")]:
            (own / program.name).symlink_to(program)
        self.environment = ENVIRONMENT | {"PATH": f"{own}:{ENVIRONMENT['PATH']}"}

    def add_loader(self, snippet: str) -> None:
        """Add a loader of a page at the end of meltano.yml, as the page says."""
        self.definition.write_text(self.definition.read_text() + without_pip_urls(snippet))

    def fill_in(self, settings: Mapping[str, str]) -> None:
        """Write `.env` from the example and these settings."""
        example = (ROOT / ".secrets.example").read_text(encoding="utf-8")
        (self.folder / ".env").write_text(filled_in(example, settings))

    def start(self, script: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a shell script in the project, in a process group of its own."""
        return subprocess.Popen(
            ["/bin/bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def shell(self, script: str, environment: Mapping[str, str] | None = None) -> Done:
        """Run a shell script in the project."""
        return ended(self.start(script, environment))

    def run(self, *options: str, environment: Mapping[str, str] | None = None) -> Done:
        """Run the pipeline that loads files."""
        return self.shell(f"meltano run {' '.join([*options, *PIPELINE])}", environment)

    def state(self) -> str | None:
        """Return the bookmark that Meltano stores for the pipeline that loads files."""
        output = self.shell(f"meltano state get {STATE_ID} 2>/dev/null").well()
        found = re.search(r'"replication_key_value": ?"([^"]*)"', output)
        return found[1] if found else None

    def loaded(self, stream: str, folder: str = "output") -> list[bytes]:
        """Return the lines in all files of a stream."""
        files = sorted((self.folder / folder).glob(f"{stream}-*.jsonl"))
        return [line for file in files for line in file.read_bytes().splitlines()]


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait until a script ends, and return its result."""
    out, _ = process.communicate(timeout=180)
    code = process.returncode
    return Done(code if code >= 0 else 128 - code, out)


def without_pip_urls(definition: str) -> str:
    """Remove `pip_url`, so that Meltano uses programs on the path."""
    return re.sub(r"^ *pip_url: .*\n", "", definition, flags=re.MULTILINE)


def filled_in(example: str, settings: Mapping[str, str]) -> str:
    """Return the example of secrets filled in with these settings, and with those it lacks added."""
    for name, value in settings.items():
        line = f"TAP_MIXPANEL_STREAM_{name.upper()}='{value}'\n"
        example, replaced = re.subn(rf"^#?TAP_MIXPANEL_STREAM_{name.upper()}=.*\n", line, example, flags=re.MULTILINE)
        example += "" if replaced else line
    return example
