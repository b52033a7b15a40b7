"""The base class of all streams: writes complete chunks as messages or batch files, and manages state and versions."""

from __future__ import annotations

import abc
import contextlib
import datetime as dt
import functools
import logging
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from singer_sdk import Stream
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import RemoveRecordTransform, SameRecordTransform
from singer_sdk.singerlib import RecordMessage

from ..delivery.batches import batch_files
from ..delivery.record_writer import IntegerTooLongError, decode_records, encode_record
from ..delivery.rejected_lines import RejectedLinesError, write_rejected_lines
from ..pipeline.errors import DiskError, StreamError
from ..records.converter import BARE, Envelope, record_envelope
from ..replication.state import MAX_CLOCK_LEAD, bookmark_text, parse_bookmark
from ..replication.windows import DAY, Window, end_instant, last_day
from ..settings import SettingsError
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from singer_sdk import Tap
    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.singerlib import Catalog, SchemaMessage

    from ..delivery.spool import SpooledChunk
    from ..delivery.stdout import Stdout
    from ..mixpanel.client import Client
    from ..mixpanel.clock import Clock
    from ..mixpanel.request import Api
    from ..records.schemas import RecordSchema
    from ..run import Run
    from ..settings import Settings


EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

T = TypeVar("T")

SEVERAL_STREAMS = "stream_maps split {} into several streams, which batch files do not support: remove one of the two"


class MixpanelStream(Stream, abc.ABC):
    """A stream whose records arrive in chunks: windows of events, pages of profiles, whole responses.

    Usually, the record lines of a chunk are copied to stdout unchanged, block by block. If property selection, stream
    maps or flattening apply, each record is decoded and goes through the SDK instead. Records and state are the same
    either way.
    """

    chunk_name: str
    """The word for a chunk of this stream in the log."""

    rank: ClassVar[int] = 3
    """The position in a run: streams with a lower rank come first, those with the same rank in order of name."""

    unit: str
    """The unit of `SpooledChunk.extent`."""

    api: Api = "query"
    """The API that the stream uses. Each API has its own quota."""

    started_at: dt.datetime
    """The time shortly before the stream's first request in this run, in UTC."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """Records already fit their schemas. The SDK's type conformance would turn `"false"` into true."""

    def __init__(self, tap: Tap, run: Run, schema: RecordSchema, name: str) -> None:
        super().__init__(tap, schema=schema.schema, name=name)
        # From singer-sdk 0.55 on, the SDK's logger is an adapter that drops the extra fields of a log line.
        self._logger = tap.logger.getChild(name)
        self.run = run
        self.primary_keys = list(schema.key_properties)
        self._columns = schema.columns

    @property
    def settings(self) -> Settings:
        """The validated settings."""
        return self.run.settings

    @property
    def client(self) -> Client:
        """The API client, shared by all streams of a run."""
        return self.run.client

    @property
    def clock(self) -> Clock:
        """The run's clock."""
        return self.run.clock

    @property
    def is_incremental(self) -> bool:
        """Whether the run continues from the stream's bookmark."""
        return self.replication_method == "INCREMENTAL"

    def configured_settings(self, *names: str) -> tuple[str, ...]:
        """Return the names of those settings that are set, for messages."""
        return tuple(name for name in names if self.config.get(name))

    def start_date(self) -> dt.date:
        """Return the first day to read if there is no bookmark.

        Raises:
            SettingsError: `start_date` is not set.
        """
        if self.settings.start_date is None:
            raise SettingsError([f"start_date is missing: set it to the first day of {self.name} to read"])
        return self.settings.start_date

    def last_day(self) -> dt.date:
        """Return the last day to read: `end_date`, or today in the project's time zone if that is earlier."""
        return last_day(self.settings.end_date, self.clock.now(), self.settings.zone)

    @functools.cached_property
    def progress(self) -> Progress:
        """The progress of the stream."""
        return Progress(
            stream=self.name,
            chunk_name=self.chunk_name,
            unit=self.unit,
            bookmark_from=self.bookmark_value,
            clock=self.clock,
            api=self.api,
            quota=self.run.quota,
            log=self.logger,
        )

    @property
    def bookmark_value(self) -> str | None:
        """The stream's bookmark in the current state; None if there is none."""
        value: str | None = self.tap_state.get("bookmarks", {}).get(self.name, {}).get("replication_key_value")
        return value

    @property
    def state_entry(self) -> Mapping[str, Any]:
        """The stream's entry in the current state; empty if there is none."""
        state: Mapping[str, Any] = self.tap_state.get("bookmarks", {}).get(self.name, {})
        return state

    def instant_in_state(self, name: str) -> dt.datetime | None:
        """Return an instant in the stream's state entry; None if it is missing.

        Raises:
            SettingsError: The value is not an instant.
        """
        text = self.state_entry.get(name)
        if text is None:
            return None
        try:
            return parse_bookmark(text, name)
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None

    def state_error(self, problem: str) -> SettingsError:
        """Return the error for a bookmark that cannot be used."""
        return SettingsError([f"{self.run.state_source}: the bookmark of {self.name} {problem}"])

    def check_not_in_future(self, name: str, instant: dt.datetime | None) -> None:
        """Check that an instant in the state is not after today. Otherwise, runs would read nothing until then.

        Args:
            name: The name of the entry in the state.
            instant: The instant; None if it is missing.

        Raises:
            SettingsError: The instant is after the end of today in the project's time zone.
        """
        now = self.clock.now()
        today = now.astimezone(self.settings.zone).date()
        # A bookmark is at most the end of a day, or a little later if it is from a machine whose clock is ahead.
        latest = max(end_instant(Window(today, today), self.settings.zone, now + 2 * DAY), now + MAX_CLOCK_LEAD)
        if instant is not None and instant > latest:
            raise self.state_error(
                f"is in the future: {name} is {bookmark_text(instant)}, and nothing would be read until then. "
                f"Set it to the instant up to which the stream is delivered, {bookmark_text(now)} at the latest, or "
                "remove the bookmark to read everything"
            )

    def on_poll(self) -> None:
        """Check that the target still reads, and log progress. Called while the main thread waits; may raise."""
        self.stdout.check_reader()
        self.progress.tick()

    @property
    def stdout(self) -> Stdout:
        """The run's writer to stdout."""
        return self.run.stdout

    @abc.abstractmethod
    def chunks(self, envelope: Envelope) -> AbstractContextManager[Iterator[tuple[SpooledChunk, Any]]]:
        """Fetch the chunks that this run delivers.

        Args:
            envelope: The RECORD message around each record.

        Returns:
            The chunks in order, each with the argument for `move_bookmark` after it is delivered. If the argument is
            None, the bookmark does not move.
        """

    @abc.abstractmethod
    def sample(self, count: int) -> SpooledChunk:
        """Fetch about `count` records without an envelope, with as few and as small requests as possible."""

    def check_before_run(self) -> None:
        """Check the settings and the state that this stream needs, before the run starts.

        Raises:
            SettingsError: The stream cannot be read with these settings or this state.
        """

    def check_batches(self) -> None:
        """Check that the stream can be written to batch files, before the run starts.

        Raises:
            SettingsError: `batch_config` is combined with a setting that it excludes.
        """
        if len(self.stream_maps) > 1:
            raise SettingsError([f"batch_config: {SEVERAL_STREAMS.format(self.name)}"])
        is_removed = isinstance(self.stream_maps[0], RemoveRecordTransform)
        if self.is_versioned and self.settings.emit_activate_version_messages and not is_removed:
            problem = (
                "emit_activate_version_messages: records in batch files have no version, so a target would delete "
                "them: remove this setting or batch_config"
            )
            raise SettingsError([problem])

    # --- Full refreshes and table versions ---------------------------------------------------------------------------

    @property
    def is_full_refresh(self) -> bool:
        """Whether this run delivers the whole table. Rows that it does not deliver no longer exist in Mixpanel."""
        return self.replication_method == "FULL_TABLE"

    @property
    def is_versioned(self) -> bool:
        """Whether records have a table version if ACTIVATE_VERSION messages are enabled."""
        return self.is_full_refresh

    @property
    def refreshed_at(self) -> dt.datetime | None:
        """The start of the last run, which can be this one, that delivered the whole table; None if there is none."""
        return self.started_at if self.is_full_refresh else None

    is_without_access = False
    """Whether the stream is empty in this run because the plan or the role does not include it."""

    has_earlier_rows = False
    """Whether earlier runs delivered part of the table, and this run delivers the rest."""

    @property
    def incomplete_reason(self) -> str | None:
        """Why this run did not deliver the whole table; None if it did."""
        # An empty result is more likely a failure than a table that lost all of its rows.
        return None if self.progress.records or self.has_earlier_rows else "no records were read"

    @property
    def emit_activate_version_messages(self) -> bool:
        """Always false, since the SDK would send the message before the first record.

        A target deletes older rows when it reads the message. If the run then failed, the rows that it did not deliver
        would be lost. This class therefore adds the version to the records and sends the message after the last one.
        """
        return False

    def complete(self) -> None:
        """Update the state at the end of a successful run."""

    def _begin(self) -> None:
        self.started_at = self.clock.now()
        is_enabled = self.settings.emit_activate_version_messages
        # A run that delivers only some rows adds them to the version of the last full refresh.
        # Versions are in milliseconds: two short runs can start within a second, and a target deletes lower versions.
        refreshed = self.refreshed_at if is_enabled else None
        self._stream_version = (refreshed - EPOCH) // dt.timedelta(milliseconds=1) if refreshed else None

    def _end(self) -> None:
        # If there were no chunks, there was nothing to request or no access, so the table must not be replaced.
        has_read = self.progress.chunks or self.has_earlier_rows
        if self._stream_version is not None and self.is_full_refresh and has_read:
            if self.incomplete_reason:
                text = "%s: ACTIVATE_VERSION is not sent, so the target keeps its rows"
                self.log(text, self.incomplete_reason, level=logging.WARNING)
            else:
                self._write_activate_version_message(self._stream_version)
        self.complete()
        self.state_manager.is_flushed = False
        self._write_state_message()

    # --- SCHEMA and catalog ----------------------------------------------------------------------------------------

    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply the selection, the replication method and the key from a catalog. Missing entries keep their defaults.

        Raises:
            SettingsError: The catalog was discovered with other columns or types, or does not select the key.
        """
        key, replication_key = self.primary_keys, self.replication_key
        super().apply_catalog(catalog)
        self.primary_keys = self.primary_keys or key
        self.replication_key = replication_key
        entry = catalog.get_stream(self.name)
        if not self.selected or entry is None:
            return
        if _column_types(entry.schema.to_dict()) != _column_types(self._schema or {}):
            problem = (
                f"the catalog's columns of {self.name} differ from those of the settings (raw, event_columns, "
                "profile_columns): run discovery again"
            )
            raise SettingsError([problem])
        missing = [column for column in self.primary_keys if column not in (self.selected_columns or self._columns)]
        if missing:
            problem = f"the catalog does not select {', '.join(missing)}, part of the key of {self.name}: select it"
            raise SettingsError([problem])

    def write_schema(self) -> None:
        """Write the stream's SCHEMA message."""
        self._write_schema_message()

    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return None: a bookmark comes from a complete window, never from a record."""

    def get_batch_config(self, config: Mapping[str, Any]) -> BatchConfig | None:
        """Return the batch configuration; None for `--test`, which writes records to stdout."""
        return None if self.ABORT_AT_RECORD_COUNT is not None else super().get_batch_config(config)

    def _generate_schema_messages(self) -> Generator[SchemaMessage, None, None]:
        for message in super()._generate_schema_messages():
            # The replication key is not a column of raw events, and a stream map can remove it from normalized events.
            if self.replication_key not in message.schema.get("properties", {}):
                message.bookmark_properties = None
            yield message

    # --- Records and batches ------------------------------------------------------------------------------------------

    @property
    def can_copy_blocks(self) -> bool:
        """Whether record lines can be copied unchanged."""
        maps = self.stream_maps
        is_unmapped = len(maps) == 1 and type(maps[0]) is SameRecordTransform and not maps[0].flattening_enabled
        return is_unmapped and not self._has_nested_deselection

    @functools.cached_property
    def _has_nested_deselection(self) -> bool:
        """Whether a property inside a column is deselected. The conversion itself omits whole columns."""
        column_depth = 2  # A breadcrumb is ("properties", column, …).
        return not all(selected or len(breadcrumb) <= column_depth for breadcrumb, selected in self.mask.items())

    @property
    def selected_columns(self) -> frozenset[str] | None:
        """The columns to deliver; None for all."""
        selected = frozenset(column for column in self._columns if self.mask["properties", column])
        return None if len(selected) == len(self._columns) else selected

    def _sync_records(
        self,
        context: Context | None = None,  # noqa: ARG002 - the SDK's signature
        *,
        write_messages: bool = True,
    ) -> Generator[dict[str, Any], Any, Any]:
        if not write_messages:
            raise TypeError("batches are made from chunks")
        if self.ABORT_AT_RECORD_COUNT is not None:
            yield from self._write_sample(self.ABORT_AT_RECORD_COUNT)
            return
        self._begin()
        if self.can_copy_blocks:
            envelope = record_envelope(self.name, dt.datetime.now(tz=dt.UTC), self._stream_version)
            yield from self._deliver(envelope, self._write_blocks)
        else:
            yield from self._deliver(BARE, self._write_records)

    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,  # noqa: ARG002 - the SDK's signature
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Write batch files chunk by chunk. The bookmark moves after the last manifest of a chunk is written."""
        if isinstance(self.stream_maps[0], RemoveRecordTransform):
            return
        self._begin()
        yield from self._deliver(BARE, functools.partial(self._write_batch_files, batch_config))

    def _deliver(self, envelope: Envelope, write: Callable[[SpooledChunk], Iterable[T]]) -> Iterator[T]:
        """Write the chunks in order, and move the bookmark after each of them.

        Args:
            envelope: The RECORD message around each record.
            write: Writes a chunk. Yields what the SDK expects: records, or manifests of batch files.
        """
        with self.get_record_counter() as counter, self.get_sync_timer(), self._summarizing():
            with self.progress, self.chunks(envelope) as chunks:
                for chunk, delivered in chunks:
                    with chunk:
                        yield from write(chunk)
                        counter.increment(chunk.records)
                        self._finish_chunk(chunk, delivered)
            self._end()
            self.progress.log_summary(self.bookmark_value)

    def _write_sample(self, count: int) -> Iterator[dict[str, Any]]:
        """Write up to `count` records, without moving the bookmark."""
        with self.get_record_counter() as counter, self.get_sync_timer(), self._summarizing():
            with self.sample(count) as chunk:
                for record in islice(decode_records(chunk.lines.lines()), count):
                    self._write_record_message(record)
                    counter.increment()
                    yield record
            self.run.lines.flush()
            self._write_state_message()

    def _write_blocks(self, chunk: SpooledChunk) -> Iterable[dict[str, Any]]:
        """Copy record lines to stdout unchanged. The SDK receives no records."""
        for block in chunk.lines.blocks():
            self.stdout.write(block)
        return ()

    def _write_records(self, chunk: SpooledChunk) -> Iterator[dict[str, Any]]:
        """Write records one by one, after property selection, stream maps and flattening."""
        with self._translate_mapping_errors():
            for record in decode_records(chunk.lines.lines()):
                self._write_record_message(record)
                yield record
        self.run.lines.flush()

    def _write_batch_files(
        self, config: BatchConfig, chunk: SpooledChunk
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        blocks = chunk.lines.blocks() if self.can_copy_blocks else self._map_lines(chunk.lines.lines())
        for url in batch_files(blocks, config, f"{self.tap_name}--{self.name}"):
            yield config.encoding, [url]

    def _generate_record_messages(self, record: Record) -> Generator[RecordMessage, None, None]:
        if self._has_nested_deselection:  # Removing deselected properties with the SDK doubles the cost.
            yield from super()._generate_record_messages(record)
            return
        for stream_map in self.stream_maps:
            mapped = stream_map.transform(record)
            if mapped is not None:
                yield RecordMessage(
                    stream=stream_map.stream_alias,
                    record=mapped,
                    version=self._stream_version,
                    time_extracted=dt.datetime.now(dt.UTC),
                )

    def _map_lines(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        with self._translate_mapping_errors():
            for record in decode_records(lines):
                for message in self._generate_record_messages(record):
                    yield encode_record(message.record) + b"\n"

    @contextlib.contextmanager
    def _translate_mapping_errors(self) -> Iterator[None]:
        try:
            yield
        except RecursionError:
            raise StreamError(
                f"{self.name}: a record is nested too deeply for stream maps and flattening: "
                "run without them, or exclude the record with a filter"
            ) from None
        except IntegerTooLongError:
            raise StreamError(
                f"{self.name}: a record has an integer with too many digits for stream maps and flattening: "
                "run without them, or exclude the record with a filter"
            ) from None

    def _finish_chunk(self, chunk: SpooledChunk, delivered: Any) -> None:
        """Write the rejected lines and the state after all records of a chunk are written."""
        if chunk.rejected and self.settings.bad_lines_path:
            # Write them before the bookmark moves, because later runs do not request these lines again.
            try:
                write_rejected_lines(self.settings.bad_lines_path, chunk.rejected_lines.blocks())
            except RejectedLinesError as error:
                raise DiskError(f"{self.name}: bad_lines_path {error}; free some space or set another path") from None
            text = "%s: %d malformed, the first at position %d of the response; written to bad_lines_path"
            self.log(text, chunk.what, chunk.rejected, chunk.first_rejected)
        if delivered is not None:
            self.move_bookmark(delivered)
        self.state_manager.is_flushed = False
        self._write_state_message()
        self.progress.add(chunk)

    @contextlib.contextmanager
    def _summarizing(self) -> Iterator[None]:
        """Log warnings about rejected lines and changed values at the end, even after an error."""
        progress = self.progress
        try:
            yield
        finally:
            if progress.rejected:
                where = self.settings.bad_lines_path
                self.log("%d malformed lines written to %s", progress.rejected, where, level=logging.WARNING)
            if progress.nuls:
                self.log(r"%d \u0000 removed from strings (strip_nul)", progress.nuls, level=logging.WARNING)
            if progress.misfits:
                counts = ", ".join(f"{column} {count}" for column, count in progress.misfits.most_common())
                text = "values that do not fit their column's type, null in the column and kept in properties: %s"
                self.log(text, counts, level=logging.WARNING, extra={"misfits": dict(progress.misfits)})

    def move_bookmark(self, delivered: Any) -> None:
        """Update the state after a chunk is delivered. Streams without a bookmark do not implement this.

        Args:
            delivered: The argument that `chunks` yielded with the chunk.
        """
        raise NotImplementedError

    def get_records(self, context: Context | None) -> Iterable[Record]:
        """Not used, since records arrive in chunks."""
        raise NotImplementedError


def _column_types(schema: Mapping[str, Any]) -> dict[str, tuple[frozenset[str], str | None]]:
    """Return the JSON types and the format of each column."""
    columns: dict[str, dict[str, Any]] = schema.get("properties", {})
    return {
        name: (frozenset([kind] if isinstance(kind := column.get("type", []), str) else kind), column.get("format"))
        for name, column in columns.items()
    }
