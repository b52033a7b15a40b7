"""Runs a command in a process as small as can be, and writes down what it took.

    python measured.py REPORT LIMIT COMMAND...

On its own, without the rest of the package: what this process holds would be counted as the command's memory.
"""
# ruff: noqa: PTH123, PTH208 - for the same reason pathlib is not imported

import os
import signal
import sys
import time

# How often the memory of several processes is added up, in seconds.
PAUSE = 0.1


def main() -> int:
    """Run the command; return its exit code."""
    report, limit, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    began = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ, setsigmask=[])
    together = done = status = 0
    while not done:
        signal.sigtimedwait({signal.SIGCHLD}, PAUSE)
        done, status, usage = os.wait4(process, os.WNOHANG)
        together = max(together, memory_of(family_of(process)))
        if time.monotonic() - began > float(limit):
            os.kill(process, signal.SIGKILL)
    wall = time.monotonic() - began
    cpu, largest = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    with open(report, "w") as file:
        file.write(f'{{"cpu":{cpu},"wall":{wall},"memory":{largest},"together":{max(largest, together)}}}')
    return os.waitstatus_to_exitcode(status) & 255


def family_of(process: int) -> list[int]:
    """Return a process and all that it has started, directly or not."""
    family = [process]
    for member in family:
        try:
            for thread in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{thread}/children") as file:
                    family += map(int, file.read().split())
        except OSError:
            continue  # it has just ended
    return family


def memory_of(family: list[int]) -> int:
    """Return the bytes that several processes hold, what they share counted once; 0 for a single one."""
    if len(family) == 1:
        # Nothing to add up, and looking would slow it down.
        return 0
    held = 0
    for member in family:
        try:
            with open(f"/proc/{member}/smaps_rollup") as file:
                held += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
        except OSError:
            continue
    return held


if __name__ == "__main__":
    sys.exit(main())
