from __future__ import annotations

import pytest

from tests.mixpanel.turned_clock import TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()
