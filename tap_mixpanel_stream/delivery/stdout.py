"""Write to stdout in whole lines, even if a signal interrupts the run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

# Seconds to wait for a signal after the pipe broke. Ctrl-C reaches the target too, perhaps before this process.
SIGNAL_GRACE = 0.2

# Shells report a process that was ended by signal N with exit code 128 + N.
SIGNAL_BASE = 128


class Interrupted(SystemExit):
    """A signal ended the run. The exit code is 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(SIGNAL_BASE + number)
        self.signal = signal.Signals(number)


class TargetGoneError(Exception):
    """The target has closed its end of the pipe."""

    def __init__(self) -> None:
        super().__init__("the target closed the pipe before the run ended; its log has the reason")


class StdoutError(Exception):
    """stdout cannot be written, such as a file on a full disk."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"stdout cannot be written: {error.strerror}; the last line may be truncated, "
            "the last complete STATE is still valid"
        )


class Stdout:
    """Writes blocks of whole lines that no signal interrupts.

    A signal that arrives while a block is written is deferred until the block is complete, so that stdout always ends
    with a whole line. A second signal ends the process immediately, since the target may have stopped reading.
    """

    def __init__(self) -> None:
        self._is_writing = False
        self._deferred_signal: int | None = None

    def interrupt(self, number: int) -> None:
        """Handle a signal: raise immediately between blocks, or defer it to the end of the current block.

        Raises:
            Interrupted: No block is being written.
        """
        if not self._is_writing:
            raise Interrupted(number)
        if self._deferred_signal is not None:
            os._exit(SIGNAL_BASE + number)
        self._deferred_signal = number

    def write(self, lines: bytes) -> None:
        """Write whole lines completely.

        Raises:
            TargetGoneError: The target has closed the pipe.
            StdoutError: The lines cannot be written.
            Interrupted: A signal arrived while the lines were written.
        """
        self._is_writing = True
        try:
            _write_to_stdout(lines)
        except BrokenPipeError:
            # The signal that ended the target may also reach this process.
            time.sleep(SIGNAL_GRACE)
            if self._deferred_signal is None:
                raise TargetGoneError from None
        except OSError as error:
            raise StdoutError(error) from None
        finally:
            self._is_writing = False
        if self._deferred_signal is not None:
            raise Interrupted(self._deferred_signal)

    def check_reader(self) -> None:
        """Check that the target has not closed the pipe. For use while there is nothing to write.

        Raises:
            TargetGoneError: The target has closed the pipe.
        """
        with contextlib.suppress(OSError, ValueError):  # stdout can be an object in memory, without a descriptor.
            poll = select.poll()
            poll.register(sys.stdout.fileno(), select.POLLERR)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                time.sleep(SIGNAL_GRACE)
                raise TargetGoneError


def write_all(descriptor: int, block: bytes) -> None:
    """Write a block to a file descriptor completely."""
    rest = memoryview(block)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Another process that shares the pipe may have made it non-blocking.
            select.select([], [descriptor], [])


def _write_to_stdout(lines: bytes) -> None:
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # stdout is an object in memory, such as in the SDK's tests.
        sys.stdout.write(lines.decode())
        return
    sys.stdout.flush()
    # Bypass Python's buffer: if anything is left in it after a broken pipe, the interpreter fails at exit.
    write_all(descriptor, lines)
