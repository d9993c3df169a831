"""Nexus as a part of a Twisted application: a service beside others, with handlers that share their objects.

The application keeps what belongs to the process: its log, its signals, its end. Several services may be in one process, each
with its own endpoints, store and bus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.app.config import load
from nexus_tw.app.node import Node
from nexus_tw.interfaces.plugins import Handler
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import DEFAULT_REALM
from nexus_tw.runtime.walltime import keep_steady
from nexus_tw.transport.listening.endpoints import listener

EMBEDDER: Final = "application"  # the subject under which the application publishes


class NexusService(Service):
    """A node of Nexus. Starts with the application, and serves once.

    `listen`, `bus`, `store` and `token` are those of `twistd nexus` and win over the configuration file `config`; relative
    paths begin at the process's working directory. `commands` maps names to handlers
    (`nexus_tw.interfaces.plugins.Handler`). The environment counts only as far as it is handed in: `environ=os.environ`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        config: str | None = None,
        listen: Sequence[str] = (),
        bus: str | None = None,
        store: str | None = None,
        token: str | None = None,
        commands: Mapping[str, Handler] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Raise `ConfigError` if this cannot be served; the text names the key and the reason."""
        options = {"config": config, "listen": listen, "bus": bus, "store": store, "token": token}
        configuration = load(options, environ or {})
        settings = configuration.settings
        if configuration.one_off:
            raise ConfigError("auth: no client could authenticate: pass token=…, or name a file with [[auth.keys]] or the like")
        if settings.workers > 1:
            raise ConfigError("workers: only `twistd nexus` starts workers")
        keep_steady(reactor)
        self._reactor = reactor
        listeners = [listener(reactor, text, settings.tls) for text in settings.listen]
        # An application says itself how to begin.
        configuration = replace(configuration, first_look=False)
        self._node = Node(reactor, configuration, listeners, Metrics(), commands)
        self._began = False
        self._outcome: Failure | None = None
        self._up = False
        self._waiting: list[Deferred[None]] = []

    def startService(self) -> None:
        if self._began:
            raise RuntimeError("a NexusService serves once: make another one")
        super().startService()  # type: ignore[no-untyped-call]
        self._began = True
        # In the first turn of the reactor: asyncio's loop runs only from then on, and stores and buses may need it.
        self._reactor.callWhenRunning(self._reactor.callLater, 0, self._begin)

    def stopService(self) -> Deferred[None]:
        """Stop accepting clients, tell those that are connected when to return, and close store and bus."""
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._node.stop())

    def started(self) -> Deferred[None]:
        """Return a Deferred that fires once clients are served, or fails with `ConfigError` (or what a store or bus raised) if
        that is impossible. The application decides what follows from a failure: Nexus then serves nobody, and has said why in
        the log."""
        told: Deferred[None] = Deferred()
        if self._outcome is not None:
            told.errback(self._outcome)
        elif self._up:
            told.callback(None)
        else:
            self._waiting.append(told)
        return told

    @property
    def addresses(self) -> list[Any]:
        """The addresses on which it listens (`IPv4Address` with its `port`, and the like), in the order of `listen`; none
        before it has started."""
        return [port.getHost() for port in self._node.ports]

    def publish(self, event_type: str, data: Any) -> Deferred[str | None]:
        """Publish an event with all rights; `data` is JSON.

        Fire with the event's position, None without history, once the bus has accepted it. Fail with `NexusError`, such as
        `bus_unavailable`, or `invalid_message` for a wrong event type; with `TypeError` if `data` is no JSON.
        """
        told: Deferred[str | None] = Deferred()

        def ok(position: Position | None) -> None:
            told.callback(None if position is None else str(position))

        def fail(error: NexusError) -> None:
            told.errback(Failure(error))

        try:
            payload = Payload.of_value(msgspec.json.encode(data))
        except (TypeError, ValueError, RecursionError):
            told.errback(Failure())
        else:
            me = Principal(EMBEDDER, "admin", ADMIN)
            self._node.server.realms[DEFAULT_REALM].publish(me, event_type, payload, ok, fail)
        return told

    def _begin(self) -> None:
        if self.running:
            ensureDeferred(self._node.start()).addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, _none: None) -> None:
        self._up = True
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            told.callback(None)

    def _failed(self, failure: Failure) -> None:
        self._outcome = failure
        self._log.critical("Nexus cannot start: {why}", why=failure.getErrorMessage())
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            told.errback(failure)
