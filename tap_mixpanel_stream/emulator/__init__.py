"""A local Mixpanel for the tap's tests, benchmarks and first steps: real HTTP on loopback, with data, quota and faults.

It behaves as Mixpanel is known to. The tap does not import it.
"""

from __future__ import annotations

from .credentials import Credentials
from .engage_endpoint import Paging
from .faults import KINDS, NAMES, Fault
from .history import SyntheticProject
from .incoming_request import SeenRequest
from .plan import PLANS, Plan
from .project import FixedProject, Project
from .rate_limits import Quota
from .server import Emulator

__all__ = [
    "KINDS",
    "NAMES",
    "PLANS",
    "Credentials",
    "Emulator",
    "Fault",
    "FixedProject",
    "Paging",
    "Plan",
    "Project",
    "Quota",
    "SeenRequest",
    "SyntheticProject",
]
