from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.delivery import spool as spool_module
from tap_mixpanel_stream.delivery.spool import Spool, SpoolError


def open_files() -> set[str]:
    return {descriptor.name for descriptor in Path("/proc/self/fd").iterdir()}


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=50))
def test_what_goes_in_comes_out_in_blocks_of_whole_lines(lines: list[bytes]) -> None:
    spool = Spool()
    for line in lines:
        spool.write(line)
    blocks = list(spool.blocks())
    assert b"".join(blocks) == b"".join(lines)
    assert all(block.endswith(b"\n") for block in blocks)
    assert list(spool.lines()) == lines
    spool.close()


def test_blocks_end_with_a_line_however_long_the_lines_are() -> None:
    spool = Spool()
    lines = [b"x" * length + b"\n" for length in (10, spool_module.BLOCK - 11, spool_module.BLOCK * 3, 5)]
    for line in lines:
        spool.write(line)
    blocks = list(spool.blocks())
    assert b"".join(blocks) == b"".join(lines)
    assert all(block.endswith(b"\n") for block in blocks)
    spool.close()


def test_a_large_spool_is_a_file_that_nobody_else_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = open_files()
    spool = Spool()
    spool.write(b"x" * spool_module.IN_MEMORY + b"\n")
    assert len(open_files() - before) == 1
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_a_full_disk_is_an_error_that_names_the_folder_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool()
    spool.close()

    class Full:
        def write(self, lines: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_file", Full())
    with pytest.raises(SpoolError, match=r"no space left in the temporary folder .*TMPDIR"):
        spool.write(b"line\n")
