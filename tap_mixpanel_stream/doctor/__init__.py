"""The doctor: tries a configuration with a handful of queries, and says what a run would meet.

    examination  the checks, their order, and what the responses mean
    forecast     from the size of some days to a run's requests, hours and disk
    report       a line for each check

It writes no Singer messages. Imported only where it is asked for.
"""

from __future__ import annotations

from .examination import examine

__all__ = ["examine"]
