"""What one run shares: settings, clock, quota, client, stdout and logger."""

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
    """What the streams of one run share.

    Attributes:
        settings: The checked settings. Discovery needs none, and sets none.
        clock: The run's clock.
        stdout: The one way to stdout.
        lines: Writes the SDK's messages to stdout.
        log: The tap's logger.
        state_source: How messages call the state.
        event_names: The names of the events read so far; None while no stream asks for them.
    """

    settings: Settings

    def __init__(self, program: str, log: logging.Logger, state_source: str) -> None:
        """Send nothing yet.

        Args:
            program: Name and version, as requests introduce themselves if `user_agent` is absent.
            log: The tap's logger.
            state_source: How messages call the state.
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
        """The accounts of this run's requests."""
        settings = self.settings
        return Quota(self.clock, hourly=settings.hourly_quota, max_wait=settings.max_quota_wait)

    @functools.cached_property
    def client(self) -> Client:
        """The client for the project's region."""
        return self.client_at(self.settings.hosts)

    def client_at(self, hosts: Hosts) -> Client:
        """Make a client for a region."""
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

    def renew(self) -> None:
        """Make everything ready for the next stream, after one that failed and may have stopped all requests."""
        self.lines.discard()
        self.client.close()
        del self.client
        self.clock = self.clock.unstopped_copy()
        self.quota.replace_clock(self.clock)
