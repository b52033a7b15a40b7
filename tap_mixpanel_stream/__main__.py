"""The entry point of the command and of `python -m tap_mixpanel_stream`."""

from __future__ import annotations

import gc
import signal


def main() -> None:
    """Run the command."""
    # The imports take a while. Until the tap sets its own handler, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # The imports create many permanent objects and no garbage. Collecting would take a tenth of the start-up time.
    gc.disable()
    from .tap import main as run  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()
