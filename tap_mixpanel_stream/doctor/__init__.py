"""`--doctor`: check a configuration with a few requests, and report problems and the cost of a run.

    examination   the checks and their order
    completeness  comparison of exported events with Mixpanel's own counts
    forecast      estimate of a run's requests, size and disk space
    report        one line for each check

The doctor writes no Singer messages. It is imported only for `--doctor`.
"""

from __future__ import annotations

from .examination import examine

__all__ = ["examine"]
