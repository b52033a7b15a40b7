"""Start-up is fast and imports only what a run needs."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

from tests.harness import TAP

CPU_SECONDS = 0.5
"""Maximum CPU time of discovery. It is measured several times, because the machine may be busy."""


def test_discovery_takes_less_than_half_a_cpu_second() -> None:
    """Most of it is the SDK's imports; garbage collection during them would add to it."""

    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([TAP, "--discover"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    costs = (cost() for _ in range(5))
    assert any(seconds < CPU_SECONDS for seconds in costs)


def test_optional_modules_are_not_imported() -> None:
    """The doctor, the progress bar and the emulator are not imported by the tap."""
    program = "import json, sys, tap_mixpanel_stream.tap; print(json.dumps([*sys.modules]))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
    few = ("tap_mixpanel_stream.doctor", "tap_mixpanel_stream.emulator", "tqdm", "matplotlib", "hypothesis", "pytest")
    assert [name for name in loaded if name.startswith(few)] == []
