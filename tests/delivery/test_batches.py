from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig, StorageTarget

from tap_mixpanel_stream.delivery.batches import _by_lines, batch_files, secrets_of


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 10))
def test_batch_files_have_batch_size_lines(lines_of_block: list[int], most: int) -> None:
    """Every batch file except the last has exactly `batch_size` lines."""
    numbers = iter(range(1000))
    blocks = [b"".join(b"%d\n" % next(numbers) for _ in range(lines)) for lines in lines_of_block]
    files = [b"".join(group) for group in _by_lines(blocks, most)]
    assert b"".join(files) == b"".join(blocks)
    assert all(file.count(b"\n") == most for file in files[:-1])
    assert all(0 < file.count(b"\n") <= most for file in files)


def test_batch_files_have_unique_names(tmp_path: Path) -> None:
    """Batch files are gzip or plain as configured, with unique names that contain prefix and stream."""
    for compression, read in (("gzip", gzip.decompress), ("none", bytes)):
        config = BatchConfig(
            encoding=BaseBatchFileEncoding(format="jsonl", compression=compression),
            storage=StorageTarget(root=tmp_path.as_uri(), prefix="here-"),
            batch_size=2,
        )
        urls = [*batch_files([b"1\n2\n3\n"], config, "events"), *batch_files([b"4\n"], config, "events")]
        assert len(set(urls)) == 3
        contents = [read(Path(url.removeprefix("file://")).read_bytes()) for url in urls]
        assert contents == [b"1\n2\n", b"3\n", b"4\n"]
        assert all(url.rpartition("/")[2].startswith("here-events-") for url in urls)


@pytest.mark.parametrize(
    ("root", "folder"),
    [
        ("file://{home}/my dätä #1", "my dätä #1"),
        ("file://{home}/my%20data", "my%20data"),
        ("{home}/my dätä #1", "my dätä #1"),
        ("my dätä #1", "my dätä #1"),
        ("~/data", "data"),
        ("file://~/data", "data"),
    ],
)
def test_targets_open_a_file_by_its_url(
    root: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK of the targets takes the path in a URL as it is, without decoding it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    storage = StorageTarget(root=root.format(home=tmp_path), prefix="a folder/here-")
    config = BatchConfig(encoding=BaseBatchFileEncoding(format="jsonl", compression="none"), storage=storage)
    [url] = batch_files([b"1\n"], config, "events")
    head, tail = StorageTarget.split_url(url)
    with StorageTarget.from_url(head).open(tail) as file:
        assert file.read() == b"1\n"
    assert [str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")] == [f"{folder}/a folder"]


def test_storage_secrets_are_found() -> None:
    """Secrets are found in settings with secret names and in URLs."""
    storage = {
        "root": "s3://lake/mixpanel",
        "params": {"sas_token": "a", "connection_string": "b", "endpoint_url": "https://user:c@host/x", "region": "d"},
    }
    assert sorted(secrets_of(storage)) == ["a", "b", "c"]


def test_storage_params_may_be_null(tmp_path: Path) -> None:
    """`params: null`, which YAML makes of an empty key, is accepted."""
    storage = StorageTarget(root=tmp_path.as_uri(), params=None)  # type: ignore[arg-type]
    config = BatchConfig(encoding=BaseBatchFileEncoding(format="jsonl", compression="none"), storage=storage)
    assert len(list(batch_files([b"1\n"], config, "events"))) == 1
