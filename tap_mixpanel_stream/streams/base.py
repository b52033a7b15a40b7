"""What all streams share: how complete chunks become messages or batch files, and how a stream begins and ends."""

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

    A chunk reaches stdout in one of two ways. The block route copies record lines as they were spooled. The SDK's route
    decodes them and takes each record through property selection, stream maps and flattening; it is used only if one of
    these has something to do. Records and state are the same on both.
    """

    chunk_name: str
    """The log's word for a chunk of this stream."""

    rank: ClassVar[int] = 3
    """The order of a run: streams of a lower rank come first, those of the same rank by name."""

    unit: str
    """The unit of its chunks' extent."""

    api: Api = "query"
    """The API that the stream uses, which has a quota of its own."""

    started_at: dt.datetime
    """The instant before the run's first request for this stream, UTC."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    """The records fit their schemas by construction. Conforming would turn `"false"` into true."""

    def __init__(self, tap: Tap, run: Run, schema: RecordSchema, name: str) -> None:
        super().__init__(tap, schema=schema.schema, name=name)
        # A plain logger. From singer-sdk 0.55 on it is an adapter, which drops the fields that a log line gives.
        self._logger = tap.logger.getChild(name)
        self.run = run
        self.primary_keys = list(schema.key_properties)
        self._columns = schema.columns
        self._chosen_columns = {column.name for column in schema.property_columns}

    @property
    def settings(self) -> Settings:
        """Return the checked settings."""
        return self.run.settings

    @property
    def client(self) -> Client:
        """Return the client, one for all streams of a run."""
        return self.run.client

    @property
    def clock(self) -> Clock:
        """Return the run's clock."""
        return self.run.clock

    @property
    def is_incremental(self) -> bool:
        """Return whether the run continues from the stream's bookmark."""
        return self.replication_method == "INCREMENTAL"

    def set_settings(self, *names: str) -> tuple[str, ...]:
        """Return those of the settings that are set, to name them in messages."""
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
        """Return the progress of the stream."""
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
        """Return the stream's bookmark in the present state."""
        value: str | None = self.tap_state.get("bookmarks", {}).get(self.name, {}).get("replication_key_value")
        return value

    @property
    def state_before(self) -> Mapping[str, Any]:
        """Return the stream's entry in the state; empty in a first run."""
        state: Mapping[str, Any] = self.tap_state.get("bookmarks", {}).get(self.name, {})
        return state

    def instant_in_state(self, name: str) -> dt.datetime | None:
        """Return an instant that an earlier run left in the state, None if it left none.

        Raises:
            SettingsError: The state holds something else.
        """
        text = self.state_before.get(name)
        if text is None:
            return None
        try:
            return parse_bookmark(text, name)
        except ValueError as error:
            raise self.state_error(f"is broken: {error}") from None

    def state_error(self, problem: str) -> SettingsError:
        """Return the error for a bookmark that cannot be used."""
        return SettingsError([f"{self.run.state_source}: the bookmark of {self.name} {problem}"])

    def refuse_future(self, name: str, instant: dt.datetime | None) -> None:
        """Refuse an instant in the state after today: a run would read nothing until then.

        Args:
            name: What the state calls it.
            instant: The instant, None where there is none.

        Raises:
            SettingsError: It lies after the end of today in the project's time zone.
        """
        now = self.clock.now()
        today = now.astimezone(self.settings.zone).date()
        # A bookmark is the end of a day at the latest. Another machine's clock may be a little ahead.
        latest = max(end_instant(Window(today, today), self.settings.zone, now + 2 * DAY), now + MAX_CLOCK_LEAD)
        if instant is not None and instant > latest:
            raise self.state_error(
                f"is in the future: {name} is {bookmark_text(instant)}, and nothing would be read until then. "
                f"Set it to the instant up to which the stream is delivered, {bookmark_text(now)} at the latest, or "
                "remove the bookmark to read everything"
            )

    def on_poll(self) -> None:
        """Check the target and log progress while the main thread waits; raise to end the wait."""
        self.stdout.check_reader()
        self.progress.tick()

    @property
    def stdout(self) -> Stdout:
        """Return the only writer to stdout."""
        return self.run.stdout

    @abc.abstractmethod
    def chunks(self, envelope: Envelope) -> AbstractContextManager[Iterator[tuple[SpooledChunk, Any]]]:
        """Fetch what this run is to deliver.

        Args:
            envelope: The RECORD message around each record.

        Returns:
            The chunks in order, each with the argument of `move_bookmark` once it is out (None: no bookmark moves).
        """

    @abc.abstractmethod
    def sample(self, count: int) -> SpooledChunk:
        """Fetch about `count` bare records by the smallest request there is."""

    def check_start(self) -> None:
        """Check at start-up what only a selected stream needs; raise SettingsError."""

    def check_batches(self) -> None:
        """Refuse at start-up what batch files cannot do.

        Raises:
            SettingsError: `batch_config` is used with a setting that it excludes.
        """
        if len(self.stream_maps) > 1:
            raise SettingsError([f"batch_config: {SEVERAL_STREAMS.format(self.name)}"])
        is_removed = isinstance(self.stream_maps[0], RemoveRecordTransform)
        if self.is_versioned and self.settings.emit_activate_version_messages and not is_removed:
            problem = (
                "emit_activate_version_messages: batch files carry no version, so a target would delete their rows: "
                "remove this setting or batch_config"
            )
            raise SettingsError([problem])

    # --- Tables that are delivered whole -----------------------------------------------------------------------------

    @property
    def refreshes(self) -> bool:
        """Return whether this run delivers the whole table, so that rows which it does not bring were deleted."""
        return self.replication_method == "FULL_TABLE"

    @property
    def is_versioned(self) -> bool:
        """Whether ACTIVATE_VERSION messages, if wanted, make a version of its table, which its records carry."""
        return self.refreshes

    @property
    def refreshed_at(self) -> dt.datetime | None:
        """Return when the run began that last delivered the whole table, this one included; None if none did."""
        return self.started_at if self.refreshes else None

    is_withheld = False
    """Whether this run left the stream empty because the plan or the role does not include it."""

    has_earlier_rows = False
    """Whether earlier runs delivered rows of the table that this run completes."""

    @property
    def gap(self) -> str | None:
        """Return why this run did not deliver the whole table, None if it did."""
        # No records are more likely a failure than a table that lost all its rows at once.
        return None if self.progress.records or self.has_earlier_rows else "no records were read"

    @property
    def emit_activate_version_messages(self) -> bool:
        """Return false: the SDK would send the message before the first record.

        A target drops older rows as soon as it reads the message, and would lose the rows that a failing run does not
        deliver. So the records carry the version, and the message follows the last one.
        """
        return False

    def complete(self) -> None:
        """Write what only a complete run knows into the state."""

    def _begin(self) -> None:
        self.started_at = self.clock.now()
        wanted = self.settings.emit_activate_version_messages
        # A run that delivers some rows only adds them to the table of the last complete run.
        # In milliseconds: two small runs can begin within a second, and a target drops rows of lower versions only.
        refreshed = self.refreshed_at if wanted else None
        self._stream_version = (refreshed - EPOCH) // dt.timedelta(milliseconds=1) if refreshed else None

    def _end(self) -> None:
        # Without any chunk there was nothing to request, or Mixpanel withheld it: that says nothing about the table.
        has_read = self.progress.chunks or self.has_earlier_rows
        if self._stream_version is not None and self.refreshes and has_read:
            if self.gap:
                text = "%s: ACTIVATE_VERSION is not sent, so the target keeps its rows"
                self.log(text, self.gap, level=logging.WARNING)
            else:
                self._write_activate_version_message(self._stream_version)
        self.complete()
        self.state_manager.is_flushed = False
        self._write_state_message()

    # --- SCHEMA and catalog ----------------------------------------------------------------------------------------

    def apply_catalog(self, catalog: Catalog) -> None:
        """Apply selection, replication method and key of a catalog; what it leaves out stays as discovered.

        Raises:
            SettingsError: The catalog was discovered with other columns or types.
        """
        key, replication_key = self.primary_keys, self.replication_key
        super().apply_catalog(catalog)
        self.primary_keys = self.primary_keys or key
        self.replication_key = replication_key
        entry = catalog.get_stream(self.name)
        if not self.selected or entry is None:
            return
        types = _column_types(entry.schema.to_dict())
        if not self._chosen_columns <= types.keys() or not types.items() <= _column_types(self._schema or {}).items():
            problem = (
                f"the catalog's columns of {self.name} differ from those of the settings (raw, event_columns, "
                "profile_columns): run discovery again"
            )
            raise SettingsError([problem])

    def write_schema(self) -> None:
        """Write the stream's SCHEMA message."""
        self._write_schema_message()

    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return no signpost: a bookmark comes from a complete window, never from a record."""

    def get_batch_config(self, config: Mapping[str, Any]) -> BatchConfig | None:
        """Return the batch configuration; `--test` writes its records to stdout."""
        return None if self.ABORT_AT_RECORD_COUNT is not None else super().get_batch_config(config)

    def _generate_schema_messages(self) -> Generator[SchemaMessage, None, None]:
        for message in super()._generate_schema_messages():
            # Raw events have no such column, and a stream map can remove it from normalized events.
            if self.replication_key not in message.schema.get("properties", {}):
                message.bookmark_properties = None
            yield message

    # --- Records and batches ------------------------------------------------------------------------------------------

    @property
    def takes_block_route(self) -> bool:
        """Return whether records can be copied as they are."""
        maps = self.stream_maps
        untouched = len(maps) == 1 and type(maps[0]) is SameRecordTransform and not maps[0].flattening_enabled
        return untouched and not self._selects_inside

    @functools.cached_property
    def _selects_inside(self) -> bool:
        """Return whether a property inside a column is deselected; the conversion leaves out whole columns itself."""
        column_depth = 2  # a breadcrumb is ("properties", column, …)
        return not all(selected or len(breadcrumb) <= column_depth for breadcrumb, selected in self.mask.items())

    @property
    def selected_columns(self) -> frozenset[str] | None:
        """Return the columns to deliver, None for all of them."""
        chosen = frozenset(column for column in self._columns if self.mask["properties", column])
        return None if len(chosen) == len(self._columns) else chosen

    def _sync_records(
        self,
        context: Context | None = None,  # noqa: ARG002 - the SDK's
        *,
        write_messages: bool = True,
    ) -> Generator[dict[str, Any], Any, Any]:
        if not write_messages:
            raise TypeError("batches are made from chunks")
        if self.ABORT_AT_RECORD_COUNT is not None:
            yield from self._write_sample(self.ABORT_AT_RECORD_COUNT)
            return
        self._begin()
        if self.takes_block_route:
            envelope = record_envelope(self.name, dt.datetime.now(tz=dt.UTC), self._stream_version)
            yield from self._deliver(envelope, self._write_blocks)
        else:
            yield from self._deliver(BARE, self._write_records)

    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,  # noqa: ARG002 - the SDK's
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Write batch files, chunk by chunk; the bookmark moves when a chunk's last manifest is written."""
        # `check_batches` has rejected what batch files cannot do.
        if isinstance(self.stream_maps[0], RemoveRecordTransform):
            return
        self._begin()
        yield from self._deliver(BARE, functools.partial(self._write_batch_files, batch_config))

    def _deliver(self, envelope: Envelope, write: Callable[[SpooledChunk], Iterable[T]]) -> Iterator[T]:
        """Write chunk after chunk, and move the bookmark over each once it is out.

        Args:
            envelope: The RECORD message around each record.
            write: Writes a chunk, and yields what the SDK expects of it: records, or manifests of batch files.
        """
        with self.get_record_counter() as counter, self.get_sync_timer(), self._summarizing():
            with self.progress, self.chunks(envelope) as chunks:
                for chunk, delivered in chunks:
                    with chunk:
                        yield from write(chunk)
                        counter.increment(chunk.records)
                        self._finish_chunk(chunk, delivered)
            self._end()
            self.progress.sum_up(self.bookmark_value)

    def _write_sample(self, count: int) -> Iterator[dict[str, Any]]:
        """Write at most `count` records, and no bookmark."""
        with self.get_record_counter() as counter, self.get_sync_timer(), self._summarizing():
            with self.sample(count) as chunk:
                for record in islice(decode_records(chunk.lines.lines()), count):
                    self._write_record_message(record)
                    counter.increment()
                    yield record
            self.run.lines.flush()
            self._write_state_message()

    def _write_blocks(self, chunk: SpooledChunk) -> Iterable[dict[str, Any]]:
        """Copy record lines to stdout as they are; the SDK gets no record to look at."""
        for block in chunk.lines.blocks():
            self.stdout.write(block)
        return ()

    def _write_records(self, chunk: SpooledChunk) -> Iterator[dict[str, Any]]:
        """Write record by record, through selection, stream maps and flattening."""
        with self._translate_mapping_errors():
            for record in decode_records(chunk.lines.lines()):
                self._write_record_message(record)
                yield record
        self.run.lines.flush()

    def _write_batch_files(
        self, config: BatchConfig, chunk: SpooledChunk
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        blocks = chunk.lines.blocks() if self.takes_block_route else self._map_lines(chunk.lines.lines())
        for url in batch_files(blocks, config, f"{self.tap_name}--{self.name}"):
            yield config.encoding, [url]

    def _generate_record_messages(self, record: Record) -> Generator[RecordMessage, None, None]:
        if self._selects_inside:  # Removing deselected properties costs as much as all the rest.
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
        """Write rejected lines and the state, after the last byte of a chunk was written."""
        if chunk.rejected and self.settings.bad_lines_path:
            # Before the bookmark moves: after that, these lines are not requested again.
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
        """Log at the end, also after an error, what an operator should look at."""
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
        """Write what a chunk delivered into the state. Only for streams that have bookmarks."""
        raise NotImplementedError

    def get_records(self, context: Context | None) -> Iterable[Record]:
        """Not used: records come in chunks."""
        raise NotImplementedError


def _column_types(schema: Mapping[str, Any]) -> dict[str, tuple[frozenset[str], str | None]]:
    """Return the JSON types and the format of each column."""
    columns: dict[str, dict[str, Any]] = schema.get("properties", {})
    return {
        name: (frozenset([kind] if isinstance(kind := column.get("type", []), str) else kind), column.get("format"))
        for name, column in columns.items()
    }
