"""Run the tap in this process with a fake clock, so that hours of waiting take no time."""

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
        stdout: The output.
        error: The error that ended the run, as the command would log it.
        requests: The number of requests.
        waited: Seconds waited for quota.
        warnings: Log messages of level WARNING and above.
    """

    stdout: bytes
    error: str | None
    requests: int
    waited: float
    warnings: list[str]

    def records(self, stream: str = "events") -> list[bytes]:
        """Return the records of a stream as bytes in order."""
        begin = b'{"type":"RECORD","stream":"%b","record":' % stream.encode()
        found = (line for line in self.stdout.split(b"\n") if line.startswith(begin))
        return [line.removeprefix(begin).rpartition(b',"time_extracted"')[0] for line in found]

    @property
    def lines(self) -> Counter[bytes]:
        """The events as bytes; raw ones are the exported lines."""
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
    """Run the tap to its end or to the error that the command would log."""
    error = None
    with (
        tempfile.TemporaryFile("w+") as out,
        mock.patch("sys.stdout", out),
        signals_restored(),
        _warnings() as messages,
    ):
        tap = TapMixpanelStream(
            config=dict(config), catalog=dict(catalog) if catalog else None, state=dict(state) if state else None
        )
        tap.run.clock = clock
        try:
            tap.sync_all()
        except USER_FACING_ERRORS as failure:
            error = str(failure)
        finally:
            tap.run.client.close()
        out.seek(0)
        stdout = bytes(out.buffer.read())
        result = Result(stdout, error, tap.run.quota.requests, tap.run.quota.waited, messages)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")], (
        "a thread is left after the run"
    )
    return result


@contextmanager
def _warnings() -> Iterator[list[str]]:
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        yield messages
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
