"""A clock that a test turns: sleeping takes no time, and is remembered."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from tap_mixpanel_stream.mixpanel.clock import Clock

START = datetime(2024, 1, 16, 9, 30, tzinfo=UTC)


class FakeClock(Clock):
    def __init__(self, start: datetime = START) -> None:
        super().__init__()
        self._start = start
        self._turned = 0.0
        self._turning = threading.Lock()
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._turned)

    def monotonic(self) -> float:
        return 1000.0 + self._turned

    def sleep(self, seconds: float) -> None:
        self.check()
        with self._turning:
            self.sleeps.append(seconds)
            self._turned += seconds

    def turn(self, seconds: float) -> None:
        with self._turning:
            self._turned += seconds
