"""The progress of a stream: a bar on a terminal, a line every half minute in a log."""

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

SECONDS = 30
"""Seconds between two log lines of a stream under way."""

MOST_SECONDS = 600
"""How often at least, while nothing new arrives: each such line waits twice as long as the one before."""

SHORT = 120
"""Seconds from which a duration is shown in minutes."""

_REFRESH = 1.0
"""Seconds between two drawings of the bar."""

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


@dataclass(kw_only=True)
class Progress:
    r"""What a stream has delivered so far. A context manager: it shows from entering to leaving.

    Attributes:
        stream: The stream's name.
        chunk_name: What its chunks are called.
        unit: What the extent of a chunk is counted in.
        bookmark_from: The stream's bookmark before the run.
        clock: The run's clock.
        api: The API that the stream asks.
        quota: The run's accounts of requests.
        log: Where lines go to.
        total: The extent of all that is to come, once it is known.
        extent: Days or profiles delivered.
        chunks: Windows or pages delivered.
        records: Records delivered.
        received: Bytes of the responses, as sent.
        decompressed_bytes: Bytes of the responses, decompressed.
        rejected: Malformed lines.
        nuls: `\u0000` removed from strings.
        misfits: By chosen column, values that became null because they did not fit its type.
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
    _said: float = field(init=False)
    _said_of: int = 0
    _pause: float = SECONDS
    _requests_before: int = field(init=False)
    _counted_before: int = field(init=False)
    _waited_before: float = field(init=False)
    _bar: tqdm[Any] | None = None
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self._began = self._said = self.clock.monotonic()
        self._requests_before, self._waited_before = self.quota.requests, self.quota.waited
        self._counted_before = self.quota.counted(self.api)
        if sys.stderr.isatty():
            self._ends.enter_context(self._showing_bar())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    @contextlib.contextmanager
    def _showing_bar(self) -> Iterator[None]:
        # Imported here, since a log needs none of it.
        from tqdm import tqdm  # noqa: PLC0415
        from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

        bar = tqdm(desc=self.stream, file=sys.stderr, dynamic_ncols=True, leave=False, bar_format=_BAR)
        with logging_redirect_tqdm(), bar as self._bar, self._refreshing():
            yield
        self._bar = None

    @contextlib.contextmanager
    def _refreshing(self) -> Iterator[None]:
        """Draw the bar each second, also while the main thread waits for the target."""
        over = threading.Event()

        def refresh() -> None:
            while not over.wait(_REFRESH):
                self._draw()

        thread = threading.Thread(target=refresh, daemon=True, name="progress")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def add(self, chunk: SpooledChunk) -> None:
        """Count a chunk that is out."""
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
        """Log it, if it is time to. To be called now and then, also while nothing arrives."""
        if self._bar is not None:
            return
        now = self.clock.monotonic()
        if now - self._said >= (SECONDS if self.chunks > self._said_of else self._pause):
            self._pause = SECONDS if self.chunks > self._said_of else min(2 * self._pause, MOST_SECONDS)
            self._said, self._said_of = now, self.chunks
            self.log.info("%s: %s", self.stream, self._so_far(now - self._began), extra=self._fields())

    def sum_up(self, bookmark_to: str | None) -> None:
        """Say in the end what was delivered, and what it took.

        Args:
            bookmark_to: The stream's bookmark now.
        """
        requests = self.quota.requests - self._requests_before
        waited = self.quota.waited - self._waited_before
        text = (
            f"{self.records:,} records in {counted(self.chunks, self.chunk_name)}, "
            f"{self.decompressed_bytes / 1e6:,.1f} MB ({self.received / 1e6:,.1f} MB received), "
            f"{counted(requests, 'request')}, {waited:.0f} s waited for quota, "
            f"{counted(self.rejected, 'malformed line')}"
        )
        if bookmark_to:
            text += f"; bookmark from {self.bookmark_from or 'none'} to {bookmark_to}"
        took = {"requests": requests, "seconds_waited": waited}
        bookmarks = {"bookmark_from": self.bookmark_from, "bookmark_to": bookmark_to}
        self.log.info("%s: %s", self.stream, text, extra=self._fields() | took | bookmarks)

    def _draw(self) -> None:
        """Redraw the bar. What comes first stays where the terminal is narrow."""
        if self._bar is not None:
            self._bar.total, self._bar.n = self.total, self.extent
            self._bar.set_postfix_str(
                ", ".join(
                    [f"{self._done()} {self.unit}", *self._ahead(), f"{self.records:,} records", *self._requests_left()]
                )
            )

    def _so_far(self, seconds: float) -> str:
        done = [
            f"{self._done()} {self.unit}",
            f"{self.records:,} records",
            f"{self.decompressed_bytes / 1e6:,.1f} MB",
            f"{self.records / seconds:,.0f} records a second",
            *self._requests_left(),
            *self._ahead(),
        ]
        return ", ".join(done)

    def _done(self) -> str:
        return f"{self.extent:,}" + ("" if self.total is None else f" of {self.total:,}")

    def _requests_left(self) -> Iterator[str]:
        left = self.quota.remaining(self.api)
        if left is not None:
            yield f"{left} requests left this hour"

    def _ahead(self) -> Iterator[str]:
        """What is still to come: a wait that is going on, and the time to the end, all waits in it."""
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
        """The counts, as fields of a structured log."""
        return {
            "stream_name": self.stream,
            f"{self.chunk_name}s": self.chunks,
            f"{self.unit}_done": self.extent,
            f"{self.unit}_in_all": self.total,
            "records": self.records,
            "bytes_received": self.received,
            "bytes_unpacked": self.decompressed_bytes,
            "bad_lines": self.rejected,
            "requests_left": self.quota.remaining(self.api),
            "seconds_waiting": round(self.quota.waiting),
        }


def counted(number: int, name: str) -> str:
    """Return a number with what it counts: `1 record`, `2 records`."""
    return f"{number:,} {name}" + ("" if number == 1 else "s")


def in_words(seconds: float) -> str:
    """Return a length of time in words, in whole minutes from two minutes on: `31 seconds`, `1 hour 2 minutes`."""
    whole = round(seconds)
    length = pendulum.duration(seconds=whole) if whole < SHORT else pendulum.duration(minutes=round(seconds / 60))
    return length.in_words() if whole else "0 seconds"
