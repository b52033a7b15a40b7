"""Run the minimal tap. If the environment variable MSGSPEC_WRITER is set, use the SDK's msgspec writer."""

from __future__ import annotations

import os

from .tap import MinimalTap, MinimalTapWithMsgSpec

(MinimalTapWithMsgSpec if os.environ.get("MSGSPEC_WRITER") else MinimalTap).cli()
