"""`python -m nexus_tw.worker`: one of several processes that share a port; started by `nexus_tw.workers`, not by hand."""

from __future__ import annotations

from contextlib import suppress

from twisted.internet import reactor
from twisted.internet.error import ReactorNotRunning
from twisted.logger import globalLogBeginner

from nexus_tw import logs, workers
from nexus_tw.config import Configuration
from nexus_tw.service import Node, RunnerService
from nexus_tw.transport.endpoints import listener


def main() -> None:
    """Serves until SIGTERM or the parent's end; ends with status 0."""
    charge = workers.read_charge()
    settings = charge.settings
    globalLogBeginner.beginLoggingTo([logs.observer(settings.log, logs.standard_output())], redirectStandardIO=False)
    listeners = [
        listener(reactor, text, settings.tls, endpoint)
        for text, endpoint in zip(settings.listen, workers.adopted(reactor, charge), strict=True)
    ]
    service = RunnerService(reactor, Node(reactor, Configuration(settings, charge.token, False), listeners))
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    workers.Lifeline(reactor, _stop)
    reactor.run()


def _stop() -> None:
    with suppress(ReactorNotRunning):  # it is ending already
        reactor.stop()


if __name__ == "__main__":
    main()
