from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.processes import MIB, RunFailedError, cpu_until, run, run_pipeline

if TYPE_CHECKING:
    from pathlib import Path

HOLDING = "data = bytearray(b'x') * (60 << 20); import time; time.sleep(1)"
BURNING = "import time\nwhile time.process_time() < 0.5: pass\n"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def twice(program: str) -> list[str]:
    """Run a program in two processes at once, which a third one starts."""
    return python(
        "import subprocess, sys\n"
        f"both = [subprocess.Popen([sys.executable, '-c', {program!r}]) for _ in range(2)]\n"
        "for one in both: one.wait()\n"
    )


def test_the_memory_of_one_process_is_all_the_memory() -> None:
    cost = run(python(HOLDING))
    assert 60 * MIB < cost.memory < 90 * MIB
    assert cost.together == cost.memory


def test_the_memory_of_several_processes_is_added_up_beside_that_of_the_largest() -> None:
    cost = run(twice(HOLDING))
    assert 60 * MIB < cost.memory < 90 * MIB
    assert 120 * MIB < cost.together < 180 * MIB


def test_the_cpu_of_all_processes_counts() -> None:
    assert run(twice(BURNING)).cpu >= 1


def test_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    run(python("print('said')"), output=tmp_path / "output")
    assert (tmp_path / "output").read_text() == "said\n"


def test_a_failure_says_what_the_command_said_last() -> None:
    with pytest.raises(RunFailedError, match=r"ended with 3: it went wrong$"):
        run(python("import sys; print('it went wrong', file=sys.stderr); sys.exit(3)"))


def test_a_command_that_does_not_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(RunFailedError):
        run(python("import time; time.sleep(600)"), limit=1)
    assert time.monotonic() - began < 300


def test_settings_and_proxies_of_the_surroundings_do_not_reach_a_command(tmp_path: Path) -> None:
    names = "print([name for name in os.environ if name.startswith('TAP_') or name.lower().endswith('_proxy')])"
    run(python(f"import os; {names}"), output=tmp_path / "output")
    assert (tmp_path / "output").read_text() == "['NO_PROXY']\n"


def test_start_up_is_measured_to_the_line_that_ends_it() -> None:
    early = python(f"print('BEGIN', flush=True)\n{BURNING}")
    late = python(f"{BURNING}print('BEGIN', flush=True)")
    assert cpu_until((b"BEGIN",), early) < 0.5 <= cpu_until((b"BEGIN",), late)


def test_start_up_without_its_line_is_a_failure() -> None:
    with pytest.raises(RunFailedError, match="BEGIN"):
        cpu_until((b"BEGIN",), python("print('END')"))


def test_a_pipeline_is_measured_end_by_end() -> None:
    """The CPU of each end is its own, and the time is that of the slower one."""
    waiting = python("import sys; sys.exit(sys.stdin.read() != 'x\\n')")
    source, sink = run_pipeline(python(f"{BURNING}print('x')"), waiting)
    assert source.cpu >= 0.5 > sink.cpu
    assert sink.wall >= 0.5


def test_a_pipeline_whose_sink_fails_is_a_failure() -> None:
    """Also where the source ends well."""
    with pytest.raises(RunFailedError, match="ended with 3"):
        run_pipeline(python("print('x')"), python("import sys; sys.stdin.read(); sys.exit(3)"))
