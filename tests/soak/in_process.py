"""Runs the tap in this process, with a clock that the test turns: hours of waiting take no time."""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from tap_mixpanel_stream.tap import TELLING_ERRORS, TapMixpanelStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_mixpanel_stream.mixpanel.clock import Clock

BEGIN = b'{"type":"RECORD","stream":"events","record":'


@dataclass
class Result:
    """A run in this process.

    Attributes:
        stdout: All of it.
        error: What ended the run before its end, as the command would say it.
        requests: How many requests it made.
        waited: Seconds it waited for quota.
    """

    stdout: bytes
    error: str | None
    requests: int
    waited: float

    @property
    def lines(self) -> Counter[bytes]:
        """The raw events, as they came."""
        found = (line for line in self.stdout.split(b"\n") if line.startswith(BEGIN))
        return Counter(line.removeprefix(BEGIN).rpartition(b',"time_extracted"')[0] for line in found)

    @property
    def state(self) -> dict[str, Any] | None:
        """The last state."""
        states = [line for line in self.stdout.split(b"\n") if line.startswith(b'{"type":"STATE"')]
        return json.loads(states[-1])["value"] if states else None


def run_here(
    config: Mapping[str, Any],
    clock: Clock,
    *,
    catalog: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> Result:
    """Run the tap to its end, or to the error that the command would show."""
    error = None
    with tempfile.TemporaryFile("w+") as out, mock.patch("sys.stdout", out), signals_restored():
        tap = TapMixpanelStream(
            config=dict(config), catalog=dict(catalog) if catalog else None, state=dict(state) if state else None
        )
        tap.clock = clock
        try:
            tap.sync_all()
        except TELLING_ERRORS as telling:
            error = str(telling)
        finally:
            tap.client.close()
        out.seek(0)
        stdout = bytes(out.buffer.read())
        result = Result(stdout, error, tap.quota.requests, tap.quota.waited)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")], (
        "a thread outlived the run"
    )
    return result


@contextmanager
def signals_restored() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
