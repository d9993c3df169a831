"""A worker: one of several processes that share a port, started by `nexus_tw.app.workers` with the parent's type of reactor."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from twisted.internet import reactor
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger, globalLogBeginner

from nexus_tw.app import logs, workers
from nexus_tw.app.config import Configuration
from nexus_tw.app.node import Node
from nexus_tw.app.service import RunnerService
from nexus_tw.app.sink import Stream
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Settings
from nexus_tw.runtime.walltime import keep_steady
from nexus_tw.transport.listening.endpoints import listener

logger = Logger()


def main() -> None:
    """Serve until SIGTERM or the parent's end; exit with status 0, or with 1 if the start failed."""
    running: Any = reactor
    keep_steady(reactor)
    charge, rest = workers.read_charge()
    settings = charge.settings
    metrics = Metrics()
    # The parent writes the log, including ours; it converts the lines to its own form.
    log = logs.Log(settings.log, Stream(logs.STDOUT), lambda: running.running, metrics, logs.as_json)
    globalLogBeginner.beginLoggingTo([log.observer], redirectStandardIO=False)
    launch = workers.WorkerLaunch(log.sink.write)
    try:
        listeners = [
            listener(reactor, text, settings.tls, endpoint)
            for text, endpoint in zip(settings.listen, workers.adopted(reactor, charge), strict=True)
        ]
        node = Node(reactor, Configuration(settings, charge.token, False), listeners, metrics)
    except ConfigError as error:  # a file that was still there a moment ago
        launch.failed(str(error))
        sys.exit(1)
    service = RunnerService(reactor, node, launch, log, None)
    service.startService()
    running.addSystemEventTrigger("before", "shutdown", service.stopService)

    def take(settings: Settings) -> None:
        try:
            node.reconfigure(settings)
        except ConfigError as error:
            logger.error("The new configuration cannot be applied by this worker: {error}", error=error)
        else:
            log.take(settings.log)
        launch.took()

    workers.Lifeline(reactor, take, _stop, rest)
    running.run()
    sys.exit(launch.status)


def _stop() -> None:
    with suppress(ReactorNotRunning):  # it is ending already
        reactor.stop()
