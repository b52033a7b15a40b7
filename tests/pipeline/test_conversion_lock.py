"""Threads take turns in working on what they fetch."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.pipeline.conversion_lock import BLOCKS_PER_HOLD, ConversionLock

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(st.lists(st.binary(min_size=1), max_size=5 * BLOCKS_PER_HOLD))
def test_the_blocks_come_as_they_are(blocks: list[bytes]) -> None:
    assert list(ConversionLock().of(iter(blocks))) == blocks


def test_one_thread_at_a_time_has_blocks_in_hand() -> None:
    conversion_lock, at_work, most = ConversionLock(), [0], [0]
    started = threading.Barrier(3)

    def work() -> None:
        started.wait()
        for _ in conversion_lock.of(iter([b"x"] * 10 * BLOCKS_PER_HOLD)):
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            threading.Event().wait(0.001)
            at_work[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_while_a_thread_waits_for_its_network_the_others_work() -> None:
    conversion_lock, more = ConversionLock(), threading.Event()

    def slow() -> Iterator[bytes]:
        yield from [b"x"] * BLOCKS_PER_HOLD
        assert more.wait(10)
        yield b"y"

    waiting: list[bytes] = []
    thread = threading.Thread(target=lambda: waiting.extend(conversion_lock.of(slow())))
    thread.start()
    assert len(list(conversion_lock.of(iter([b"z"] * 3 * BLOCKS_PER_HOLD)))) == 3 * BLOCKS_PER_HOLD
    more.set()
    thread.join()
    assert waiting == [b"x"] * BLOCKS_PER_HOLD + [b"y"]


def test_whoever_leaves_early_lets_the_next_one_go_on() -> None:
    conversion_lock = ConversionLock()
    with pytest.raises(ZeroDivisionError), closing(conversion_lock.of(iter([b"x", b"y"]))) as blocks:
        for _ in blocks:
            raise ZeroDivisionError
    assert list(conversion_lock.of(iter([b"z"]))) == [b"z"]


def test_what_goes_wrong_in_fetching_is_told_and_holds_up_nobody() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionError

    conversion_lock = ConversionLock()
    with pytest.raises(ConnectionError):
        list(conversion_lock.of(broken()))
    assert list(conversion_lock.of(iter([b"z"]))) == [b"z"]
