"""The context of a run, shared by the streams and the doctor: settings, clock, quota, client, stdout and logger."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from .delivery.record_writer import LineWriter
from .delivery.stdout import Stdout
from .mixpanel.client import Client
from .mixpanel.clock import Clock
from .mixpanel.quota import Quota

if TYPE_CHECKING:
    import logging

    from .mixpanel.request import Hosts
    from .settings import Settings


class Run:
    """The context that all streams of a run share.

    Attributes:
        settings: The validated settings. Not set in discovery, which does not need them.
        clock: The run's clock.
        stdout: The only writer to stdout.
        lines: Writes the SDK's messages to `stdout`.
        log: The tap's logger.
        state_source: Where the state comes from, for messages.
        event_names: The names of the events read so far; None if no stream needs them.
    """

    settings: Settings

    def __init__(self, program: str, log: logging.Logger, state_source: str) -> None:
        """Create a run without sending a request.

        Args:
            program: The name and version of the tap: the `User-Agent` header if `user_agent` is not set.
            log: The tap's logger.
            state_source: Where the state comes from, for messages.
        """
        self._program = program
        self.log = log
        self.clock = Clock()
        self.stdout = Stdout()
        self.lines = LineWriter(self.stdout)
        self.state_source = state_source
        self.event_names: set[str] | None = None

    @functools.cached_property
    def quota(self) -> Quota:
        """The limits on requests and waiting that this run respects."""
        settings = self.settings
        return Quota(self.clock, hourly=settings.hourly_quota, max_wait=settings.max_quota_wait)

    @functools.cached_property
    def client(self) -> Client:
        """The client for the project's region."""
        return self.client_at(self.settings.hosts)

    def client_at(self, hosts: Hosts) -> Client:
        """Return a new client for a region."""
        settings = self.settings
        return Client(
            hosts,
            settings.auth,
            self.quota,
            self.clock,
            request_timeout=settings.request_timeout,
            user_agent=settings.user_agent or self._program,
            workspace_id=settings.workspace_id,
            zone=settings.zone,
        )

    def reset_after_failure(self) -> None:
        """Prepare for the next stream after a stream failed, which may have stopped the client and the clock."""
        self.lines.discard()
        self.client.close()
        del self.client
        self.clock = self.clock.unstopped_copy()
        self.quota.replace_clock(self.clock)
