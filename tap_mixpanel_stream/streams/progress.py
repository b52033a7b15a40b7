"""Progress: what a stream has delivered, for who waits for it. A bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator
    from types import TracebackType

    from tqdm import tqdm

    from ..delivery.portion import Portion
    from ..mixpanel.clock import Clock
    from ..mixpanel.quota import Quota

SECONDS = 30
"""How often a log hears of a stream under way."""

MOST_SECONDS = 600
"""How often at least, while nothing new arrives: each such line waits twice as long as the one before."""


@dataclass(kw_only=True)
class Progress:
    r"""What a stream has delivered so far. A context manager: it shows from entering to leaving.

    Attributes:
        stream: The stream's name.
        portion_name: What its portions are called.
        unit: What the extent of a portion is counted in.
        bookmark_from: The stream's bookmark before the run.
        clock: The run's clock.
        quota: The run's account of requests.
        log: Where lines go to.
        total: The extent of all that is to come, once it is known.
        extent: Days or profiles delivered.
        portions: Windows or pages delivered.
        records: Records delivered.
        received: Bytes of the answers as sent.
        unpacked: Bytes of the answers, unpacked.
        set_aside: Lines set aside.
        nuls: `\u0000` taken out.
    """

    stream: str
    portion_name: str
    unit: str
    bookmark_from: str | None
    clock: Clock
    quota: Quota
    log: logging.Logger
    total: int | None = None
    extent: int = 0
    portions: int = 0
    records: int = 0
    received: int = 0
    unpacked: int = 0
    set_aside: int = 0
    nuls: int = 0
    _began: float = field(init=False)
    _said: float = field(init=False)
    _said_of: int = 0
    _pause: float = SECONDS
    _requests_before: int = field(init=False)
    _waited_before: float = field(init=False)
    _bar: tqdm[Any] | None = None
    _ends: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self._began = self._said = self.clock.monotonic()
        self._requests_before, self._waited_before = self.quota.requests, self.quota.waited
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

        with (
            logging_redirect_tqdm(),
            tqdm(desc=self.stream, unit=f" {self.unit}", file=sys.stderr, dynamic_ncols=True, leave=False) as self._bar,
        ):
            yield
        self._bar = None

    def add(self, portion: Portion) -> None:
        """Count a portion that is out."""
        self.portions += 1
        self.extent += portion.extent
        self.records += portion.records
        self.received += portion.received
        self.unpacked += portion.unpacked
        self.set_aside += portion.set_aside
        self.nuls += portion.nuls
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(portion.extent)
        self.tick()

    def tick(self) -> None:
        """Show it, if it is time to. To be called now and then, also while nothing arrives."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self.records:,} records, {self.quota.left} requests left")
            return
        now = self.clock.monotonic()
        if now - self._said >= (SECONDS if self.portions > self._said_of else self._pause):
            self._pause = SECONDS if self.portions > self._said_of else min(2 * self._pause, MOST_SECONDS)
            self._said, self._said_of = now, self.portions
            self.log.info("%s", self._so_far(now - self._began), extra=self._fields())

    def sum_up(self, bookmark_to: str | None) -> None:
        """Say in the end what was delivered, and what it took.

        Args:
            bookmark_to: The stream's bookmark now.
        """
        requests = self.quota.requests - self._requests_before
        waited = self.quota.waited - self._waited_before
        text = (
            f"{self.records:,} records in {_counted(self.portions, self.portion_name)}, "
            f"{self.unpacked / 1e6:,.1f} MB ({self.received / 1e6:,.1f} MB sent), "
            f"{_counted(requests, 'request')}, {waited:.0f} s waited for quota, "
            f"{_counted(self.set_aside, 'bad line')}"
        )
        if bookmark_to:
            text += f"; bookmark from {self.bookmark_from or 'none'} to {bookmark_to}"
        took = {"requests": requests, "seconds_waited": waited}
        bookmarks = {"bookmark_from": self.bookmark_from, "bookmark_to": bookmark_to}
        self.log.info("%s", text, extra=self._fields() | took | bookmarks)

    def _so_far(self, seconds: float) -> str:
        done = f"{self.extent:,}" + ("" if self.total is None else f" of {self.total:,}")
        text = f"{done} {self.unit}, {self.records:,} records, {self.unpacked / 1e6:,.1f} MB"
        text += f", {self.records / seconds:,.0f} records a second, {self.quota.left} requests left this hour"
        if self.total and self.extent:
            left = timedelta(seconds=round(seconds * (self.total - self.extent) / self.extent))
            text += f", about {left} to go"
        return text

    def _fields(self) -> dict[str, object]:
        """The counts, as fields of a structured log."""
        return {
            "stream_name": self.stream,
            f"{self.portion_name}s": self.portions,
            f"{self.unit}_done": self.extent,
            f"{self.unit}_in_all": self.total,
            "records": self.records,
            "bytes_received": self.received,
            "bytes_unpacked": self.unpacked,
            "bad_lines": self.set_aside,
            "requests_left": self.quota.left,
        }


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}" + ("" if number == 1 else "s")
