"""Reads the selected streams one after another, and says how the run ended.

A failure of one stream leaves the others to be read. What would stop them as well ends the run at once: a signal, a
target that is gone, a disk that takes no more, and credentials that Mixpanel refuses before it has answered anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .delivery.batches import BatchFileError
from .delivery.spool import SpoolError
from .delivery.stdout import SIGNAL_BASE, Interrupted, StdoutError, TargetGoneError
from .mixpanel.errors import MixpanelError, Refused
from .pipeline.errors import DiskError, StreamError
from .settings import SettingsError
from .streams.progress import with_count

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from .run import Run
    from .streams.base import MixpanelStream

ENDS_THE_RUN = (TargetGoneError, StdoutError, DiskError, SpoolError, BatchFileError)
"""Failures that would meet every other stream, too."""


class StreamsFailedError(Exception):
    """Some streams failed. Each is in the log; the message has a line for each."""


# Errors whose message is all that a user needs.
USER_FACING_ERRORS = (
    SettingsError,
    StreamError,
    MixpanelError,
    SpoolError,
    BatchFileError,
    StdoutError,
    TargetGoneError,
    StreamsFailedError,
)


class Sync:
    """Reads streams, and counts how that went.

    Attributes:
        done: The streams that were read to their end, or that Mixpanel withholds.
        failed: Those that were not, each with its error's line.
    """

    def __init__(self, streams: Sequence[MixpanelStream], run: Run) -> None:
        """Reads nothing yet.

        Args:
            streams: The streams, in the order in which to read them.
            run: What they share.
        """
        self._streams = streams
        self._run = run
        self._began = run.clock.monotonic()
        self.done: list[str] = []
        self.failed: dict[str, str] = {}

    def read(self) -> None:
        """Read all streams.

        Raises:
            StreamsFailedError: All others were read.
            Exception: What ended the run at once.
        """
        for stream in self._streams:
            try:
                stream.sync()
            except Exception as error:
                if self._ends_the_run(error):
                    raise
                self.failed[stream.name] = _line(error, stream.name)
                self._run.log.error("%s", self.failed[stream.name], extra={"stream_name": stream.name})  # noqa: TRY400
                self._run.log.debug("traceback", exc_info=True)
                self._run.renew()
            else:
                self.done.append(stream.name)
        if self.failed:
            raise StreamsFailedError("\n".join(self.failed.values()))

    def _ends_the_run(self, error: Exception) -> bool:
        # Once Mixpanel has answered anything, it is one stream that these credentials cannot read.
        is_let_in = self.done or any(stream.progress.chunks for stream in self._streams)
        is_shut_out = isinstance(error, Refused) and error.kind == "credentials" and not is_let_in
        return is_shut_out or isinstance(error, ENDS_THE_RUN)

    def sum_up(self, exit_code: int, error: BaseException | None = None) -> None:
        """Say in one last line how the run went, and why it failed: some callers show no other line, as Meltano does.

        Args:
            exit_code: The command's.
            error: What the run ended with, if not well.
        """
        left = [stream.name for stream in self._streams if stream.name not in {*self.done, *self.failed}]
        records = sum(stream.progress.records for stream in self._streams)
        seconds = self._run.clock.monotonic() - self._began
        withheld = [stream.name for stream in self._streams if stream.is_without_access]
        streams = {
            "done": [name for name in self.done if name not in withheld],
            "without access": withheld,
            "failed": list(self.failed),
            "not finished": left,
        }
        counts = [f"{len(names)} {how} ({', '.join(names)})" for how, names in streams.items() if names]
        self._run.log.info(
            "run: streams %s; %s in %.0f s; exit code %d%s",
            ", ".join(counts),
            with_count(records, "record"),
            seconds,
            exit_code,
            f": {reason_of(error)}" if error else "",
            extra={
                "streams_done": self.done,
                "streams_without_access": withheld,
                "streams_failed": list(self.failed),
                "streams_not_finished": left,
                "records": records,
                "seconds": round(seconds, 1),
                "exit_code": exit_code,
            },
        )


def tell(error: BaseException, log: logging.Logger) -> int:
    """Say in one line why the command ends, and return its exit code."""
    if isinstance(error, Interrupted):
        log.warning("%s; the next run continues from the last state", reason_of(error))
        return SIGNAL_BASE + error.signal
    if not isinstance(error, StreamsFailedError):
        log.error("%s", reason_of(error))
        log.debug("traceback", exc_info=error)
    return 1


def reason_of(error: BaseException) -> str:
    """Return why a run ended, in one line; of several streams that failed, the first one's."""
    if isinstance(error, Interrupted):
        return f"interrupted by {error.signal.name}"
    return _line(error).partition("\n")[0]


def _line(error: BaseException, stream: str = "") -> str:
    telling = isinstance(error, USER_FACING_ERRORS)
    text = str(error) if telling else f"unexpected {type(error).__name__}: {error} (LOGLEVEL=DEBUG shows the traceback)"
    return text if text.startswith(stream) else f"{stream}: {text}"
