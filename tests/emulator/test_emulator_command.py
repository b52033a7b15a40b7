from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from tap_mixpanel_stream.emulator.command import main
from tests.harness import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "tap_mixpanel_stream.emulator"]
OPTIONS = (
    "--first-day 2024-01-01 --events-per-day 5 --profiles 3 --zone Europe/Zurich --quota 2 --now 2024-02-01T00:30:00 "
    "--page-fields none"
)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *OPTIONS.split(), "--fault", "export:2:status:500"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_settings_and_serves(running: subprocess.Popen[str], number: signal.Signals) -> None:
    """The command prints the tap's settings and serves until SIGTERM or SIGINT."""
    assert running.stdout is not None
    settings = json.loads(running.stdout.readline())
    assert settings["start_date"] == "2024-01-01"
    assert settings["project_timezone"] == "Europe/Zurich"
    query = {"project_id": settings["project_id"], "from_date": "2024-01-02", "to_date": "2024-02-01"}
    account = (settings["service_account_username"], settings["service_account_secret"])
    answers = [requests.get(f"{settings['data_api_url']}/export", query, auth=account, timeout=5) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    page = requests.get(
        f"{settings['api_url']}/query/engage", {"project_id": settings["project_id"]}, auth=account, timeout=5
    )
    assert page.json().keys() == {"page", "session_id", "status", "results"}
    # It is 01:30 on the last day in the project's zone.
    assert 29 * 5 < answers[0].content.count(b"\n") <= 31 * 5
    running.send_signal(number)
    assert running.wait(timeout=5) == 0
    assert settings["api_url"] in running.stdout.read()
    assert running.stderr is not None
    assert not running.stderr.read()


@pytest.mark.parametrize(
    "options", ["--fault export:1:nonsense", "--zone Nowhere/City", "--now yesterday", "--first-day 2024-02-30"]
)
def test_an_invalid_option_is_rejected(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid option exits with 2, and the error names it."""
    with pytest.raises(SystemExit) as stopped:
        main(options.split())
    assert stopped.value.code == 2
    assert f"argument {options.partition(' ')[0]}" in capsys.readouterr().err


def test_a_port_in_use_is_one_error_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use is reported in one line, with exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        f"cannot listen on port {port} (Address already in use): free the port, or set another one with --port"
    ]


def test_help_lists_the_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` lists the faults."""
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "gzip-no-trailer" in capsys.readouterr().out
