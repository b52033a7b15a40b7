"""Read the selected streams one after another, and report how the run ended.

If a stream fails, the run continues with the next one. It ends immediately after a failure that would affect all
streams: a signal, a target that has ended, a full disk, or credentials that Mixpanel rejects in the first request.
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

FATAL_ERRORS = (TargetGoneError, StdoutError, DiskError, SpoolError, BatchFileError)
"""Failures that would affect every other stream too."""


class StreamsFailedError(Exception):
    """Some streams failed. The message has one line for each, which is already in the log."""


# Errors whose message tells a user enough, without the exception's name and a traceback.
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
    """Reads streams and tracks their outcome.

    Attributes:
        done: The names of the streams that succeeded, including those without access.
        failed: The error messages of failed streams, by name.
    """

    def __init__(self, streams: Sequence[MixpanelStream], run: Run) -> None:
        """Prepare to read streams.

        Args:
            streams: The streams in the order of reading.
            run: The run.
        """
        self._streams = streams
        self._run = run
        self._began = run.clock.monotonic()
        self.done: list[str] = []
        self.failed: dict[str, str] = {}

    def read(self) -> None:
        """Read all streams.

        Raises:
            StreamsFailedError: Some streams failed, and all others were read.
            Exception: A failure ended the run immediately.
        """
        for stream in self._streams:
            try:
                stream.sync()
            except Exception as error:
                if self._is_fatal(error):
                    raise
                self.failed[stream.name] = _error_line(error, stream.name)
                self._run.log.error("%s", self.failed[stream.name], extra={"stream_name": stream.name})  # noqa: TRY400
                self._run.log.debug("traceback", exc_info=True)
                self._run.reset_after_failure()
            else:
                self.done.append(stream.name)
        if self.failed:
            raise StreamsFailedError("\n".join(self.failed.values()))

    def _is_fatal(self, error: Exception) -> bool:
        # If an earlier request succeeded, the credentials are valid, and Mixpanel rejects them for this stream only.
        has_access = self.done or any(stream.progress.chunks for stream in self._streams)
        has_invalid_credentials = isinstance(error, Refused) and error.kind == "credentials" and not has_access
        return has_invalid_credentials or isinstance(error, FATAL_ERRORS)

    def log_summary(self, exit_code: int, error: BaseException | None = None) -> None:
        """Log the outcome of the run in one line, with the reason if it failed. Meltano shows only the last line.

        Args:
            exit_code: The exit code of the command.
            error: The error that ended the run, if any.
        """
        unfinished = [stream.name for stream in self._streams if stream.name not in {*self.done, *self.failed}]
        records = sum(stream.progress.records for stream in self._streams)
        seconds = self._run.clock.monotonic() - self._began
        without_access = [stream.name for stream in self._streams if stream.is_without_access]
        streams = {
            "done": [name for name in self.done if name not in without_access],
            "without access": without_access,
            "failed": list(self.failed),
            "not finished": unfinished,
        }
        counts = [f"{len(names)} {outcome} ({', '.join(names)})" for outcome, names in streams.items() if names]
        self._run.log.info(
            "run: streams %s; %s in %.0f s; exit code %d%s",
            ", ".join(counts),
            with_count(records, "record"),
            seconds,
            exit_code,
            f": {reason_of(error)}" if error else "",
            extra={
                "streams_done": self.done,
                "streams_without_access": without_access,
                "streams_failed": list(self.failed),
                "streams_not_finished": unfinished,
                "records": records,
                "seconds": round(seconds, 1),
                "exit_code": exit_code,
            },
        )


def log_error(error: BaseException, log: logging.Logger) -> int:
    """Log in one line why the command ends, and return its exit code."""
    if isinstance(error, Interrupted):
        log.warning("%s; the next run continues from the last state", reason_of(error))
        return SIGNAL_BASE + error.signal
    if not isinstance(error, StreamsFailedError):
        log.error("%s", reason_of(error))
        log.debug("traceback", exc_info=error)
    return 1


def reason_of(error: BaseException) -> str:
    """Return in one line why a run ended. If several streams failed, this is the error of the first."""
    if isinstance(error, Interrupted):
        return f"interrupted by {error.signal.name}"
    return _error_line(error).partition("\n")[0]


def _error_line(error: BaseException, stream: str = "") -> str:
    is_expected = isinstance(error, USER_FACING_ERRORS)
    text = (
        str(error)
        if is_expected
        else f"unexpected {type(error).__name__}: {error} (LOGLEVEL=DEBUG shows the traceback)"
    )
    return text if text.startswith(stream) else f"{stream}: {text}"
