"""A clock that a test advances: `sleep` returns at once and is recorded."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from tap_mixpanel_stream.mixpanel.clock import Clock

START = datetime(2024, 1, 16, 9, 30, tzinfo=UTC)


class FakeClock(Clock):
    def __init__(self, start: datetime = START) -> None:
        super().__init__()
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return 1000.0 + self._elapsed

    def sleep(self, seconds: float) -> None:
        self.check()
        with self._lock:
            self.sleeps.append(seconds)
            self._elapsed += seconds

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._elapsed += seconds
