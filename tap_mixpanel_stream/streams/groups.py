"""A stream for each group that has profiles of its own, such as companies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..mixpanel.engage import EngageOptions
from .profiles import ProfilesStream

if TYPE_CHECKING:
    from singer_sdk import Tap

    from ..records.shapes import ProfileShape
    from ..run import Run
    from ..settings import Group


class GroupProfilesStream(ProfilesStream):
    """All profiles of one group, in the shape of user profiles."""

    rank = 2
    narrowed_by = ("group_profiles", "workspace_id", "profiles_page_size")

    def __init__(self, tap: Tap, run: Run, shape: ProfileShape, group: Group) -> None:
        super().__init__(tap, run, shape, group.name)
        self._data_group_id = group.data_group_id

    def which(self) -> EngageOptions:
        """Ask for the whole group: what narrows the users says nothing about it."""
        return EngageOptions(data_group_id=self._data_group_id)
