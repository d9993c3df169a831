"""The service that `twistd` runs: a node, or the parent of several."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, Protocol

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.app import logs, workers
from nexus_tw.app.checks import open_to_pages
from nexus_tw.app.config import Configuration
from nexus_tw.app.launch import Launch, TwistdLaunch
from nexus_tw.app.node import Node
from nexus_tw.app.reload import Reload
from nexus_tw.app.terminal import Terminal
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Settings
from nexus_tw.runtime.walltime import keep_steady
from nexus_tw.transport.listening.endpoints import listener, plain

# Young objects between two collections. With the default of 700 a busy server traverses its connections many times a second.
COLLECT_AFTER: Final = (50000, 20, 50)


Reread = Callable[[], Configuration]


def make(configuration: Configuration, twistd: MutableMapping[str, Any], reread: Reread) -> IService:
    """Return the service for a configuration, with its log; `twistd` holds twistd's own options, `reread` reads all again.

    Raise `ConfigError` before anything listens.
    """
    from twisted.internet import reactor

    keep_steady(reactor)
    settings = configuration.settings
    if settings.workers > 1:
        workers.check(settings)
    metrics = Metrics()
    # With workers this node never starts, but its errors are reported before there are any workers.
    listeners = [listener(reactor, text, settings.tls) for text in settings.listen]
    runner: Runner = Node(reactor, configuration, listeners, metrics)
    if settings.workers > 1:
        runner = workers.Parent(reactor, configuration, [(text, plain(reactor, text)) for text in settings.listen])
    running: Any = reactor
    log = logs.for_twistd(settings.log, twistd, lambda: running.running, metrics)
    top = logs.LoggedService(log.observer if log else None)
    RunnerService(reactor, runner, TwistdLaunch(twistd), log, Reload(configuration, reread)).setServiceParent(top)  # type: ignore[no-untyped-call]
    return top


class Runner(Protocol):
    """The part that a service runs."""

    async def start(self) -> None:
        """Start; raise `ConfigError` if that is impossible."""

    async def take(self, settings: Settings) -> None:
        """Apply these settings, as far as they may change; raise `ConfigError` without having changed anything."""

    async def stop(self) -> None:
        """Release everything, including the remains of a failed start."""


class RunnerService(Service):
    """Runs a part with a start that takes time and may fail; a failure ends the process with a line that gives the reason.

    SIGUSR1 begins a new log file. SIGHUP reopens the log file, which may have been moved, and reloads the configuration;
    if it came because the terminal closed, the process shuts down.
    """

    _log = Logger()
    _terminal: Terminal | None = None  # None in a worker, which its parent ends

    def __init__(self, reactor: Any, runner: Runner, launch: Launch, log: logs.Log | None, reload: Reload | None) -> None:
        """`log` is None if it is not ours, `reload` if another process reads the configuration."""
        self._reactor = reactor
        self._runner = runner
        self._launch = launch
        self._lines = log
        self._settings = reload

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._launch.began()
        if self._settings is not None:
            self._terminal = Terminal()
        if self._lines is not None:
            # twistd ends by the signal that stopped the reactor: without the interpreter's own end, and so without `atexit`.
            self._reactor.addSystemEventTrigger("after", "shutdown", self._lines.sink.farewell)
        for number, work in ((signal.SIGUSR1, self._rotate), (signal.SIGHUP, self._reload)):
            signal.signal(number, lambda *_, work=work: self._reactor.callFromThread(work))
        # In the first turn of the reactor: asyncio's loop runs only from then on, and stores and buses may need it.
        self._reactor.callWhenRunning(self._reactor.callLater, 0, self._begin)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return ensureDeferred(self._runner.stop())

    def _begin(self) -> None:
        ensureDeferred(self._runner.start()).addCallbacks(self._succeeded, self._give_up)

    def _succeeded(self, _none: None) -> None:
        self._launch.succeeded()
        # The objects of now are permanent: the collector need not check them again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        if self._settings is not None:
            self._warn(self._settings.held)

    def _warn(self, settings: Settings) -> None:
        realms = open_to_pages(settings)
        if realms:
            self._log.warn(
                "http.hosts is empty, and anonymous clients may join {realms}: so may any web page whose name its author has "
                "point to this server (DNS rebinding)",
                realms=", ".join(realms),
            )

    def _give_up(self, failure: Failure) -> None:
        if failure.check(ConfigError):
            why = failure.getErrorMessage()
            self._log.critical("Nexus cannot start: {why}", why=why)
        else:
            why = f"cannot start: {type(failure.value).__name__}; the log has more"
            self._log.failure("Nexus cannot start", failure)
        self._launch.failed(why)
        self._end()

    def _end(self) -> None:
        with suppress(ReactorNotRunning):  # it is ending already
            self._reactor.stop()

    def _rotate(self) -> None:
        if self._lines is not None:
            self._lines.sink.rotate()
        self._log.info("SIGUSR1: a new log file is begun, where the log goes to one of ours")

    def _reload(self) -> None:
        if self._terminal is not None and self._terminal.hung_up():
            self._log.warn("SIGHUP: the terminal has closed, and the server shuts down")
            self._end()
            return
        if self._lines is not None:
            self._lines.sink.reopen()
        if self._settings is not None:
            taken = ensureDeferred(self._read_again(self._settings))
            taken.addErrback(lambda failure: self._log.failure("SIGHUP: a fault of the server", failure))

    async def _read_again(self, reload: Reload) -> None:
        try:
            settings, fixed = reload.read()
            await self._runner.take(settings)
        except ConfigError as error:
            self._log.error("SIGHUP: the configuration cannot be taken, and nothing has changed: {error}", error=error)
            return
        reload.take(settings)
        if self._lines is not None:
            self._lines.take(settings.log)
        if fixed:
            self._log.warn("SIGHUP: the configuration is taken, but for what needs a restart: {fixed}", fixed=", ".join(fixed))
        else:
            self._log.info("SIGHUP: the configuration is taken")
        self._warn(settings)
