"""Writes to stdout: whole lines only, whatever interrupts the run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

# Seconds. A Ctrl-C ends the target as well, and may reach it first.
GRACE = 0.2

# Conventional: a process ended by signal N is seen by its parent's shell as 128 + N.
SIGNAL_BASE = 128


class Interrupted(SystemExit):
    """A signal ended the run. The exit code is 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNAL_BASE + number)
        self.signal = signal.Signals(number)


class TargetGoneError(Exception):
    """The process that reads stdout has closed it."""

    def __init__(self) -> None:
        super().__init__("the target closed the pipe before the run ended; its log has the reason")


class StdoutError(Exception):
    """stdout cannot be written, as a file on a full disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"stdout cannot be written: {error.strerror}; the last line may be truncated, "
            "the last complete STATE is still valid"
        )


class Stdout:
    """Writes blocks of whole lines, which no signal interrupts.

    A signal within a block is held until the block is written, so that stdout always ends in a whole line. A second
    signal ends the process at once: the target may never read on.
    """

    def __init__(self) -> None:
        self._writing = False
        self._held: int | None = None

    def interrupt(self, number: int) -> None:
        """Handle a signal: raise at once between blocks, or after the current block.

        Raises:
            Interrupted: At once, if no block is being written.
        """
        if not self._writing:
            raise Interrupted(number)
        if self._held is not None:
            os._exit(SIGNAL_BASE + number)
        self._held = number

    def write(self, lines: bytes) -> None:
        """Write whole lines to the last byte.

        Raises:
            TargetGoneError: The target has closed the pipe.
            StdoutError: They could not be written.
            Interrupted: A signal came while they were written.
        """
        self._writing = True
        try:
            _write_to_stdout(lines)
        except BrokenPipeError:
            # The signal that ended the target may be on its way to this process, too.
            time.sleep(GRACE)
            if self._held is None:
                raise TargetGoneError from None
        except OSError as error:
            raise StdoutError(error) from None
        finally:
            self._writing = False
        if self._held is not None:
            raise Interrupted(self._held)

    def check_reader(self) -> None:
        """Check that the target still reads, while there is nothing to write.

        Raises:
            TargetGoneError: The other end of the pipe is closed.
        """
        with contextlib.suppress(OSError, ValueError):  # no file behind stdout: nothing to notice
            poll = select.poll()
            poll.register(sys.stdout.fileno(), select.POLLERR)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                time.sleep(GRACE)
                raise TargetGoneError


def write_all(descriptor: int, block: bytes) -> None:
    """Write a block to a file descriptor to the last byte."""
    rest = memoryview(block)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Another process that shares a pipe may have made it non-blocking.
            select.select([], [descriptor], [])


def _write_to_stdout(lines: bytes) -> None:
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # stdout is an object in memory, as when the SDK's own tests capture it
        sys.stdout.write(lines.decode())
        return
    sys.stdout.flush()
    # Past Python's buffer: after a broken pipe nothing may be left in it, or the interpreter fails at exit.
    write_all(descriptor, lines)
