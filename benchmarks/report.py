"""Progress messages on stderr. Tables go to stdout."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Print a progress message."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
