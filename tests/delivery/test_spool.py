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
from tap_mixpanel_stream.delivery.spool import MAX_IN_MEMORY, Spool, SpooledChunk, SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable


def open_files() -> set[str]:
    return {descriptor.name for descriptor in Path("/proc/self/fd").iterdir()}


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=50))
def test_a_spool_returns_its_lines_in_blocks(lines: list[bytes]) -> None:
    """A spool returns all lines written, in blocks of complete lines."""
    spool = Spool()
    for line in lines:
        spool.write(line)
    blocks = list(spool.blocks())
    assert b"".join(blocks) == b"".join(lines)
    assert all(block.endswith(b"\n") for block in blocks)
    assert list(spool.lines()) == lines
    spool.close()


def test_blocks_end_with_a_complete_line() -> None:
    """Blocks end with a complete line, also if a line is longer than a block."""
    spool = Spool()
    lines = [b"x" * length + b"\n" for length in (10, spool_module.BLOCK_BYTES - 11, spool_module.BLOCK_BYTES * 3, 5)]
    for line in lines:
        spool.write(line)
    blocks = list(spool.blocks())
    assert b"".join(blocks) == b"".join(lines)
    assert all(block.endswith(b"\n") for block in blocks)
    spool.close()


def test_a_large_spool_is_an_unnamed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool too large for memory is one open file without a name in the folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = open_files()
    spool = Spool()
    spool.write(b"x" * spool_module.MAX_IN_MEMORY + b"\n")
    assert len(open_files() - before) == 1
    assert list(tmp_path.iterdir()) == []
    spool.close()


class Disk:
    """A file that fails at one method, like one on a full or broken disk."""

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
def test_a_disk_error_names_the_temporary_folder(
    call: str, error: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or broken disk is an error that names the temporary folder and TMPDIR."""
    spool = Spool()
    spool.close()
    monkeypatch.setattr(spool, "_file", Disk(call, error))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # noqa: S108 - only for the message
    with pytest.raises(SpoolError, match=f"{says}.*TMPDIR"):
        spool.write(b"line\n")
        spool.flush()
        list(spool.blocks())


def test_closing_on_a_full_disk_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a spool on a full disk raises no second error."""
    spool = Spool()
    spool.close()
    monkeypatch.setattr(spool, "_file", Disk("close", errno.ENOSPC))
    spool.close()


def test_a_missing_temporary_folder_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that no temporary folder is usable, and names TMPDIR."""

    def none_is_usable() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none_is_usable)
    spool = Spool()
    with pytest.raises(SpoolError, match=r"a temporary folder cannot be used \(No usable .*TMPDIR"):
        spool.write(b"x" * spool_module.MAX_IN_MEMORY + b"\n")
    spool.close()


@pytest.mark.parametrize(
    ("total", "free", "fails"),
    [
        (1 << 40, 1 << 30, False),
        (1 << 40, (1 << 30) - 1, True),
        (1 << 30, (1 << 30) // 20, False),
        (1 << 30, (1 << 30) // 20 - 1, True),
        (0, 0, False),  # some file systems do not report their size
    ],
)
def test_a_spool_leaves_free_space_on_the_disk(
    total: int, free: int, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """A spool fails when less than 1 GB and less than 5 % of the disk are free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(total, total - free, free))
    spool = Spool()
    block = b"x" * (1024 * 1024 - 1) + b"\n"
    for _ in range(spool_module.CHECK_INTERVAL // len(block) - 1):
        spool.write(block)
    if fails:
        with pytest.raises(SpoolError, match=r"17 MB were received, .* nearly full, with [\d,]+ MB left: .*TMPDIR"):
            spool.write(block)
    else:
        spool.write(block)
    spool.close()


def test_completing_a_chunk_flushes_its_buffer() -> None:
    """A chunk is complete only once its last buffered byte is written."""
    lines = b"x" * 1023 + b"\n"
    block = lines * (MAX_IN_MEMORY // len(lines) + 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for the large block, but not for the line that is then in the buffer.
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
