"""Show the progress of a stream: a progress bar on a terminal, otherwise a log line every 30 seconds."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import pendulum

from ..mixpanel.quota import time_text

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator
    from types import TracebackType

    from tqdm import tqdm

    from ..delivery.spool import SpooledChunk
    from ..mixpanel.clock import Clock
    from ..mixpanel.quota import Quota
    from ..mixpanel.request import Api

LOG_INTERVAL = 30
"""Seconds between log lines while chunks are delivered."""

MAX_LOG_INTERVAL = 600
"""Maximum seconds between log lines. While no chunks arrive, the interval doubles with each line up to this."""

MIN_SECONDS_IN_MINUTES = 120
"""A duration of at least this many seconds is given in minutes."""

_BAR_INTERVAL = 1.0
"""Seconds between updates of the progress bar."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


@dataclass(kw_only=True)
class Progress:
    r"""What a stream has delivered so far. As a context manager, it shows the progress during the block.

    Attributes:
        stream: The stream's name.
        chunk_name: The word for a chunk, such as `window`.
        unit: The unit of `extent` and `total`, such as `days`.
        bookmark_from: The stream's bookmark before the run.
        clock: The run's clock.
        api: The API that the stream uses.
        quota: The run's quota.
        log: Receives the log lines.
        total: The total extent of the stream; None while it is unknown.
        extent: The number of days, profiles or other units delivered.
        chunks: The number of chunks delivered.
        records: The number of records delivered.
        received: The size of the responses as sent, in bytes.
        decompressed_bytes: The decompressed size of the responses.
        rejected: The number of malformed lines.
        nuls: The number of `\u0000` removed from strings.
        misfits: By property column, the number of values that became null because they do not fit the column's type.
    """

    stream: str
    chunk_name: str
    unit: str
    bookmark_from: str | None
    clock: Clock
    api: Api
    quota: Quota
    log: logging.Logger
    total: int | None = None
    extent: int = 0
    chunks: int = 0
    records: int = 0
    received: int = 0
    decompressed_bytes: int = 0
    rejected: int = 0
    nuls: int = 0
    misfits: Counter[str] = field(default_factory=Counter)
    _began: float = field(init=False)
    _logged_at: float = field(init=False)
    _logged_chunks: int = 0
    _interval: float = LOG_INTERVAL
    _requests_before: int = field(init=False)
    _counted_before: int = field(init=False)
    _waited_before: float = field(init=False)
    _bar: tqdm[Any] | None = None
    _exit_stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self._began = self._logged_at = self.clock.monotonic()
        self._requests_before, self._waited_before = self.quota.requests, self.quota.waited
        self._counted_before = self.quota.counted(self.api)
        if sys.stderr.isatty():
            self._exit_stack.enter_context(self._showing_bar())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit_stack.close()

    @contextlib.contextmanager
    def _showing_bar(self) -> Iterator[None]:
        # Imported here, because only the progress bar needs them.
        from tqdm import tqdm  # noqa: PLC0415
        from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

        bar = tqdm(desc=self.stream, file=sys.stderr, dynamic_ncols=True, leave=False, bar_format=_BAR)
        with logging_redirect_tqdm(), bar as self._bar, self._refreshing():
            yield
        self._bar = None

    @contextlib.contextmanager
    def _refreshing(self) -> Iterator[None]:
        """Update the bar every second, even while the main thread waits for the target."""
        ended = threading.Event()

        def refresh() -> None:
            while not ended.wait(_BAR_INTERVAL):
                self._draw()

        thread = threading.Thread(target=refresh, daemon=True, name="progress")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def add(self, chunk: SpooledChunk) -> None:
        """Add a delivered chunk."""
        self.chunks += 1
        self.extent += chunk.extent
        self.records += chunk.records
        self.received += chunk.received
        self.decompressed_bytes += chunk.decompressed_bytes
        self.rejected += chunk.rejected
        self.nuls += chunk.nuls
        self.misfits.update(chunk.misfits)
        self._draw()
        self.tick()

    def tick(self) -> None:
        """Log the progress if the interval has passed. Call this regularly, even while nothing arrives."""
        if self._bar is not None:
            return
        now = self.clock.monotonic()
        has_new_chunks = self.chunks > self._logged_chunks
        if now - self._logged_at >= (LOG_INTERVAL if has_new_chunks else self._interval):
            self._interval = LOG_INTERVAL if has_new_chunks else min(2 * self._interval, MAX_LOG_INTERVAL)
            self._logged_at, self._logged_chunks = now, self.chunks
            self.log.info("%s: %s", self.stream, self._text(now - self._began), extra=self._fields())

    def log_summary(self, bookmark_to: str | None) -> None:
        """Log what the stream has delivered, at its end.

        Args:
            bookmark_to: The stream's bookmark after the run.
        """
        requests = self.quota.requests - self._requests_before
        waited = self.quota.waited - self._waited_before
        text = (
            f"{self.records:,} records in {with_count(self.chunks, self.chunk_name)}, "
            f"{self.decompressed_bytes / 1e6:,.1f} MB ({self.received / 1e6:,.1f} MB received), "
            f"{with_count(requests, 'request')}, {waited:.0f} s waited for quota, "
            f"{with_count(self.rejected, 'malformed line')}"
        )
        if bookmark_to:
            text += f"; bookmark from {self.bookmark_from or 'none'} to {bookmark_to}"
        usage = {"requests": requests, "seconds_waited": waited}
        bookmarks = {"bookmark_from": self.bookmark_from, "bookmark_to": bookmark_to}
        self.log.info("%s: %s", self.stream, text, extra=self._fields() | usage | bookmarks)

    def _draw(self) -> None:
        """Redraw the bar. The most important text comes first, since a narrow terminal cuts off the rest."""
        if self._bar is not None:
            self._bar.total, self._bar.n = self.total, self.extent
            self._bar.set_postfix_str(
                ", ".join(
                    [
                        f"{self._extent_text()} {self.unit}",
                        *self._time_texts(),
                        f"{self.records:,} records",
                        *self._quota_texts(),
                    ]
                )
            )

    def _text(self, seconds: float) -> str:
        parts = [
            f"{self._extent_text()} {self.unit}",
            f"{self.records:,} records",
            f"{self.decompressed_bytes / 1e6:,.1f} MB",
            f"{self.records / seconds:,.0f} records a second",
            *self._quota_texts(),
            *self._time_texts(),
        ]
        return ", ".join(parts)

    def _extent_text(self) -> str:
        return f"{self.extent:,}" + ("" if self.total is None else f" of {self.total:,}")

    def _quota_texts(self) -> Iterator[str]:
        remaining = self.quota.remaining(self.api)
        if remaining is not None:
            yield f"{remaining} requests left this hour"

    def _time_texts(self) -> Iterator[str]:
        """Yield the end of the current wait, and the remaining time including all waits."""
        if waiting := self.quota.waiting:
            yield f"waiting for quota until {time_text(self.clock.now() + timedelta(seconds=waiting))}"
        if not (self.total and self.extent):
            return
        rest = max(0, self.total - self.extent)
        waited = self.quota.waited - self._waited_before - waiting
        worked = max(0.0, self.clock.monotonic() - self._began - waited)
        requests = math.ceil((self.quota.counted(self.api) - self._counted_before) * rest / self.extent)
        wait = self.quota.estimate_wait(self.api, requests)
        text = f"about {in_words(worked * rest / self.extent + wait)} to go"
        yield text + (f", {in_words(wait)} of it waiting for quota" if wait >= 1 else "")

    def _fields(self) -> dict[str, object]:
        """Return the counts as fields for a structured log."""
        return {
            "stream_name": self.stream,
            f"{self.chunk_name}s": self.chunks,
            f"{self.unit}_done": self.extent,
            f"{self.unit}_total": self.total,
            "records": self.records,
            "bytes_received": self.received,
            "bytes_decompressed": self.decompressed_bytes,
            "bad_lines": self.rejected,
            "requests_left": self.quota.remaining(self.api),
            "seconds_waiting": round(self.quota.waiting),
        }


def with_count(number: int, name: str) -> str:
    """Return a number with a noun: `1 record`, `2 records`."""
    return f"{number:,} {name}" + ("" if number == 1 else "s")


def in_words(seconds: float) -> str:
    """Return a duration in words, in whole minutes from two minutes on: `31 seconds`, `1 hour 2 minutes`."""
    whole = round(seconds)
    is_short = whole < MIN_SECONDS_IN_MINUTES
    duration = pendulum.duration(seconds=whole) if is_short else pendulum.duration(minutes=round(seconds / 60))
    return duration.in_words() if whole else "0 seconds"
