"""The tap class and the command line."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, cast

import click
from singer_sdk import Tap
from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.helpers._batch import BatchConfig
from singer_sdk.plugin_base import _ConfigInput
from singer_sdk.tap_base import CliTestOptionValue

from .delivery.batches import check_bucket, secrets_of
from .delivery.stdout import Interrupted
from .logging_filters import drop_sdk_noise, errors_only, mask_secrets
from .run import Run
from .selection import check_selection, read_catalog, select_by_default
from .settings import Settings, SettingsError
from .settings.environment import PREFIX, read_environment, variable_of
from .settings.errors import suggested_stream
from .settings.schema import SCHEMA
from .settings.validation import CREDENTIALS, find_schema_errors, normalize, read_groups, record_schemas
from .stream_maps import make_mapper
from .streams.annotations import AnnotationsStream
from .streams.cohorts import CohortMembersStream, CohortsStream
from .streams.event_counts import EventCountsStream
from .streams.events import EventsStream
from .streams.funnels import FunnelsStream
from .streams.insights import InsightsStream
from .streams.lexicon import LexiconSchemasStream
from .streams.profiles import GroupProfilesStream, ProfilesStream
from .sync import Sync, log_error

if TYPE_CHECKING:
    from types import FrameType

    from .streams.base import MixpanelStream

BATCH_TARGETS_NOTE = (
    "records go into batch files, which target-postgres, target-csv, target-clickhouse and target-snowflake load; "
    "some other targets drop them without an error (docs/targets.md)"
)
"""The log line of a run that writes batch files."""


class TapMixpanelStream(Tap):
    """Singer tap for Mixpanel: events from the raw export, profiles from the Engage query."""

    name = "tap-mixpanel-stream"
    config_jsonschema: ClassVar[dict[str, Any]] = SCHEMA

    def __init__(self, **options: Any) -> None:
        # Created before the SDK's constructor sets up signal handlers, which use it.
        self.run = Run(f"{self.name}/{self.plugin_version}", self.logger, options.pop("state_source", "--state"))
        # By setting that was read from the environment, the name of its variable.
        self._variables: dict[str, str] = {}
        if options.pop("parse_env_config", False):
            settings = self._read_environment()
            self._variables = {name: variable_of(name) for name in settings}
            options["config"] = {**(options.get("config") or {}), **settings}
        if isinstance(options.get("catalog"), dict):
            options["catalog"] = read_catalog(options["catalog"])
        super().__init__(message_writer=self.run.lines, **options)
        if options.get("validate_config", True):
            check_selection(self)
            for stream in self.selected_streams:
                stream.check_before_run()
                if self.config.get("batch_config"):
                    stream.check_batches()
            for warning in self.state_warnings():
                self.logger.warning("%s", warning)

    def discover_streams(self) -> list[MixpanelStream]:
        """Return all streams. Needs no credentials and sends no requests.

        Raises:
            SettingsError: A group or a property column is invalid.
        """
        try:
            events, profiles = record_schemas(self.config)
            groups = read_groups(self.config)
        except ValueError as error:
            raise SettingsError([str(error)]) from None
        streams: list[MixpanelStream] = [
            EventsStream(self, self.run, events),
            ProfilesStream(self, self.run, profiles),
            CohortsStream(self, self.run),
            CohortMembersStream(self, self.run),
            AnnotationsStream(self, self.run),
            FunnelsStream(self, self.run),
            EventCountsStream(self, self.run),
            LexiconSchemasStream(self, self.run),
            InsightsStream(self, self.run),
        ]
        for group in groups:
            # Most databases ignore the case of names.
            if group.name.casefold() in {stream.name.casefold() for stream in streams}:
                raise SettingsError([f"group_profiles: the stream name {group.name} is in use: rename the group"])
            streams.append(GroupProfilesStream(self, self.run, profiles, group))
        select_by_default(streams, self.config)
        return streams

    @property
    def selected_streams(self) -> list[MixpanelStream]:
        """The streams that a run reads, in this order: events, profiles, groups, all others."""
        selected = [cast("MixpanelStream", stream) for stream in self.streams.values() if stream.selected]
        return sorted(selected, key=lambda stream: stream.rank)

    def setup_mapper(self) -> None:
        """Set up the stream maps of the selected streams."""
        self.mapper = make_mapper(self.config, cast("dict[str, MixpanelStream]", self.streams), self.logger)

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the state of an earlier run.

        Raises:
            SettingsError: The content is not a state. Treating it as empty would silently read everything again.
        """
        bookmarks = state.get("bookmarks", {})
        if state and "bookmarks" not in state:
            problem = "has no bookmarks: save the `value` of the last STATE message, not the message"
            raise SettingsError([f"{self.run.state_source} {problem}"])
        if not isinstance(bookmarks, dict) or not all(isinstance(each, dict) for each in bookmarks.values()):
            problem = "its bookmarks are not in this tap's format: run without --state to read from start_date"
            raise SettingsError([f"{self.run.state_source}: {problem}"])
        super().load_state(state)

    def state_warnings(self) -> list[str]:
        """Return a warning for each bookmark in the state whose stream does not exist."""
        return [
            f"{self.run.state_source}: unknown stream {name!r}, so its bookmark is ignored: "
            f"{suggested_stream(name, self.streams)}"
            for name in self.state.get("bookmarks", {})
            if name not in self.streams
        ]

    def _read_environment(self) -> dict[str, Any]:
        parse_environment_config({}, PREFIX)  # Loads a `.env` file, as the SDK does, without reading settings.
        self.append_builtin_config(self.config_jsonschema)
        return read_environment(os.environ, self.config_jsonschema)

    @functools.cached_property
    def sync(self) -> Sync:
        """The reader of the selected streams."""
        return Sync(self.selected_streams, self.run)

    def sync_all(self) -> None:  # type: ignore[misc] # the SDK's is final, but ends with the first failure
        """Read the selected streams.

        Raises:
            StreamsFailedError: Some streams failed, and the others were read.
            Exception: A failure ended the run immediately.
        """
        if batch_config := self.config.get("batch_config"):
            check_bucket(BatchConfig.from_dict(batch_config))
            self.logger.info("batch_config: %s", BATCH_TARGETS_NOTE)
        if self.state:
            self.state_writer.write_state(self.state)
        self.sync.read()

    def sync_and_report(self) -> int:
        """Read the selected streams, log the outcome, and return the exit code."""
        code, failure = 0, None
        try:
            self.sync_all()
        except (Exception, Interrupted) as error:  # noqa: BLE001 - logged in one line
            code, failure = log_error(error, self.logger), error
        self.run.client.close()
        self.sync.log_summary(code, failure)
        return code

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Validate all settings, or only add the defaults if `raise_errors` is false, as in discovery."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        normalize(self._config)
        schema_errors = find_schema_errors(self._config, schema, self._variables)
        if raise_errors:
            credentials = [variable_of(name) for name in CREDENTIALS if not self._config.get(name)]
            unread_variables = [variable for variable in credentials if os.environ.get(variable)]
            settings = Settings.read(self._config, schema_errors, unread_variables)
            self.run.settings = settings
            storage = (self._config.get("batch_config") or {}).get("storage", {})
            mask_secrets([*settings.auth.secrets, *secrets_of(storage.get("params") or {})])
            for warning in settings.warnings():
                self.logger.warning("%s", warning)
        return []

    def _setup_signal_handlers(self) -> None:
        super()._setup_signal_handlers()
        in_main_thread = threading.current_thread() is threading.main_thread()
        # Under `nohup`, SIGHUP is ignored and must stay ignored.
        if in_main_thread and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._handle_termination)

    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a signal handler
        self.run.stdout.interrupt(signum)

    @classmethod
    def cb_config(
        cls,
        ctx: click.Context,  # noqa: ARG003 - the SDK's signature
        param: click.Option,  # noqa: ARG003 - the SDK's signature
        value: tuple[str, ...],
    ) -> _ConfigInput:
        """Read the configuration files.

        Raises:
            SettingsError: A file cannot be read.
        """
        config: dict[str, Any] = {}
        for path in value:
            if path != "ENV":
                try:
                    with Path(path).open(encoding="utf-8") as file:
                        config |= _json_object("--config", file) or {}
                except OSError as error:
                    raise SettingsError([f"--config {path}: {error.strerror}"]) from None
        _check_bad_lines_path(config.get("bad_lines_path"), value)
        return _ConfigInput(config=config, parse_env="ENV" in value)

    @classmethod
    def get_singer_command(cls) -> click.Command:
        """Return the command with this tap's options. Logging is already set up."""
        drop_sdk_noise()
        command = super().get_singer_command()
        command.params.append(
            click.Option(
                ["--doctor"],
                is_flag=True,
                help="Check the configuration with a few requests. Report problems and the estimated size of a run.",
            )
        )
        for option in command.params:
            # `--test` runs while options are parsed and needs the catalog, whatever their order on the command line.
            option.is_eager = option.is_eager or option.name == "catalog"
        return command

    @classmethod
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:  # noqa: ARG003 - the SDK's signature
        """Run `--test` for the selected streams only. The SDK runs it for all."""
        if value == CliTestOptionValue.Disabled.value:
            return
        config: _ConfigInput = ctx.params["config"]
        tap = cls(
            config=config.config,
            parse_env_config=config.parse_env,
            catalog=_json_object("--catalog", ctx.params.get("catalog")),
        )
        if value == CliTestOptionValue.All.value:
            tap.run_sync_dry_run(streams=tap.selected_streams)
        else:
            for stream in tap.selected_streams:
                stream.write_schema()
        ctx.exit()

    @classmethod
    def invoke(
        cls,
        *,
        doctor: bool = False,
        config: _ConfigInput | None = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
        **options: Any,
    ) -> None:
        """Run the command.

        Raises:
            SettingsError: The configuration, the state or the catalog is invalid.
        """
        if options.get("about"):
            super().invoke(**options)
        if not doctor:
            cls.print_version(print_fn=cls.logger.info)
        with errors_only(cls.logger) if doctor else contextlib.nullcontext():
            tap = cls(
                config=config.config if config else None,
                parse_env_config=bool(config and config.parse_env),
                state=_json_object("--state", state),
                state_source=f"--state {state.name}" if state else "--state",
                catalog=_json_object("--catalog", catalog),
            )
            if doctor:
                from .doctor import examine  # noqa: PLC0415 - only needed for this option

                sys.exit(
                    examine(
                        tap.run,
                        tap.selected_streams,
                        state_warnings=tap.state_warnings(),
                        has_catalog=tap.input_catalog is not None,
                    )
                )
        sys.exit(tap.sync_and_report())


def _json_object(option: str, file: IO[str] | None) -> dict[str, Any] | None:
    """Return the JSON object in the file that an option names; None if the option is not given."""
    if file is None:
        return None
    name = f"{option} {file.name}"
    try:
        # Some tools on Windows write a byte order mark.
        text = file.read().removeprefix("\ufeff")
        content = json.loads(text) if text.strip() else None
    except ValueError as error:
        remedy = ": use the last complete line of the target's output" if option == "--state" else ""
        raise SettingsError([f"{name} is not JSON: {error}{remedy}"]) from None
    if content is None and option == "--state":
        problem = (
            "is empty: the last run emitted no state. Use the last non-empty state, or omit --state to read from "
            "start_date"
        )
        raise SettingsError([f"{name} {problem}"])
    if not isinstance(content, dict):
        problem = "is not a JSON object" if text.strip() else "is empty"
        raise SettingsError([f"{name} {problem}"])
    return content


def _check_bad_lines_path(path: object, files: tuple[str, ...]) -> None:
    """Check that `bad_lines_path` is not a configuration file, since rejected lines are appended to it."""
    for file in files:
        if isinstance(path, str) and Path(path).exists() and Path(file).exists() and Path(path).samefile(file):
            raise SettingsError([f"bad_lines_path {path} is a configuration file: set another path"])


def main() -> None:
    """Run the command.

    Exit codes: 0 success, 1 failure or invalid configuration, 2 wrong usage, 128 + N ended by signal N.
    """
    logger = logging.getLogger(TapMixpanelStream.name)
    try:
        TapMixpanelStream.cli()
    except (Exception, Interrupted) as error:  # noqa: BLE001 - logged in one line
        sys.exit(log_error(error, logger))
