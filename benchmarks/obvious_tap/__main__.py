"""Runs the obvious tap; with MSGSPEC_WRITER in the environment, with the faster of the SDK's two writers."""

from __future__ import annotations

import os

from .tap import ObviousTap, ObviousTapWithMsgSpec

(ObviousTapWithMsgSpec if os.environ.get("MSGSPEC_WRITER") else ObviousTap).cli()
