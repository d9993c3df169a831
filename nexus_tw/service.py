"""The service that `twistd` runs: a node and the endpoints it listens on. The only module that names the reactor."""

from __future__ import annotations

import gc
import os
import resource
import sys
from typing import Any, Final

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw import __version__, auth
from nexus_tw.bus import open_bus
from nexus_tw.config import Configuration
from nexus_tw.errors import ConfigError
from nexus_tw.metrics import Metrics
from nexus_tw.server import Server
from nexus_tw.store import open_store
from nexus_tw.transport import tls

BACKLOG: Final = 4096  # connections that wait to be accepted; Twisted's own 50 is soon full when a fleet returns
RESERVED: Final = 64  # file descriptors for everything that is not a client
# Young objects between two collections. The default of 700 has a busy server walk its connections many times a second.
COLLECT_AFTER: Final = (50000, 20, 50)


def make(configuration: Configuration) -> IService:
    """The service for a configuration; raises `ConfigError` before anything listens."""
    from twisted.internet import reactor

    return NexusService(reactor, configuration)


class NexusService(Service):
    """Starts and stops a node."""

    _log = Logger(namespace="nexus")

    def __init__(self, reactor: Any, configuration: Configuration) -> None:
        settings = configuration.settings
        self._reactor = reactor
        self._configuration = configuration
        self._ports: list[IListeningPort] = []
        self._endpoints = [(text, endpoint(reactor, text, configuration)) for text in settings.listen]
        metrics = Metrics()
        self._server = Server(
            reactor,
            settings,
            open_bus(settings.bus.url, reactor, metrics, node_name()),
            open_store(settings.store.url, reactor),
            auth.build(settings, configuration.token, reactor),
            metrics,
            raise_descriptor_limit() - RESERVED,
        )
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(self._give_up)

    async def _start(self) -> None:
        await self._server.start()
        for text, listener in self._endpoints:
            try:
                self._ports.append(await listener.listen(self._server.doors))
            except CannotListenError as error:
                raise ConfigError(f"listen: {text}: {error.socketError}") from None
            except OSError as error:
                raise ConfigError(f"listen: {text}: {error}") from None
        self._log.info(
            "Nexus {version} listens on {listen}; bus {bus}, store {store}",
            version=__version__,
            listen=", ".join(str(port.getHost()) for port in self._ports),
            bus=self._configuration.settings.bus.url.partition(":")[0],
            store=self._configuration.settings.store.url.partition(":")[0],
        )
        if self._configuration.one_off:
            self._greet()
        # What is there now stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)

    def _greet(self) -> None:
        # Neither a token nor [auth] is configured: a first look. The one place where a token is printed.
        ports = [getattr(port.getHost(), "port", None) for port in self._ports]
        where = f"http://localhost:{ports[0]}/" if ports and ports[0] else "the listening address"
        sys.stdout.write(
            f"\n  Open      {where}\n  Token     {self._configuration.token}\n"
            "  (made for this run, with all rights; set NEXUS_TOKEN or [auth] for one that lasts)\n\n"
        )
        sys.stdout.flush()

    def _give_up(self, failure: Failure) -> None:
        if failure.check(ConfigError):
            sys.stderr.write(f"nexus: {failure.getErrorMessage()}\n")
        else:
            self._log.failure("Nexus cannot start", failure)
        # twistd has no way to be told that it failed once the reactor runs.
        self._reactor.addSystemEventTrigger("after", "shutdown", _exit_failed)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self._ports:
            self._log.info("Shutting down: {count} connections", count=len(self._server.connections))
        await self._server.drain()
        for port in self._ports:
            await port.stopListening()
        await self._server.stop()


def endpoint(reactor: Any, text: str, configuration: Configuration) -> IStreamServerEndpoint:
    """The endpoint for one `listen` entry; raises `ConfigError`."""
    kind = text.partition(":")[0]
    if kind in ("tcp", "ssl", "tls", "unix") and "backlog=" not in text:
        text = f"{text}:backlog={BACKLOG}"
    if kind == "tls":
        return tls.endpoint(reactor, text, configuration.settings.tls)
    try:
        return serverFromString(reactor, text)
    except Exception as error:  # the parsers of endpoint plugins raise what they like
        raise ConfigError(f"listen: {text}: {str(error) or type(error).__name__}") from None


def node_name() -> str:
    """A name that no other node has."""
    return f"{os.uname().nodename}-{os.getpid()}-{os.urandom(4).hex()}"


def raise_descriptor_limit() -> int:
    """Raises the limit of open files as far as it may be, and gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass  # some systems say a hard limit that they do not grant
    return soft if soft > 0 else 1 << 20


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
