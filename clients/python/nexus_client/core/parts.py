"""Everything that a connection carries, as one."""

from __future__ import annotations

from collections.abc import Callable

from nexus_client.core.effects import Broadcast, Report
from nexus_client.core.executions import Executions
from nexus_client.core.link import Link
from nexus_client.core.messages import Message
from nexus_client.core.options import Options
from nexus_client.core.registrations import Registrations
from nexus_client.core.requests import Requests
from nexus_client.core.sender import Sender
from nexus_client.core.stats import Stats
from nexus_client.core.subscriptions import Subscriptions
from nexus_client.errors import Stopped


class Parts:
    """The parts, in the order in which they speak on a new connection."""

    def __init__(self, link: Link, stats: Stats, options: Options, new_id: Callable[[], str]) -> None:
        self._link = link
        self.registrations = Registrations(link, options.agent)
        self.subscriptions = Subscriptions(link, stats)
        self.requests = Requests(link, options.requests, new_id)
        self.executions = Executions(link, self.registrations, stats, options.handlers)
        self.sender = Sender(link, stats)

    def connected(self, now: float) -> None:
        self.registrations.connected(now)
        self.subscriptions.connected(now)
        self.requests.connected()
        self.sender.connected(now)

    def message(self, now: float, message: Message) -> None:
        """Take a message that is not about the connection itself."""
        kind = message.type
        if kind == "event":
            self.subscriptions.event(message)
        elif kind == "command":
            if self._link.up:
                self.executions.command(now, message)
        elif kind == "command_cancel":
            self.executions.cancel(message)
        elif kind == "continuity":
            self.subscriptions.continuity(message)
        elif kind == "broadcast":
            self._link.emit(Broadcast(message.data))
        elif message.id is not None:
            self._link.answered(now, message)
        elif kind == "unsubscribed":
            self.subscriptions.ended(message)
        elif kind == "unregistered":
            self.registrations.ended(message)
        elif kind == "error":
            self._link.emit(Report("protocol", f"{message.code}: {message.message}"))

    def lost(self) -> None:
        """The connection has ended; there will be another one."""
        self.requests.lost()
        self.subscriptions.lost()
        self.registrations.lost()
        self.sender.lost()

    def stopped(self, error: Stopped) -> None:
        """There will be no other connection: what waits ends with the error."""
        self.requests.fail_all(error)
        self.subscriptions.close_all(None if type(error) is Stopped else error)
        self.executions.cancel_all()

    def deadline(self) -> float | None:
        times = [self.requests.deadline(), self.executions.deadline()]
        if self._link.up:
            times += (self.subscriptions.deadline(), self.registrations.deadline(), self.sender.deadline())
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        self.subscriptions.tick(now)
        self.registrations.tick(now)
        self.requests.tick(now)
        self.executions.tick(now)
        self.sender.tick(now)
