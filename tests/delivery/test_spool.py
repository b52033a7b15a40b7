from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from tap_mixpanel_stream.delivery import spool as spool_module
from tap_mixpanel_stream.delivery.spool import IN_MEMORY, Spool, SpooledChunk, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Disk:
    """A file that fails at one call, as on a disk that is full or broken."""

    def __init__(self, call: str, error: int) -> None:
        self._call = call
        self._error = error

    def __getattr__(self, call: str) -> Callable[..., bytes]:
        def answer(*_: object) -> bytes:
            if call == self._call:
                raise OSError(self._error, os.strerror(self._error))
            return b""

        return answer


@pytest.mark.parametrize("call", ["write", "flush", "seek", "read"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errno.ENOSPC, "no space left in the temporary folder "),
        (errno.EIO, r"the temporary folder .* cannot be used \(Input/output error\)"),
    ],
)
def test_a_disk_that_fails_is_an_error_that_names_the_folder_and_the_remedy(
    call: str, error: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool()
    spool.close()
    monkeypatch.setattr(spool, "_file", Disk(call, error))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # noqa: S108 - looked at by nobody
    with pytest.raises(SpoolError, match=f"{says}.*TMPDIR"):
        spool.write(b"line\n")
        spool.flush()
        list(spool.blocks())


def test_what_a_full_disk_did_not_take_is_let_go_without_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool()
    spool.close()
    monkeypatch.setattr(spool, "_file", Disk("close", errno.ENOSPC))
    spool.close()


def test_without_any_temporary_folder_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_is_usable() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none_is_usable)
    spool = Spool()
    with pytest.raises(SpoolError, match=r"a temporary folder cannot be used \(No usable .*TMPDIR"):
        spool.write(b"x" * spool_module.IN_MEMORY + b"\n")
    spool.close()


@pytest.mark.parametrize(
    ("total", "free", "is_refused"),
    [
        (1 << 40, 1 << 30, False),
        (1 << 40, (1 << 30) - 1, True),
        (1 << 30, (1 << 30) // 20, False),
        (1 << 30, (1 << 30) // 20 - 1, True),
        (0, 0, False),  # some file systems do not tell
    ],
)
def test_a_spool_leaves_room_on_the_disk_to_others(
    total: int, free: int, monkeypatch: pytest.MonkeyPatch, *, is_refused: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(total, total - free, free))
    spool = Spool()
    block = b"x" * (1024 * 1024 - 1) + b"\n"
    for _ in range(spool_module.CHECK_EVERY // len(block) - 1):
        spool.write(block)
    if is_refused:
        with pytest.raises(SpoolError, match=r"17 MB were received, .* nearly full, with [\d,]+ MB left: .*TMPDIR"):
            spool.write(block)
    else:
        spool.write(block)
    spool.close()


def test_a_chunk_is_complete_only_if_its_last_byte_has_room_too() -> None:
    lines = b"x" * 1023 + b"\n"
    block = lines * (IN_MEMORY // len(lines) + 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for the large block, and not for the line that then waits in a buffer.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(block), before[1]))
    chunk = SpooledChunk()
    try:
        chunk.lines.write(block)
        chunk.lines.write(lines)
        with pytest.raises(SpoolError, match="TMPDIR"):
            chunk.complete()
        chunk.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
