"""Write the doctor's report: one line for each check, with `ok`, `warning` or `problem`, the check, and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..logging_filters import pattern_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..delivery.stdout import Stdout


class Report:
    """Writes each line of the report immediately.

    Args:
        stdout: The writer to stdout.
        secrets: Texts to mask, in case Mixpanel's responses contain them.

    Attributes:
        problems: The number of checks that found a problem: a run would fail or deliver wrong data.
    """

    def __init__(self, stdout: Stdout, secrets: Iterable[str]) -> None:
        self._stdout = stdout
        self._secrets = pattern_of(secrets)
        self.problems = 0

    def ok(self, check: str, text: str) -> None:
        """Report a passed check."""
        self._line("ok", check, text)

    def warning(self, check: str, text: str) -> None:
        """Report an issue that does not make a run fail."""
        self._line("warning", check, text)

    def problem(self, check: str, text: str) -> None:
        """Report an issue that makes a run fail or deliver wrong data."""
        self.problems += 1
        self._line("problem", check, text)

    def write_summary(self, requests: int, hourly: int) -> None:
        """Write the last line.

        Args:
            requests: The number of requests that the doctor sent.
            hourly: The number of requests per hour that a run may send to each of the export and query APIs.
        """
        verdict = {0: "No problem found.", 1: "One problem found."}.get(
            self.problems, f"{self.problems} problems found."
        )
        quota = f"quota: {hourly} exports and {hourly} other requests an hour"
        self._stdout.write(f"\n{verdict} Requests made: {requests}; {quota}.\n".encode())

    def _line(self, level: str, check: str, text: str) -> None:
        self._stdout.write(f"{level:<8} {check + '  ':<14}{self._secrets.sub('***', text)}\n".encode())


def about(count: float) -> str:
    """Return an estimate rounded to two significant digits: `about 1,200`."""
    whole = round(count)
    digits = len(str(whole)) - 2
    return f"about {round(whole, -digits) if digits > 0 else whole:,}"


def size_text(size: float) -> str:
    """Return a size in bytes as text in MB or GB."""
    megabytes = size / 1e6
    if megabytes < 10:  # noqa: PLR2004 - with a decimal below 10 MB
        return f"{megabytes:.1f} MB"
    return f"{megabytes:,.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:,.1f} GB"  # noqa: PLR2004 - 1 GB
