"""Draw docs/doctor.svg and docs/run.svg, terminal screenshots of `--doctor` and of a run.

    .venv-tools/docs/bin/python scripts/draw_terminal.py

The script runs the installed commands against the emulator in a pseudo-terminal. The screenshot of the run shows its
progress bar between 33 % and 80 %.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import struct
import subprocess
import tempfile
import termios
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING

import pyte  # type: ignore[import-not-found] # pyte and rich are only installed in .venv-tools/docs
from rich.console import Console  # type: ignore[import-not-found]
from rich.text import Text  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ROOT / ".venv" / "bin"
COLUMNS, ROWS = 118, 40
BAR = re.compile(r"(\d+)%\|")


def screen_of(command: list[str], folder: Path, is_done: Callable[[pyte.Screen], bool]) -> pyte.Screen:
    """Run a command in a terminal until it ends or `is_done` returns True for the screen."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    controller, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}", "TERM": "xterm-256color"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=subprocess.DEVNULL if "--doctor" not in command else terminal,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        while process.poll() is None or select.select([controller], [], [], 0)[0]:
            if not select.select([controller], [], [], 0.1)[0]:
                continue
            try:
                stream.feed(os.read(controller, 65536))
            except OSError:  # the command has closed the terminal
                break
            if is_done(screen):
                process.terminate()
                break
    os.close(controller)
    return screen


def svg_of(command: str, screen: pyte.Screen) -> str:
    """Return an SVG image of the command line and the screen, without external fonts."""
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text(f"$ {command}", style="bold"))
        for line in lines:
            console.print(Text(line), soft_wrap=True)
        picture = console.export_svg(title="tap-mixpanel-stream")
    return re.sub(r"\s*@font-face \{.*?\}\n", "\n", picture, flags=re.DOTALL)


def is_half_way(screen: pyte.Screen) -> bool:
    """Return whether the progress bar is between 33 % and 80 %."""
    shown = BAR.findall("\n".join(screen.display))
    return bool(shown) and 33 <= int(shown[-1]) <= 80  # noqa: PLR2004 - percent


def never(_screen: pyte.Screen) -> bool:
    """Return False, so that the command runs to its end."""
    return False


def draw() -> None:
    """Draw both screenshots."""
    size = ["--first-day=2024-01-01", "--events-per-day=20000", "--profiles=2000"]
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen([COMMANDS / "tap-mixpanel-emulator", *size], stdout=subprocess.PIPE, text=True) as emulator,
    ):
        folder = Path(name)
        try:
            config = json.loads(next(iter(emulator.stdout or [])))
            config |= {"start_date": "2024-01-01", "end_date": "2024-03-31", "project_timezone": "UTC"}
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
            for picture, option, is_done in (("doctor", " --doctor", never), ("run", "", is_half_way)):
                command = f"tap-mixpanel-stream --config config.json{option}"
                screen = screen_of(command.split(), folder, is_done)
                shown = command if option else f"{command} | target-postgres --config target.json"
                (ROOT / "docs" / f"{picture}.svg").write_text(svg_of(shown, screen), encoding="utf-8")
        finally:
            emulator.terminate()


if __name__ == "__main__":
    draw()
