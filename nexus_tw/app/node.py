"""One node of Nexus and its listening endpoints."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from nexus_tw import __version__, auth
from nexus_tw.app import greeting
from nexus_tw.app.config import Configuration
from nexus_tw.app.server import Server
from nexus_tw.bus import open_bus
from nexus_tw.commands import handlers
from nexus_tw.commands.threads import Threads
from nexus_tw.interfaces.plugins import Handler
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Settings, renew
from nexus_tw.realm.authorization import procedure_of
from nexus_tw.runtime import plugins
from nexus_tw.store import open_store
from nexus_tw.transport.listening.endpoints import ListeningEndpoint
from nexus_tw.transport.listening.listen import listen

RESERVED: Final = 64  # file descriptors for everything that is not a client


class Node:
    """One node and its listening endpoints."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        listeners: list[ListeningEndpoint],
        metrics: Metrics,
        commands: Mapping[str, Handler] | None = None,
    ) -> None:
        """`commands` are handlers of an application around the node, beside those of the configuration."""
        settings = configuration.settings
        self._configuration = configuration
        self._listeners = listeners
        self.ports: list[IListeningPort] = []
        name = node_name()
        if settings.python_path and _imports(settings):
            plugins.search(settings.python_path)
        limits = self._limits = copy(settings.limits)  # the buses read it when they need it
        self._threads = Threads(reactor, settings.limits, metrics)
        self.server = Server(
            reactor,
            settings,
            {
                realm: open_bus(
                    settings.bus.url, reactor, metrics, name, realm, settings.history, settings.bus.adopt, limits
                )
                for realm in settings.realms
            },
            open_store(settings.store.url, reactor),
            auth.build(settings, configuration.token, reactor),
            handlers.load(settings.commands, self._threads, commands or {}),
            metrics,
            raise_descriptor_limit() - RESERVED,
            self._threads,
        )

    async def start(self) -> None:
        await self.server.start()
        for each in self._listeners:
            if each.certificates is not None:
                each.certificates.watch()
        self.ports = [await listen(each.text, each.endpoint, self.server.doors) for each in self._listeners]
        settings = self._configuration.settings
        self._log.info(
            "Nexus {version} listens on {listen}; bus {bus}, store {store}",
            version=__version__,
            listen=", ".join(settings.listen),
            bus=settings.bus.url.partition(":")[0],
            store=settings.store.url.partition(":")[0],
        )
        if self._configuration.first_look:
            self._greet()

    async def take(self, settings: Settings) -> None:
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Like `take`, at once."""
        prepared = [each.prepared(settings.tls) for each in self._listeners]
        self.server.reconfigure(settings, self._configuration.token)
        self._threads.take(settings.limits)
        renew(self._limits, settings.limits)
        for take in filter(None, prepared):
            take()

    async def stop(self) -> None:
        if self.ports:
            self._log.info("Shutting down, with {count} connections", count=len(self.server.connections))
        for each in self._listeners:
            if each.certificates is not None:
                each.certificates.unwatch()
        await self.server.drain()
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        await self._threads.stop()
        await self.server.stop()
        if self.ports:
            self._log.info("Nexus has ended")

    def _greet(self) -> None:
        one_off = self._configuration.one_off
        token = self._configuration.token if one_off else None
        addresses = [port.getHost() for port in self.ports]
        port = next((address.port for address in addresses if hasattr(address, "port")), None)
        # The only place that prints a token: one that was made because neither a token nor [auth] is configured.
        self._log.info("{greeting}", greeting=greeting.first_steps(token, port, greeting.companion()), one_off=one_off)


def _imports(settings: Settings) -> bool:
    """Return whether the file names Python functions."""
    functions = [realm.authorizer for realm in settings.realms.values() if realm.authorizer]
    return bool(settings.commands) or any(procedure_of(function) is None for function in functions)


def node_name() -> str:
    """Return a name that no other node has."""
    return f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"


def raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems report a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft > 0 else 1 << 20
