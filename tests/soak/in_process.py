"""Runs the tap in this process, with a clock that the test turns: hours of waiting take no time."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from tap_mixpanel_stream.sync import USER_FACING_ERRORS
from tap_mixpanel_stream.tap import TapMixpanelStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tap_mixpanel_stream.mixpanel.clock import Clock


@dataclass
class Result:
    """A run in this process.

    Attributes:
        stdout: All of it.
        error: What ended the run before its end, as the command would say it.
        requests: How many requests it made.
        waited: Seconds it waited for quota.
        warnings: What the log said of level WARNING and above.
    """

    stdout: bytes
    error: str | None
    requests: int
    waited: float
    warnings: list[str]

    def records(self, stream: str = "events") -> list[bytes]:
        """The records of a stream as they were written, in their order."""
        begin = b'{"type":"RECORD","stream":"%b","record":' % stream.encode()
        found = (line for line in self.stdout.split(b"\n") if line.startswith(begin))
        return [line.removeprefix(begin).rpartition(b',"time_extracted"')[0] for line in found]

    @property
    def lines(self) -> Counter[bytes]:
        """The events as they were written; raw ones are the lines as they came."""
        return Counter(self.records())

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
    with tempfile.TemporaryFile("w+") as out, mock.patch("sys.stdout", out), signals_restored(), _warnings() as said:
        tap = TapMixpanelStream(
            config=dict(config), catalog=dict(catalog) if catalog else None, state=dict(state) if state else None
        )
        tap.run.clock = clock
        try:
            tap.sync_all()
        except USER_FACING_ERRORS as telling:
            error = str(telling)
        finally:
            tap.run.client.close()
        out.seek(0)
        stdout = bytes(out.buffer.read())
        result = Result(stdout, error, tap.run.quota.requests, tap.run.quota.waited, said)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")], (
        "a thread outlived the run"
    )
    return result


@contextmanager
def _warnings() -> Iterator[list[str]]:
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(listener)


@contextmanager
def signals_restored() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
