"""An emulator of the Mixpanel API, for tests, benchmarks and trying out the tap.

It serves real HTTP on the loopback interface, with synthetic data, rate limits and injected faults. It follows
Mixpanel's documentation and the behavior observed on the live API. The tap does not import this package.
"""

from __future__ import annotations

from .credentials import Credentials
from .engage_endpoint import Paging
from .faults import FAULT_DESCRIPTIONS, REQUEST_KINDS, Fault
from .history import SyntheticProject
from .incoming_request import ReceivedRequest
from .plan import PLANS, Plan
from .project import FixedProject, Project
from .rate_limits import Quota
from .server import Emulator

__all__ = [
    "FAULT_DESCRIPTIONS",
    "PLANS",
    "REQUEST_KINDS",
    "Credentials",
    "Emulator",
    "Fault",
    "FixedProject",
    "Paging",
    "Plan",
    "Project",
    "Quota",
    "ReceivedRequest",
    "SyntheticProject",
]
