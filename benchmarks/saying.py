"""What is said while it runs: to stderr, since a table may go to stdout."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Say what happens."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
