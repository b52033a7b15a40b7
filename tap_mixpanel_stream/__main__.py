"""The command, also as `python -m tap_mixpanel_stream`."""

from __future__ import annotations

import gc
import signal


def main() -> None:
    """Run the command."""
    # Before the imports, which take a while: until the tap has its own handler, Ctrl-C does as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The imports make many objects that stay, and no garbage: collecting meanwhile costs a tenth of the start-up.
    gc.disable()
    from .tap import main as run  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
