"""Several processes on one port: the parent opens the sockets and minds the workers, who accept from them and serve.

The parent hands each worker the configuration over a pipe (it holds secrets, so neither arguments nor environment) and the
listening sockets as inherited descriptors. A worker that dies is replaced; nothing that one has in memory is needed by another.
"""

from __future__ import annotations

import base64
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.config import Configuration
from nexus_tw.errors import ConfigError
from nexus_tw.settings import Settings
from nexus_tw.transport.endpoints import kind_of
from nexus_tw.transport.listen import listen

STDIN: Final = 0
FIRST_DESCRIPTOR: Final = 3  # of the sockets in a worker, as after exec only 0, 1 and 2 are taken
SOON: Final = 0.2  # s before a dead worker is replaced; doubled while they die young
LATEST: Final = 10.0
YOUNG: Final = 10.0
PATIENCE: Final = 5.0  # s beyond the drain before a worker that does not end is killed

LISTENERS: Final = ("tcp", "tls", "ssl", "unix", "systemd")


class Charge(msgspec.Struct):
    """What a worker is told."""

    settings: Settings
    token: str | None
    number: int
    families: list[int]  # of the inherited sockets, in the order of `settings.listen`


def check(settings: Settings) -> None:
    """Raises `ConfigError` for endpoints that workers cannot share."""
    for text in settings.listen:
        if kind_of(text) not in LISTENERS:
            kinds = ", ".join(f"{kind}:" for kind in LISTENERS)
            raise ConfigError(f"listen: {text}: with several workers only {kinds} can be shared")


class Parent:
    """Holds the listening sockets and the workers."""

    _log = Logger()

    def __init__(self, reactor: Any, configuration: Configuration, endpoints: list[tuple[str, IStreamServerEndpoint]]) -> None:
        """`endpoints` open the plain sockets; TLS is the workers' work."""
        self._reactor = reactor
        self._configuration = configuration
        self._endpoints = endpoints
        self._ports: list[IListeningPort] = []
        self._workers: dict[int, _Worker] = {}
        self._waits: dict[int, float] = {}
        self.stopping = False

    async def start(self) -> None:
        """Opens the sockets and starts the workers; raises `ConfigError`."""
        for text, endpoint in self._endpoints:
            port: Any = await listen(text, endpoint, Factory())
            port.stopReading()  # the workers accept
            self._ports.append(port)
        for number in range(self._configuration.settings.workers):
            self._spawn(number)

    async def stop(self) -> None:
        """Has every worker drain and end; then closes the sockets."""
        self.stopping = True
        await DeferredList([worker.end() for worker in self._workers.values()])
        for port in self._ports:
            await maybeDeferred(port.stopListening)

    def _spawn(self, number: int) -> None:
        if self.stopping:
            return
        ports: list[Any] = self._ports
        charge = Charge(
            self._configuration.settings,
            self._configuration.token,
            number,
            [int(port.addressFamily) for port in ports],
        )
        descriptors: dict[int, Any] = {0: "w", 1: 1, 2: 2}
        descriptors.update({FIRST_DESCRIPTOR + place: port.fileno() for place, port in enumerate(ports)})
        worker = _Worker(self, number, msgspec.json.encode(charge), self._reactor)
        self._workers[number] = worker
        self._reactor.spawnProcess(
            worker, sys.executable, [sys.executable, "-m", "nexus_tw.worker"], env=None, childFDs=descriptors
        )

    def ended(self, number: int, lived: float, how: str) -> None:
        """A worker's process is gone."""
        if self.stopping:
            return
        wait = SOON if lived > YOUNG else min(LATEST, 2 * self._waits.get(number, SOON / 2))
        self._waits[number] = wait
        self._log.error("Worker {number} ended ({how}); the next starts in {wait:.1f} s", number=number, how=how, wait=wait)
        self._reactor.callLater(wait, self._spawn, number)

    @property
    def patience(self) -> float:
        return self._configuration.settings.drain + PATIENCE


class _Worker(ProcessProtocol):
    """One worker's process."""

    def __init__(self, parent: Parent, number: int, charge: bytes, reactor: Any) -> None:
        self._parent = parent
        self._number = number
        self._charge = charge
        self._reactor = reactor
        self._began = reactor.seconds()
        self._gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(base64.b64encode(self._charge) + b"\n")

    def processEnded(self, reason: Failure = connectionDone) -> None:
        self._gone.callback(None)
        self._parent.ended(self._number, self._reactor.seconds() - self._began, reason.getErrorMessage())

    def end(self) -> Deferred[None]:
        """Asks it to drain and end, and fires when it has; kills it where it does not."""
        if not self._gone.called:
            self._signal("TERM")
            late = self._reactor.callLater(self._parent.patience, self._signal, "KILL")
            self._gone.addCallback(lambda _none: late.cancel() if late.active() else None)
        return self._gone

    def _signal(self, name: str) -> None:
        transport: Any = self.transport
        if not self._gone.called:
            transport.signalProcess(name)


def adopted(reactor: Any, charge: Charge) -> list[IStreamServerEndpoint]:
    """Endpoints over the sockets that this worker inherited."""
    return [
        AdoptedStreamServerEndpoint(reactor, FIRST_DESCRIPTOR + place, socket.AddressFamily(family))
        for place, family in enumerate(charge.families)
    ]


def read_charge() -> Charge:
    """What the parent wrote to standard input."""
    return msgspec.json.decode(base64.b64decode(sys.stdin.buffer.readline()), type=Charge)


class Lifeline(FileDescriptor):
    """Standard input, whose other end the parent holds: when that closes, nobody minds this worker any more.

    A worker that lived on would keep the port from the parent's successor.
    """

    def __init__(self, reactor: Any, cut: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._cut = cut
        self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        return STDIN

    def doRead(self) -> Exception | None:
        return None if os.read(STDIN, 1) else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._cut()
