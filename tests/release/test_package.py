"""The built package: its content, and that it works in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.docs.programs import COMMANDS, ENVIRONMENT, ROOT
from tests.release.packaged import INSTALLED, PROJECT, SDIST, TOOLS, VERSION, WHEEL, output_of, require_package

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("package")


@pytest.fixture(scope="session")
def package() -> None:
    require_package()


def test_the_wheel_has_only_the_package() -> None:
    """The wheel contains the package's files, py.typed and the license, and nothing else."""
    source = {str(path.relative_to(ROOT)) for path in (ROOT / "tap_mixpanel_stream").rglob("*") if path.is_file()}
    names = set(zipfile.ZipFile(WHEEL).namelist())
    packaged_files = {name for name in names if not name.startswith(f"tap_mixpanel_stream-{VERSION}.dist-info/")}
    assert packaged_files == {name for name in source if "__pycache__" not in name}
    assert "tap_mixpanel_stream/py.typed" in packaged_files
    assert f"tap_mixpanel_stream-{VERSION}.dist-info/licenses/LICENSE" in names


def test_the_sdist_has_the_tests() -> None:
    """The sdist contains the tests and the files they need, and no environment."""
    with tarfile.open(SDIST) as sdist:
        top = {name.split("/")[1] for name in sdist.getnames()}
    assert {"tap_mixpanel_stream", "tests", "benchmarks", "docs", "examples", "scripts", ".github"} <= top
    assert {"Makefile", "Dockerfile", "constraints.txt", "constraints-lowest.txt", "meltano.yml", "mkdocs.yml"} <= top
    assert not {name for name in top if name.startswith((".venv", ".env", "output"))}


def test_twine_accepts_the_package() -> None:
    """twine and check-wheel-contents find no problem."""
    output_of(TOOLS / "twine", "check", "--strict", SDIST, WHEEL)
    output_of(TOOLS / "check-wheel-contents", WHEEL)


def test_the_version_is_the_same_everywhere() -> None:
    """The version in pyproject.toml is that of the commands, `--about` and the changelog."""
    assert output_of(INSTALLED / "tap-mixpanel-stream", "--version").startswith(f"tap-mixpanel-stream v{VERSION},")
    assert json.loads(output_of(INSTALLED / "tap-mixpanel-stream", "--about", "--format", "json"))["version"] == VERSION
    assert f"\n## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_editable_install_has_the_same_version() -> None:
    """The editable install has the version in pyproject.toml."""
    version = output_of(COMMANDS / "tap-mixpanel-stream", "--version")
    assert version.startswith(f"tap-mixpanel-stream v{VERSION},"), "pyproject.toml is newer than .venv: run `make test`"


def test_the_environment_has_no_test_tools() -> None:
    """The package does not install test tools."""
    installed = {line.split("==")[0] for line in output_of(INSTALLED / "pip", "freeze").splitlines()}
    assert not installed & {"pytest", "hypothesis", "requests-mock", "mypy", "ruff"}


def test_every_command_starts() -> None:
    """Every command of the package prints its help."""
    for command in PROJECT["scripts"]:
        assert "--help" in output_of(INSTALLED / command, "--help")


def test_the_package_is_typed() -> None:
    """mypy checks callers against the installed package's types."""
    where = output_of(INSTALLED / "python", "-I", "-c", "import tap_mixpanel_stream as p; print(p.__path__[0])").strip()
    assert where.startswith(str(INSTALLED.parent))
    code = "from tap_mixpanel_stream.replication.windows import Window; Window('no day', 1)"
    checked = subprocess.run(
        [COMMANDS / "mypy", "--python-executable", INSTALLED / "python", "--cache-dir", "/dev/null", "-c", code],
        cwd="/",
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "[arg-type]" in checked.stdout, checked.stdout + checked.stderr


def test_the_installed_package_runs(tmp_path: Path) -> None:
    """The installed tap reads the installed emulator and ends with a state."""
    size = ["--last-day", "2024-01-03", "--events-per-day", "20", "--profiles", "5"]
    emulator = INSTALLED / "tap-mixpanel-emulator"
    with subprocess.Popen([str(emulator), *size], stdout=subprocess.PIPE, env=ENVIRONMENT) as serving:
        assert serving.stdout
        config = json.loads(serving.stdout.readline()) | {"end_date": "2024-01-03", "worker_processes": 1}
        (tmp_path / "config.json").write_text(json.dumps(config))
        try:
            done = subprocess.run(
                [INSTALLED / "tap-mixpanel-stream", "--config", tmp_path / "config.json"],
                env=ENVIRONMENT,
                cwd=tmp_path,
                capture_output=True,
                check=False,
            )
        finally:
            serving.terminate()
    assert done.returncode == 0, done.stderr.decode()
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    counted = [message["stream"] for message in messages if message["type"] == "RECORD"]
    assert counted.count("events") > 2 * 20
    assert counted.count("profiles") == 5
    assert messages[-1]["value"]["bookmarks"]["events"]["replication_key_value"] == "2024-01-04T00:00:00+00:00"
