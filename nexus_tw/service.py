"""The service that `twistd` runs: a node, or a parent of several, and the endpoints listened on."""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw import __version__, auth, handlers, logs, workers
from nexus_tw.bus import open_bus
from nexus_tw.config import Configuration
from nexus_tw.errors import ConfigError
from nexus_tw.metrics import Metrics
from nexus_tw.server import Server
from nexus_tw.store import open_store
from nexus_tw.transport.endpoints import Listener, listener, plain
from nexus_tw.transport.listen import listen

RESERVED: Final = 64  # file descriptors for everything that is not a client
# Young objects between two collections. The default of 700 has a busy server walk its connections many times a second.
COLLECT_AFTER: Final = (50000, 20, 50)

def make(configuration: Configuration, twistd: Mapping[str, Any]) -> IService:
    """The service for a configuration, with its log; `twistd` holds twistd's own options.

    Raises `ConfigError` before anything listens.
    """
    from twisted.internet import reactor

    settings = configuration.settings
    if settings.workers > 1:
        workers.check(settings)
    # With workers this node never starts, but what is wrong with it is said before there are any.
    runner: Runner = Node(reactor, configuration, [listener(reactor, text, settings.tls) for text in settings.listen])
    if settings.workers > 1:
        runner = workers.Parent(reactor, configuration, [(text, plain(reactor, text)) for text in settings.listen])
    top = logs.LoggedService(logs.for_twistd(settings.log, twistd))
    RunnerService(reactor, runner).setServiceParent(top)  # type: ignore[no-untyped-call]
    return top


class Runner(Protocol):
    """What a service runs."""

    async def start(self) -> None:
        """Raises `ConfigError` where there can be no server."""

    async def stop(self) -> None:
        """Lets go of everything, also what a failed start left."""


class RunnerService(Service):
    """Runs something whose start takes a while and may fail, which ends the process with a line that says why."""

    _log = Logger()

    def __init__(self, reactor: Any, runner: Runner) -> None:
        self._reactor = reactor
        self._runner = runner

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._begin)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._runner.stop())

    def _begin(self) -> None:
        ensureDeferred(self._runner.start()).addErrback(self._give_up)

    def _give_up(self, failure: Failure) -> None:
        if failure.check(ConfigError):
            sys.__stderr__.write(f"nexus: {failure.getErrorMessage()}\n")  # type: ignore[union-attr]
        else:
            self._log.failure("Nexus cannot start", failure)
        # twistd has no way to be told that it failed once the reactor runs.
        self._reactor.addSystemEventTrigger("after", "shutdown", _exit_failed)
        self._reactor.stop()


class Node:
    """One node and what it listens on."""

    _log = Logger()

    def __init__(self, reactor: Any, configuration: Configuration, listeners: list[Listener]) -> None:
        settings = configuration.settings
        self._configuration = configuration
        self._listeners = listeners
        self._ports: list[IListeningPort] = []
        metrics = Metrics()
        name = node_name()
        self._server = Server(
            reactor,
            settings,
            {realm: open_bus(settings.bus.url, reactor, metrics, name, realm) for realm in settings.realms},
            open_store(settings.store.url, reactor),
            auth.build(settings, configuration.token, reactor),
            handlers.load(settings.commands),
            metrics,
            raise_descriptor_limit() - RESERVED,
        )

    async def start(self) -> None:
        await self._server.start()
        self._ports = [await listen(each.text, each.endpoint, self._server.doors) for each in self._listeners]
        settings = self._configuration.settings
        self._log.info(
            "Nexus {version} listens on {listen}; bus {bus}, store {store}",
            version=__version__,
            listen=", ".join(settings.listen),
            bus=settings.bus.url.partition(":")[0],
            store=settings.store.url.partition(":")[0],
        )
        if self._configuration.one_off:
            self._greet()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    async def stop(self) -> None:
        if self._ports:
            self._log.info("Shutting down, with {count} connections", count=len(self._server.connections))
        await self._server.drain()
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        await self._server.stop()
        if self._ports:
            self._log.info("Nexus has ended")

    def _greet(self) -> None:
        # Neither a token nor [auth] is configured: a first look. The one place where a token is shown.
        port = next((port for port in (getattr(port.getHost(), "port", None) for port in self._ports) if port), None)
        self._log.info(
            "Open http://localhost:{port}/ with the token {token} (made for this run, with all rights; "
            "NEXUS_TOKEN or [auth] give one that lasts)",
            port=port or "?",
            token=self._configuration.token,
            one_off=True,
        )


def node_name() -> str:
    """A name that no other node has."""
    return f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"


def raise_descriptor_limit() -> int:
    """Raises the limit of open files as far as it may be, and gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems say a hard limit that they do not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft > 0 else 1 << 20


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
