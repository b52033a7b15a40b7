"""A line for each check: `ok`, `warning` or `problem`, what was checked, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..logging_filters import pattern_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..delivery.stdout import Stdout


class Report:
    """Writes each line as soon as it is known.

    Args:
        stdout: Where to.
        secrets: Texts that must not be shown, should Mixpanel repeat them.

    Attributes:
        problems: How many checks found something that a run would fail of, or give wrong data by.
    """

    def __init__(self, stdout: Stdout, secrets: Iterable[str]) -> None:
        self._stdout = stdout
        self._secret = pattern_of(secrets)
        self.problems = 0

    def ok(self, check: str, text: str) -> None:
        """Report that all is well."""
        self._line("ok", check, text)

    def warning(self, check: str, text: str) -> None:
        """Report what a run can live with."""
        self._line("warning", check, text)

    def problem(self, check: str, text: str) -> None:
        """Report what keeps a run from going well."""
        self.problems += 1
        self._line("problem", check, text)

    def end(self, queries: int, hourly: int) -> None:
        """Say what it comes to.

        Args:
            queries: How many the examination took.
            hourly: How many a run may make in an hour, to the export and to the query API each.
        """
        verdict = {0: "No problem found.", 1: "One problem found."}.get(
            self.problems, f"{self.problems} problems found."
        )
        quota = f"quota: {hourly} exports and {hourly} other requests an hour"
        self._stdout.write(f"\n{verdict} Requests made: {queries}; {quota}.\n".encode())

    def _line(self, level: str, check: str, text: str) -> None:
        self._stdout.write(f"{level:<8} {check + '  ':<14}{self._secret.sub('***', text)}\n".encode())


def about(count: float) -> str:
    """Spell an estimate with two digits that mean something: `about 1,200`."""
    whole = round(count)
    digits = len(str(whole)) - 2
    return f"about {round(whole, -digits) if digits > 0 else whole:,}"


def size_text(size: float) -> str:
    """Spell a size as people do, in MB or GB."""
    megabytes = size / 1e6
    if megabytes < 10:  # noqa: PLR2004 - below that a tenth matters
        return f"{megabytes:.1f} MB"
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:,.1f} GB"  # noqa: PLR2004 - a GB
