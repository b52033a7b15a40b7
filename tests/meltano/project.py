"""The checkout's Meltano project in a folder of its own, with the real Meltano.

Its plugins have no `pip_url` here, so Meltano takes their programs from the path and sets up nothing. test_installed.py
has Meltano install them.
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
    """How a command ended.

    Attributes:
        code: As a shell sees it: 128 + N after signal N.
        out: What it said, stdout before stderr.
    """

    code: int
    out: str

    def well(self) -> str:
        """What it said; it must have gone well."""
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
        """Do with a page's loader what the page says: put it at the end."""
        self.definition.write_text(self.definition.read_text() + without_pip_urls(snippet))

    def fill_in(self, settings: Mapping[str, str]) -> None:
        """Write `.env` as somebody fills in the example."""
        example = (ROOT / ".secrets.example").read_text(encoding="utf-8")
        (self.folder / ".env").write_text(filled_in(example, settings))

    def start(self, script: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a shell's script in the project, as the leader of a group of processes."""
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
        """Run a shell's script in the project."""
        return ended(self.start(script, environment))

    def run(self, *options: str, environment: Mapping[str, str] | None = None) -> Done:
        """Run the pipeline into files."""
        return self.shell(f"meltano run {' '.join([*options, *PIPELINE])}", environment)

    def state(self) -> str | None:
        """The bookmark that Meltano keeps for the pipeline into files."""
        told = self.shell(f"meltano state get {STATE_ID} 2>/dev/null").well()
        found = re.search(r'"replication_key_value": ?"([^"]*)"', told)
        return found[1] if found else None

    def loaded(self, stream: str, folder: str = "output") -> list[bytes]:
        """The lines in all files of a stream."""
        files = sorted((self.folder / folder).glob(f"{stream}-*.jsonl"))
        return [line for file in files for line in file.read_bytes().splitlines()]


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a script."""
    out, _ = process.communicate(timeout=180)
    code = process.returncode
    return Done(code if code >= 0 else 128 - code, out)


def without_pip_urls(definition: str) -> str:
    """A definition whose programs are on the path."""
    return re.sub(r"^ *pip_url: .*\n", "", definition, flags=re.MULTILINE)


def filled_in(example: str, settings: Mapping[str, str]) -> str:
    """The example of secrets as somebody fills it in, and what the emulator needs beyond it."""
    for name, value in settings.items():
        line = f"TAP_MIXPANEL_STREAM_{name.upper()}='{value}'\n"
        example, replaced = re.subn(rf"^#?TAP_MIXPANEL_STREAM_{name.upper()}=.*\n", line, example, flags=re.MULTILINE)
        example += "" if replaced else line
    return example
