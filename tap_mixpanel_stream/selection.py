"""Select the streams to read: by the catalog, or by the setting `streams` if there is no catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from singer_sdk.singerlib import Catalog

from .settings import SettingsError
from .settings.errors import suggested_stream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from singer_sdk import Tap

    from .streams.base import MixpanelStream


def read_catalog(content: Mapping[str, Any]) -> Catalog:
    """Read a catalog.

    Raises:
        SettingsError: The content is not a Singer catalog.
    """
    if not isinstance(content.get("streams"), list):
        raise SettingsError(["--catalog is not a Singer catalog, which has a list `streams`: run discovery again"])
    try:
        return Catalog.from_dict(dict(content))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SettingsError(["--catalog is not a Singer catalog: run discovery again"]) from None


def select_by_default(streams: Sequence[MixpanelStream], config: Mapping[str, Any]) -> None:
    """If the setting `streams` is set, select its streams instead of events, profiles and groups.

    Raises:
        SettingsError: The setting names an unknown stream.
    """
    wanted = config.get("streams")
    if wanted is None:
        return
    names = [stream.name for stream in streams]
    if not isinstance(wanted, list):
        raise SettingsError(['setting streams takes a JSON array of strings, such as ["events", "profiles"]'])
    unknown = [name for name in map(str, wanted) if name not in names]
    if unknown:
        raise SettingsError([f"streams: unknown stream {name}: {suggested_stream(name, names)}" for name in unknown])
    for stream in streams:
        stream.selected_by_default = stream.name in wanted


def check_selection(tap: Tap) -> None:
    """Check that at least one stream is selected, and that the catalog matches the streams.

    Raises:
        SettingsError: No stream is selected, or a selected stream is unknown or renamed.
    """
    catalog, wanted = tap.input_catalog, tap.config.get("streams")
    selected = {name for name, stream in tap.streams.items() if stream.selected}
    if catalog is None:
        if not selected:
            raise SettingsError(["streams is empty: name the streams to read, or leave it out"])
        return
    for entry in catalog.streams:
        name = entry.tap_stream_id
        if not entry.metadata.resolve_selection().get((), True):
            continue
        if name not in tap.streams:
            problem = f"the catalog selects the unknown stream {name}: deselect it, or add it to group_profiles"
            raise SettingsError([problem])
        if entry.stream not in {None, name}:
            problem = f"the catalog renames the stream {name}: rename it with __alias__ in stream_maps instead"
            raise SettingsError([problem])
    if not selected:
        raise SettingsError(["the catalog selects no stream: set `selected` in the metadata of the streams to read"])
    if wanted is not None and selected != set(wanted):
        tap.logger.warning("streams is ignored, since the catalog selects %s", ", ".join(sorted(selected)))
