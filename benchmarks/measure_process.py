"""Run a command and write its CPU time, wall time and memory to a JSON file.

    python measure_process.py REPORT LIMIT COMMAND...

This script must stay small and import little: the measured peak memory of a command cannot be below the memory of the
process that starts it.
"""
# ruff: noqa: PTH123, PTH208 - importing pathlib would take memory

import os
import signal
import sys
import time

# Interval between samples of the total memory, in seconds.
SAMPLE_INTERVAL = 0.1


def main() -> int:
    """Run the command and return its exit code."""
    report, limit, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    began = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ, setsigmask=[])
    total_memory = done = status = 0
    while not done:
        signal.sigtimedwait({signal.SIGCHLD}, SAMPLE_INTERVAL)
        done, status, usage = os.wait4(process, os.WNOHANG)
        total_memory = max(total_memory, memory_of(process_tree(process)))
        if time.monotonic() - began > float(limit):
            os.kill(process, signal.SIGKILL)
    wall = time.monotonic() - began
    cpu, largest = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    with open(report, "w") as file:
        file.write(f'{{"cpu":{cpu},"wall":{wall},"memory":{largest},"total_memory":{max(largest, total_memory)}}}')
    return os.waitstatus_to_exitcode(status) & 255


def process_tree(process: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    processes = [process]
    for member in processes:
        try:
            for thread in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{thread}/children") as file:
                    processes += map(int, file.read().split())
        except OSError:
            continue  # the process has ended
    return processes


def memory_of(processes: list[int]) -> int:
    """Return the total memory of several processes in bytes, with shared pages counted once; 0 for one process."""
    if len(processes) == 1:
        # The kernel already measures a single process. Sampling would only slow it down.
        return 0
    memory = 0
    for member in processes:
        try:
            with open(f"/proc/{member}/smaps_rollup") as file:
                memory += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
        except OSError:
            continue
    return memory


if __name__ == "__main__":
    sys.exit(main())
