from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.processes import MIB, RunFailedError, cpu_until_output, run, run_pipeline

if TYPE_CHECKING:
    from pathlib import Path

ALLOCATE_60_MIB = "data = bytearray(b'x') * (60 << 20); import time; time.sleep(1)"
BURN_CPU = "import time\nwhile time.process_time() < 0.5: pass\n"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def twice(program: str) -> list[str]:
    """Return a command that runs a program in two processes at once."""
    return python(
        "import subprocess, sys\n"
        f"both = [subprocess.Popen([sys.executable, '-c', {program!r}]) for _ in range(2)]\n"
        "for one in both: one.wait()\n"
    )


def test_memory_of_one_process() -> None:
    """The memory of a single process is the total memory."""
    cost = run(python(ALLOCATE_60_MIB))
    assert 60 * MIB < cost.memory < 90 * MIB
    assert cost.total_memory == cost.memory


def test_memory_of_several_processes() -> None:
    """The total memory and that of the largest process are measured."""
    cost = run(twice(ALLOCATE_60_MIB))
    assert 60 * MIB < cost.memory < 90 * MIB
    assert 120 * MIB < cost.total_memory < 180 * MIB


def test_cpu_of_all_processes_is_added() -> None:
    """CPU time of all processes is added."""
    assert run(twice(BURN_CPU)).cpu >= 1


def test_output_goes_to_the_file(tmp_path: Path) -> None:
    """The output is written to the given file."""
    run(python("print('said')"), output=tmp_path / "output")
    assert (tmp_path / "output").read_text() == "said\n"


def test_a_failure_has_the_last_line_of_stderr() -> None:
    """The error of a failed command has its exit code and last line."""
    with pytest.raises(RunFailedError, match=r"failed with exit code 3: it went wrong$"):
        run(python("import sys; print('it went wrong', file=sys.stderr); sys.exit(3)"))


def test_a_command_over_its_time_limit_is_killed() -> None:
    """A command over its time limit is killed and fails."""
    began = time.monotonic()
    with pytest.raises(RunFailedError):
        run(python("import time; time.sleep(600)"), limit=1)
    assert time.monotonic() - began < 300


def test_commands_get_no_settings_or_proxies(tmp_path: Path) -> None:
    """Settings and proxies of the environment are not passed to a command."""
    names = "print([name for name in os.environ if name.startswith('TAP_') or name.lower().endswith('_proxy')])"
    run(python(f"import os; {names}"), output=tmp_path / "output")
    assert (tmp_path / "output").read_text() == "['NO_PROXY']\n"


def test_start_up_is_measured_to_its_last_line() -> None:
    """Start-up CPU time is measured up to the given line."""
    early = python(f"print('BEGIN', flush=True)\n{BURN_CPU}")
    late = python(f"{BURN_CPU}print('BEGIN', flush=True)")
    assert cpu_until_output((b"BEGIN",), early) < 0.5 <= cpu_until_output((b"BEGIN",), late)


def test_start_up_without_its_line_fails() -> None:
    """Start-up that never prints its line is an error."""
    with pytest.raises(RunFailedError, match="BEGIN"):
        cpu_until_output((b"BEGIN",), python("print('END')"))


def test_both_ends_of_a_pipeline_are_measured() -> None:
    """CPU time is measured for each end; the duration is that of the slower one."""
    waiting = python("import sys; sys.exit(sys.stdin.read() != 'x\\n')")
    source, sink = run_pipeline(python(f"{BURN_CPU}print('x')"), waiting)
    assert source.cpu >= 0.5 > sink.cpu
    assert sink.wall >= 0.5


def test_a_pipeline_with_a_failed_sink_fails() -> None:
    """A failed sink is an error even if the source succeeds."""
    with pytest.raises(RunFailedError, match="failed with exit code 3"):
        run_pipeline(python("print('x')"), python("import sys; sys.stdin.read(); sys.exit(3)"))
