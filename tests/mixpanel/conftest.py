from __future__ import annotations

import pytest

from tests.mixpanel.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
