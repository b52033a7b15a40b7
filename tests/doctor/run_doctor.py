"""Run the doctor in this process, where a test can set the clock and the regions' hosts."""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from tap_mixpanel_stream.doctor import examine
from tap_mixpanel_stream.mixpanel.clock import Clock
from tap_mixpanel_stream.tap import TapMixpanelStream
from tests.soak.in_process import signals_restored

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE = re.compile(r"(ok|warning|problem) +(\S+(?: \S+)*) {2,}(.*)")


@dataclass
class DoctorRun:
    """A finished run of the doctor.

    Attributes:
        code: The exit code.
        text: The report.
    """

    code: int
    text: str

    def lines(self, level: str) -> dict[str, str]:
        """Return the lines of a level by check, and check that no check has two lines."""
        split = [LINE.match(line) for line in self.text.splitlines()]
        found = [(match[2].strip(), match[3]) for match in split if match and match[1] == level]
        assert len(dict(found)) == len(found), self.text
        return dict(found)

    @property
    def problems(self) -> dict[str, str]:
        return self.lines("problem")

    @property
    def queries(self) -> int:
        told = re.search(r"Requests made: (\d+)", self.text)
        assert told, self.text
        return int(told[1])


class SkippingClock(Clock):
    """The real clock, except that sleeps are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0.0

    def now(self) -> dt.datetime:
        return super().now() + dt.timedelta(seconds=self._skipped)

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds


def run_doctor(
    config: Mapping[str, Any],
    *,
    clock: Clock | None = None,
    catalog: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
) -> DoctorRun:
    """Run the doctor with a configuration."""
    with tempfile.TemporaryFile("w+") as out, mock.patch("sys.stdout", out), signals_restored():
        tap = TapMixpanelStream(
            config=dict(config), catalog=dict(catalog) if catalog else None, state=dict(state) if state else None
        )
        tap.run.clock = clock or SkippingClock()
        code = examine(
            tap.run,
            tap.selected_streams,
            state_warnings=tap.state_warnings(),
            has_catalog=catalog is not None,
        )
        out.seek(0)
        return DoctorRun(code, out.read())
