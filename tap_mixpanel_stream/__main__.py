"""The command, also as `python -m tap_mixpanel_stream`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command."""
    # Before the imports, which take a while: until the tap has its own handler, Ctrl-C does as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .tap import main as run  # noqa: PLC0415

    run()


if __name__ == "__main__":
    main()
