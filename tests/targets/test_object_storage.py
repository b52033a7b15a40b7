"""Batch files in a bucket: complete, without credentials in manifests and log, and no bucket is created."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.harness import Run, run_tap
from tests.targets.loading import new_target, shown_settings
from tests.targets.object_storage import KEY, SECRET, ObjectStorage

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_stream.emulator import ReceivedRequest

PROJECT = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 2), events_per_day=100, profiles=7)
RANGE = {"start_date": "2024-01-01", "end_date": "2024-01-02"}
# Seconds for the tap's start and the bucket's response.
SOON = 40


def batches(root: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the page's settings with files of at most 80 records."""
    shown = shown_settings("bucket: config.json")["batch_config"]
    storage = shown["storage"] | {"root": root, "params": params or {}}
    return {"batch_config": shown | {"storage": storage, "batch_size": 80}}


def error_of(root: str, environment: dict[str, str]) -> str:
    """Run the tap with a storage that does not work, and return its error."""
    begin = time.monotonic()
    with Emulator(PROJECT) as emulator:
        run = run_tap(emulator.settings | RANGE | batches(root), environment=environment)
        assert emulator.requests == []
    assert time.monotonic() - begin < SOON
    assert run.exit_code == 1
    assert run.stdout == b""
    [error] = run.errors
    return error


def manifests(run: Run) -> list[str]:
    return [url for message in run.messages if message["type"] == "BATCH" for url in message["manifest"]]


def records(run: Run, storage: ObjectStorage, scheme: str) -> dict[str, list[dict[str, Any]]]:
    """Return the records of all manifests by stream."""
    found: dict[str, list[dict[str, Any]]] = {}
    for message in run.messages:
        if message["type"] == "BATCH":
            for url in message["manifest"]:
                assert url.startswith(f"{scheme}://lake/mixpanel/tap-mixpanel-stream--{message['stream']}-")
                path = storage.folder / url.removeprefix(f"{scheme}://")
                lines = gzip.decompress(path.read_bytes()).splitlines()
                found.setdefault(message["stream"], []).extend(map(json.loads, lines))
    return found


@pytest.mark.parametrize("way", ["s3, environment", "s3, settings", "gs, environment"])
def test_batch_files_in_a_bucket_are_complete(way: str, request: pytest.FixtureRequest) -> None:
    """They contain the same records as RECORD messages, and no message or log line has credentials."""
    scheme, credentials = way.split(", ")
    storage: ObjectStorage = request.getfixturevalue({"gs": "gcs"}.get(scheme, scheme))
    environment, params = dict(storage.environment), {}
    if credentials == "settings":
        environment, params = {}, {"key": KEY, "secret": SECRET, "endpoint_url": storage.url}
    with Emulator(PROJECT) as emulator:
        plain = run_tap(emulator.settings | RANGE).well()
        run = run_tap(
            emulator.settings | RANGE | batches(f"{scheme}://lake/mixpanel", params), environment=environment
        ).well()
    found = records(run, storage, scheme)
    assert found == {stream: plain.records(stream) for stream in ("events", "profiles")}
    assert len(found["events"]) > 80
    assert run.states[-1] == plain.states[-1]
    files = [f"{scheme}://{path.relative_to(storage.folder)}" for path in storage.bucket.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(manifests(run))
    output = run.stdout.decode() + "".join(run.stderr)
    assert KEY not in output
    assert SECRET not in output


def test_a_run_names_targets_for_batches(tmp_path: Path) -> None:
    """One line before the first stream names the targets that load batch files."""
    with Emulator(PROJECT) as emulator:
        run = run_tap(emulator.settings | RANGE | batches(tmp_path.as_uri())).well()
    numbers = [number for number, line in enumerate(run.stderr) if "target-postgres" in line]
    assert numbers == numbers[:1]
    assert "docs/targets.md" in run.stderr[numbers[0]]
    assert numbers[0] < next(number for number, line in enumerate(run.stderr) if "events" in line)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_missing_bucket_fails_the_run(scheme: str, request: pytest.FixtureRequest) -> None:
    """The run fails before any request, and the bucket is not created."""
    storage: ObjectStorage = request.getfixturevalue({"gs": "gcs"}.get(scheme, scheme))
    error = error_of(f"{scheme}://other/mixpanel", dict(storage.environment))
    assert error == "batch_config: the bucket other does not exist: create it, and run again"
    assert not (storage.folder / "other").exists()


def test_wrong_bucket_credentials_fail_the_run(s3: ObjectStorage) -> None:
    """The error names the signature and not the secret."""
    wrong = {**s3.environment, "AWS_SECRET_ACCESS_KEY": "a-wrong-one"}
    error = error_of("s3://lake/mixpanel", wrong)
    assert "signature" in error
    assert "a-wrong-one" not in error


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_dead_bucket_endpoint_fails_the_run(scheme: str, answers: bool) -> None:
    """A refused or silent endpoint fails the run within seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if not answers:
            listener.close()
        url = f"http://127.0.0.1:{listener.getsockname()[1] if answers else 9}"
        access = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": url}
        error = error_of(f"{scheme}://lake/mixpanel", access if scheme == "s3" else {"STORAGE_EMULATOR_HOST": url})
    assert error.startswith(f"batch_config: {scheme}://lake/mixpanel")
    assert "no response within 10 seconds" in error or "Could not connect" in error


class WithoutBucket(Emulator):
    """An emulator that renames a bucket at the first export."""

    bucket: Path

    def record_request(self, method: str, target: str, headers: dict[str, str]) -> ReceivedRequest:
        seen = super().record_request(method, target, headers)
        if seen.kind == "export" and self.bucket.exists():
            self.bucket.rename(self.bucket.with_name("renamed"))
        return seen


def test_a_bucket_that_disappears_fails_the_run(s3: ObjectStorage) -> None:
    """No manifest lists a missing file, and the bucket is not created again."""
    with WithoutBucket(PROJECT) as emulator:
        emulator.bucket = s3.bucket
        run = run_tap(emulator.settings | RANGE | batches("s3://lake/mixpanel"), environment=dict(s3.environment))
    assert run.exit_code == 1
    [error] = run.errors
    assert error.startswith("batch_config: s3://lake/mixpanel cannot be written (The specified bucket does not exist)")
    assert not s3.bucket.exists()
    assert manifests(run) == []
    assert run.bookmark is None


@pytest.mark.parametrize(("scheme", "package", "extra"), [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs")])
def test_a_missing_storage_package_is_reported(scheme: str, package: str, extra: str, tmp_path: Path) -> None:
    """The error has the command that installs the missing package."""
    (tmp_path / f"{package}.py").write_text("raise ImportError")
    error = error_of(f"{scheme}://lake/mixpanel", {"PYTHONPATH": str(tmp_path)})
    problem = f"storage.root with {scheme}:// requires another package: pip install 'tap-mixpanel-stream[{extra}]'"
    assert problem in error


@pytest.mark.parametrize("name", ["gcs", pytest.param("bigquery", marks=pytest.mark.weekly)])
def test_some_targets_ignore_batches(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """These targets exit with 0 and emit the state, but load nothing."""
    target = new_target(name, request, tmp_path)
    (tmp_path / "batches").mkdir()
    with Emulator(PROJECT) as emulator:
        loaded = target.load(emulator.settings | RANGE | batches((tmp_path / "batches").as_uri()))
    assert loaded.codes == (0, 0), loaded.log
    assert loaded.states
    assert list(target.rows("events", raw=False)) == []
