"""`make demo` prints what docs/getting-started.md shows, and detects a lost record."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT, installed


def run_demo(output: Path, *options: str, commands: Path = COMMANDS) -> subprocess.CompletedProcess[str]:
    python = installed("duckdb", "python")
    demo = ROOT / "examples" / "demo" / "demo.py"
    command = [str(python), str(demo), "--output", str(output), "--commands", str(commands), *options]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def test_the_demo_prints_what_the_page_shows(tmp_path: Path) -> None:
    """Source and target agree in the demo, and the page shows its output."""
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DIFFERENT" not in done.stdout
    shown = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    printed = done.stdout.split("\nOne event")[0]
    [asking] = [line.strip() for line in done.stdout.splitlines() if "import duckdb" in line]
    answered = subprocess.run(asking, shell=True, cwd=Path.cwd(), capture_output=True, text=True, check=False)  # noqa: S602
    assert answered.returncode == 0, answered.stderr
    assert "step" in answered.stdout
    # The durations differ.
    comparison = done.stdout.split("\nIs everything there?")[1].split("\n\n")[0].strip()
    assert comparison.endswith(" 0 differ")
    assert comparison.splitlines()[-1].strip() in shown
    printed, shown = (re.sub(r" +[\d.]+ s\b", "", text) for text in (printed, shown))
    assert printed.strip() in shown, "the demo prints something else now: copy it into docs/getting-started.md"


def test_the_demo_detects_a_lost_record(tmp_path: Path) -> None:
    """The demo fails if a record is lost between tap and target."""
    (tmp_path / "tap-mixpanel-emulator").symlink_to(COMMANDS / "tap-mixpanel-emulator")
    lossy = tmp_path / "tap-mixpanel-stream"
    lossy.write_text(
        f'#!/bin/bash\nset -o pipefail\n"{COMMANDS}/tap-mixpanel-stream" "$@" | sed "0,/RECORD/{{/RECORD/d}}"\n'
    )
    lossy.chmod(0o755)
    done = run_demo(tmp_path, "--days", "2", "--events-per-day", "20", "--profiles", "5", commands=tmp_path)
    assert done.returncode == 1
    assert "DIFFERENT" in done.stdout
    assert re.search(r" [1-9]\d* differ\n", done.stdout)


def test_the_demo_shows_the_error_of_a_failed_tap(tmp_path: Path) -> None:
    """The demo fails with the error of the tap and without a traceback."""
    (tmp_path / "tap-mixpanel-emulator").symlink_to(COMMANDS / "tap-mixpanel-emulator")
    failing = tmp_path / "tap-mixpanel-stream"
    failing.write_text("#!/bin/bash\necho out of order >&2\nexit 1\n")
    failing.chmod(0o755)
    done = run_demo(tmp_path, "--days", "1", "--events-per-day", "1", commands=tmp_path)
    assert done.returncode == 1
    assert "out of order" in done.stderr
    assert "Traceback" not in done.stderr
