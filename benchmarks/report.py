"""Progress of a benchmark, on stderr: a table may go to stdout."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Print a line about what is being measured."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
