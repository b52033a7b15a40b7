"""A fault in one request, or in all requests from one on, and its outcome in the terms of docs/errors.md."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tap_mixpanel_stream.emulator import Emulator, Fault, SyntheticProject
from tests.harness import catalog_of, run_tap
from tests.mixpanel.fake_clock import FakeClock
from tests.soak.in_process import Result, run_here

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = dt.date(2024, 1, 1)
# The number that Mixpanel allows in a second: a fourth request would wait.
DAYS = PAGES = 3

# Pauses are longer than the tap's timeout, and sizes exceed the tap's limits.
VALUES: Mapping[str, object] = {
    "stall": 2.5,
    "silence": 2.5,
    "trickle": 0.5,
    "redirect": "http://127.0.0.1:9/elsewhere",
    "endless-line": 40 << 20,
    "bomb": 1 << 40,
}
SETTINGS = {"request_timeout": 30, "window_days": 1, "concurrent_exports": 1}
DATES = {"project_timezone": "UTC", "start_date": str(FIRST), "end_date": str(FIRST + dt.timedelta(days=DAYS - 1))}


@dataclass
class Case:
    """A fault and the request_name where it occurs, chosen at random and the same for the same seed."""

    name: str
    kind: str
    seed: int = 0
    raw: bool = False
    value: object = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = random.Random(f"{self.seed}/{self.kind}/{self.name}")
        # A session cannot expire before its first page.
        earliest = 2 if self.name == "session-expired" else 1
        self.number = rng.randint(earliest, DAYS if self.kind == "export" else PAGES)
        self.at = rng.uniform(0.1, 0.9)
        self.value = self.value or VALUES.get(self.name)

    @property
    def stream(self) -> str:
        return "events" if self.kind == "export" else "profiles"

    @property
    def request_name(self) -> str:
        """The tap's name of the faulty request."""
        if self.kind == "engage":
            return f"profiles page {self.number - 1}:"
        return f"events {FIRST + dt.timedelta(days=self.number - 1)}:"

    @property
    def settings(self) -> dict[str, Any]:
        silent = {"request_timeout": 1} if self.name in {"stall", "silence"} else {}
        return {**SETTINGS, **(DATES if self.kind == "export" else {}), **silent, "raw": self.raw, **self.extra}

    @property
    def catalog(self) -> dict[str, Any]:
        return _catalog(self.stream, self.raw)

    @property
    def rejected_lines(self) -> list[bytes]:
        """The lines in the file of malformed lines."""
        path = self.extra.get("bad_lines_path")
        return Path(path).read_bytes().splitlines() if path and Path(path).exists() else []

    def once(self) -> str:
        """Run in this process with the fault in one request, and return the outcome."""
        with emulator(Fault(self.kind, self.number, self.name, self.at, self.value)) as mixpanel:
            clock = FakeClock(dt.datetime.now(dt.UTC))
            result = run_here(mixpanel.settings | self.settings, clock, catalog=self.catalog)
        requests = _requests_by_name(mixpanel)
        return self.outcome(result.records(self.stream), result.error, result.state, requests, result)

    def always(self) -> str:
        """Run the installed command with the fault in all requests from one on, and return the outcome."""
        fault = Fault(self.kind, range(self.number, 999), self.name, self.at, self.value)
        with emulator(fault) as mixpanel:
            run = run_tap(mixpanel.settings | self.settings, catalog=self.catalog)
        assert run.exit_code == (1 if run.errors else 0), run.stderr
        assert len(run.errors) <= 1
        assert not any("Traceback" in line for line in run.stderr)
        state = run.states[-1] if run.states else None
        error = run.errors[0] if run.errors else None
        written = Result(run.stdout, error, 0, 0, run.problems)
        return self.outcome(written.records(self.stream), error, state, _requests_by_name(mixpanel), written)

    def outcome(
        self,
        records: list[bytes],
        error: str | None,
        state: Mapping[str, Any] | None,
        requests_made: Counter[str],
        result: Result,
    ) -> str:
        """Return the outcome in the page's terms, and check that no partial window or page was delivered."""
        parts = _parts(self.stream, self.raw)
        if error is None:
            return self._outcome_of_success(parts, Counter(records), requests_made, result)
        whole = [record for part in parts[: self.number - 1] for record in part]
        assert records == whole, "only the windows before the faulty one are delivered"
        # An expired or short session is requested again from its first page.
        is_read_again = self.name in {"session-expired", "short-page"}
        assert error.startswith("profiles page 0:" if is_read_again else self.request_name), error
        assert "\n" not in error
        if self.kind == "export":
            assert _bookmark(state) == (str(FIRST + dt.timedelta(days=self.number - 1)) if whole else None)
        return f"fails: {error}"

    def _outcome_of_success(
        self, parts: list[list[bytes]], records: Counter[bytes], requests_made: Counter[str], result: Result
    ) -> str:
        expected = Counter(record for part in parts for record in part)
        missing, more = expected - records, records - expected
        tries = requests_made[self.request_name] - 1
        if self.rejected_lines:
            assert (tries, more.total(), len(self.rejected_lines)) == (0, 0, 1)
            assert any("1 malformed lines written to" in warning for warning in result.warnings), (
                "the summary reports it"
            )
            return "written to the file"
        if missing.total() > more.total():
            assert not more, "no record is wrong"
            return "undetected"
        assert missing or not more, "no record is delivered twice"
        faulty = len(parts) - self.number + 1
        assert missing.total() == more.total() <= faulty, "only the faulty lines differ"
        if not tries:
            return "delivered"
        assert (tries, missing.total()) == (1, 0)
        if result.waited:
            return "waits"
        assert any(warning.startswith(self.request_name) for warning in result.warnings), "the retry is logged"
        return "retried"


def emulator(*faults: Fault) -> Emulator:
    """Return an emulator with three days of events and three pages of profiles."""
    return Emulator(project(), faults=faults, max_page_size=10)


def project() -> SyntheticProject:
    last = FIRST + dt.timedelta(days=DAYS - 1)
    return SyntheticProject(first_day=FIRST, last_day=last, events_per_day=40, profiles=PAGES * 10 - 5)


@cache
def _catalog(stream: str, raw: bool) -> dict[str, Any]:
    return catalog_of(stream, raw=raw)


@cache
def _parts(stream: str, raw: bool) -> list[list[bytes]]:
    """Return the records of a run without a fault, by window or page."""
    case = Case("bom", "export" if stream == "events" else "engage", raw=raw)
    with emulator() as mixpanel:
        result = run_here(mixpanel.settings | case.settings, FakeClock(), catalog=case.catalog)
    assert result.error is None
    records = result.records(stream)
    size = 10 if stream == "profiles" else len(records) // DAYS
    return [records[start : start + size] for start in range(0, len(records), size)]


def _requests_by_name(mixpanel: Emulator) -> Counter[str]:
    return Counter(
        f"profiles page {seen.form.get('page', 0)}:" if seen.kind == "engage" else f"events {seen.query['from_date']}:"
        for seen in mixpanel.requests
    )


def _bookmark(state: Mapping[str, Any] | None) -> str | None:
    text = ((state or {}).get("bookmarks") or {}).get("events", {}).get("replication_key_value")
    return text and str(text)[:10]
