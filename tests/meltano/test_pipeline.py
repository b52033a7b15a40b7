"""The commands in docs/meltano.md, in order: first run, settings, selection, job and schedule, state."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
from typing import TYPE_CHECKING

from tap_mixpanel_stream.emulator import Emulator, SyntheticProject
from tests.docs import pages
from tests.docs.programs import requested_days
from tests.meltano.project import STATE_ID, ended

if TYPE_CHECKING:
    from tests.meltano.project import Project

MIXPANEL = SyntheticProject(first_day=dt.date(2024, 1, 1), last_day=dt.date(2024, 1, 31), events_per_day=20, profiles=5)
DAYS = {"start_date": "2024-01-01", "end_date": "2024-01-10"}
BLOCKS = pages.named("docs/meltano.md")


def test_the_emulator_environment_needs_no_account(project: Project) -> None:
    """The emulator and the environment for it run without an account."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    definition = project.definition.read_text()
    assert definition.count("8642") == 3
    project.definition.write_text(definition.replace("8642", port))
    [serve] = re.findall(r"^meltano invoke .*$", BLOCKS["emulator"], re.MULTILINE)
    serving = project.start(f"exec {serve}")
    try:
        assert serving.stdout
        while "Stop it with Ctrl-C" not in (line := serving.stdout.readline()):
            assert line, "the emulator ended"
        result = project.shell(BLOCKS["run against the emulator"]).well()
    finally:
        serving.terminate()
        ended(serving)
    assert '"replication_key_value":"2024-02-01T00:00:00+00:00"' in result.replace(": ", ":")
    assert len(project.loaded("events")) > 31 * 190
    assert len(project.loaded("profiles")) == 300


def test_meltano_config_test_checks_credentials(project: Project) -> None:
    """`meltano config test` accepts right and rejects wrong credentials, without showing a secret."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        tried = project.shell("meltano config test tap-mixpanel-stream").well()
        assert "Plugin configuration is valid" in tried
        tested = project.shell("meltano test tap-mixpanel-stream").well()
        assert "1 test(s) successful" in tested
        assert '"level":"error"' not in tested
        wrong = "wrong-" + emulator.settings["service_account_secret"]
        project.fill_in(emulator.settings | DAYS | {"service_account_secret": wrong})
        rejected = project.shell("meltano config test tap-mixpanel-stream")
    assert rejected.code == 1
    assert "the credentials were rejected" in rejected.out
    assert wrong not in tried + tested + rejected.out


def test_settings_keep_their_types(project: Project) -> None:
    """A list and an integer from meltano.yml, a boolean and an object from the environment."""
    project.shell(BLOCKS["settings"]).well()
    maps = {"events": {"copy": "insert_id"}}
    with Emulator(MIXPANEL) as emulator:
        settings = {"raw": "false", "time_in_ms": "true", "stream_maps": json.dumps(maps)}
        project.fill_in(emulator.settings | DAYS | settings)
        project.run().well()
        project.fill_in(emulator.settings | DAYS | settings | {"end_date": "2024-01-12"})
        begin = len(emulator.requests)
        project.run().well()
        exports = [seen.query for seen in emulator.requests if seen.kind == "export"]
        assert requested_days(emulator.requests[begin:]) == ("2024-01-08", "2024-01-12")
    assert {query["event"] for query in exports} == {'["Signed up", "Purchase"]'}
    assert {query["time_in_ms"] for query in exports} == {"true"}
    records = [json.loads(line) for line in project.loaded("events")]
    assert {record["event_name"] for record in records} == {"Signed up", "Purchase"}
    assert all(record["copy"] == record["insert_id"] for record in records)


def test_meltano_test_finds_a_misspelt_variable(project: Project) -> None:
    """A run does not get it, since Meltano passes only known settings."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS | {"regon": "eu"})
        project.run().well()
        tested = project.shell(BLOCKS["mistyped variable"])
    assert "unknown variable TAP_MIXPANEL_STREAM_REGON: did you mean TAP_MIXPANEL_STREAM_REGION?" in tested.out
    assert "from the TAP_MIXPANEL_STREAM_START_DATE variable in `.env`" in tested.out
    assert tested.out.count("REGON") == 1


def test_only_the_selection_is_requested(project: Project) -> None:
    """Only selected streams are requested, and only selected columns delivered."""
    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        project.run(environment={"TAP_MIXPANEL_STREAM__SELECT_FILTER": '["profiles"]'}).well()
        assert {seen.kind for seen in emulator.requests} == {"engage"}
        emulator.requests.clear()
        listed = project.shell(BLOCKS["select"]).well()
        project.run().well()
        assert {seen.kind for seen in emulator.requests} == {"export", "cohorts"}
    assert set(re.findall(r"\] (\w+)\.", listed)) == {"events", "cohorts"}
    columns = {column for line in project.loaded("events") for column in json.loads(line)}
    assert columns == {"event_name", "event_time", "insert_id", "properties"}
    assert project.loaded("cohorts")


def test_job_and_schedule_share_a_state(project: Project) -> None:
    """Job and schedule share a state, which can be set back, and a full refresh ignores it."""

    def asked_by(block: str) -> tuple[str, str]:
        begin = len(emulator.requests)
        project.shell(BLOCKS[block]).well()
        return requested_days(emulator.requests[begin:])

    with Emulator(MIXPANEL) as emulator:
        project.fill_in(emulator.settings | DAYS)
        by_job, by_schedule, listing = BLOCKS["job and schedule"].splitlines()
        project.shell(by_job).well()
        assert requested_days(emulator.requests) == ("2024-01-01", "2024-01-10")
        begin = len(emulator.requests)
        project.shell(by_schedule).well()
        assert requested_days(emulator.requests[begin:]) == ("2024-01-06", "2024-01-10")
        assert "@daily" in project.shell(listing).well()
        assert STATE_ID in project.shell(BLOCKS["state"]).well()
        assert project.state() == "2024-01-11T00:00:00+00:00"

        project.shell(BLOCKS["set back"]).well()
        assert project.state() == "2024-01-08T00:00:00+00:00"
        begin = len(emulator.requests)
        project.shell(by_job).well()
        assert requested_days(emulator.requests[begin:]) == ("2024-01-03", "2024-01-10")
        assert asked_by("full refresh") == ("2024-01-01", "2024-01-10")
        assert project.state() == "2024-01-11T00:00:00+00:00"
