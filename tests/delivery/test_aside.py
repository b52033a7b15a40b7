from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_mixpanel_stream.delivery.aside import AsideError, set_aside

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_lines_are_appended_and_on_the_disk_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "aside"
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(file.read_bytes()))
    set_aside(file, [b"1\n2\n", b"3\n"])
    set_aside(file, [b"4\n"])
    assert synced == [b"1\n2\n3\n", b"1\n2\n3\n4\n"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_whatever_comes_in_between_the_file_is_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    def lines() -> Iterator[bytes]:
        yield b"2\n"
        raise error(28, "No space left on device")

    file = tmp_path / "aside"
    set_aside(file, [b"1\n"])
    with pytest.raises(AsideError if error is OSError else error):
        set_aside(file, lines())
    assert file.read_bytes() == b"1\n"


def test_a_line_that_was_cut_by_a_kill_stays_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "aside"
    file.write_bytes(b"1\nhalf a li")
    set_aside(file, [b"half a line\n"])
    assert file.read_bytes() == b"1\nhalf a li\nhalf a line\n"


def test_a_file_that_may_not_grow_is_an_error_that_names_it_and_takes_none_of_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "aside"
    set_aside(file, [b"1\n"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(AsideError, match=rf"^{file} cannot be written: File too large$"):
            set_aside(file, [b"2\n" * 400, b"3\n" * 400])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b"1\n"


def test_a_device_takes_lines_too() -> None:
    set_aside(Path("/dev/null"), [b"1\n"])
    with pytest.raises(AsideError, match="/dev/full cannot be written: No space left on device"):
        set_aside(Path("/dev/full"), [b"1\n"])
