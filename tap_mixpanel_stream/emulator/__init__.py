"""A local Mixpanel for the tap's tests, benchmarks and first steps: real HTTP on loopback, with data, quota and faults.

What it does is what we believe Mixpanel does. Nothing in the tap imports it.
"""

from __future__ import annotations

from .credentials import Credentials
from .engage import Paging
from .faults import KINDS, NAMES, Fault
from .history import SyntheticProject
from .plan import PLANS, Plan
from .project import FixedProject, Project
from .quota import Quota
from .request import SeenRequest
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
