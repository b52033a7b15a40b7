"""Entry point of `python -m tap_mixpanel_stream.emulator`."""

from __future__ import annotations

import sys

from .command import main

sys.exit(main())
