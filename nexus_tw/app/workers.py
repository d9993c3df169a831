"""Several processes on one port: the parent opens the sockets and supervises the workers, which accept connections and serve.

The parent passes each worker the configuration over a pipe (it holds secrets, so neither arguments nor environment) and the
listening sockets as inherited descriptors. A worker that dies is replaced; no worker needs another one's memory.

A worker writes its log to its standard output, one object in each line, and only the parent writes to the log's target: so a
file has one writer, and a daemon, which has no standard output, loses no lines. A worker also reports there how its start went.
"""

from __future__ import annotations

import base64
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure

from nexus_tw.app import logs
from nexus_tw.app.config import Configuration
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.settings import Settings
from nexus_tw.transport.listening.endpoints import certificates_of, kind_of
from nexus_tw.transport.listening.listen import listen

STDIN: Final = 0
FIRST_DESCRIPTOR: Final = 3  # of the sockets in a worker, as after exec only 0, 1 and 2 are in use
SOON: Final = 0.2  # s before a dead worker is replaced; doubled while workers die young
LATEST: Final = 10.0
YOUNG: Final = 10.0
PATIENCE: Final = 5.0  # s beyond the drain before a worker that does not exit is killed

LONGEST_LINE: Final = 1048576  # bytes; the text of an event is bounded far below
LONGEST_SETTINGS: Final = 1 << 30  # from the parent; its file can have any size

LISTENERS: Final = ("tcp", "tls", "ssl", "unix", "systemd")


class Charge(msgspec.Struct):
    """The parent's instructions for a worker."""

    settings: Settings
    token: str | None
    number: int
    families: list[int]  # of the inherited sockets, in the order of `settings.listen`


def check(settings: Settings) -> None:
    """Raise `ConfigError` for endpoints that workers cannot share."""
    for text in settings.listen:
        if kind_of(text) not in LISTENERS:
            kinds = ", ".join(f"{kind}:" for kind in LISTENERS)
            raise ConfigError(f"listen: {text}: with several workers only {kinds} can be shared")


class Parent:
    """Holds the listening sockets and the workers."""

    _log = Logger()

    def __init__(self, reactor: Any, configuration: Configuration, endpoints: list[tuple[str, IStreamServerEndpoint]]) -> None:
        """`endpoints` open the plain sockets; TLS is done by the workers."""
        self._reactor = reactor
        self._configuration = configuration
        self._endpoints = endpoints
        self._ports: list[IListeningPort] = []
        self._workers: dict[int, _Worker] = {}
        self._waits: dict[int, float] = {}
        self._started = False
        self.stopping = False

    async def start(self) -> None:
        """Open the sockets, start the workers and wait until they listen; raise `ConfigError` if one cannot."""
        for text, endpoint in self._endpoints:
            port: Any = await listen(text, endpoint, Factory())
            port.stopReading()  # the workers accept
            self._ports.append(port)
        for number in range(self._configuration.settings.workers):
            self._spawn(number)
        for worker in tuple(self._workers.values()):
            why = await worker.started
            if why:
                raise ConfigError(why)
        self._started = True

    async def take(self, settings: Settings) -> None:
        """Send these settings to every worker, and to later ones; raise `ConfigError` if no worker could use them."""
        for text in settings.listen:
            certificates_of(self._reactor, text, settings.tls)
        self._configuration = replace(self._configuration, settings=settings)
        await DeferredList([worker.take(settings) for worker in self._workers.values()])

    async def stop(self) -> None:
        """Have every worker drain and exit; then close the sockets."""
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
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        descriptors.update({FIRST_DESCRIPTOR + place: port.fileno() for place, port in enumerate(ports)})
        worker = _Worker(self, number, charge, self._reactor)
        self._workers[number] = worker
        self._reactor.spawnProcess(
            worker, sys.executable, [sys.executable, "-c", _start_with(self._reactor)], env=None, childFDs=descriptors
        )

    def ended(self, number: int, lived: float, how: str) -> None:
        """Process the end of a worker's process."""
        if self.stopping or not self._started:
            return
        wait = SOON if lived > YOUNG else min(LATEST, 2 * self._waits.get(number, SOON / 2))
        self._waits[number] = wait
        self._log.error("Worker {number} ended ({how}); the next starts in {wait:.1f} s", number=number, how=how, wait=wait)
        self._reactor.callLater(wait, self._spawn, number)

    @property
    def patience(self) -> float:
        return self._configuration.settings.drain + PATIENCE


def _start_with(reactor: Any) -> str:
    """Return the program of a worker, with the parent's type of reactor: handlers may need asyncio's."""
    return f"from {type(reactor).__module__} import install; install(); from nexus_tw.app.worker import main; main()"


class _Worker(ProcessProtocol):
    """One worker's process."""

    _log = Logger()

    def __init__(self, parent: Parent, number: int, charge: Charge, reactor: Any) -> None:
        self._parent = parent
        self._number = number
        self._charge = charge
        self._reactor = reactor
        self._began = reactor.seconds()
        self._gone: Deferred[None] = Deferred()
        self._said = OutputLines(self._heard)
        self._muttered = OutputLines(self._overheard)
        self.started: Deferred[str] = Deferred()  # fires with the reason of a failed start; empty after a successful one
        self._taking: list[Deferred[None]] = []
        self._why = ""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(_line(self._charge))

    def outReceived(self, data: bytes) -> None:
        self._said.take(data)

    def errReceived(self, data: bytes) -> None:
        self._muttered.take(data)

    def processEnded(self, reason: Failure = connectionDone) -> None:
        how = reason.getErrorMessage()
        if not self.started.called:
            self.started.callback(self._why or f"worker {self._number} ended ({how}); the log has more")
        self._gone.callback(None)
        while self._taking:
            self._taking.pop(0).callback(None)
        self._parent.ended(self._number, self._reactor.seconds() - self._began, how)

    def end(self) -> Deferred[None]:
        """Ask it to drain and exit, and fire when it has; kill it if it does not."""
        if not self._gone.called:
            self.signal("TERM")
            late = self._reactor.callLater(self._parent.patience, self.signal, "KILL")
            self._gone.addCallback(lambda _none: late.cancel() if late.active() else None)
        return self._gone

    def take(self, settings: Settings) -> Deferred[None]:
        """Send it these settings, and fire when it uses them, or is gone."""
        taken: Deferred[None] = Deferred()
        if self._gone.called:
            taken.callback(None)
        else:
            assert self.transport is not None
            self._taking.append(taken)
            self.transport.write(_line(settings))
        return taken

    def signal(self, name: str) -> None:
        transport: Any = self.transport
        if not self._gone.called:
            transport.signalProcess(name)

    def _heard(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=Report)
            event = None if said.ready or said.failed or said.took else logs.event_of(line)
        except (ValueError, LookupError):  # printed by some code in the worker
            self._overheard(line)
            return
        if event is not None:
            globalLogPublisher(event)
        elif said.failed:
            self._why = said.failed
        elif said.took:
            self._taking.pop(0).callback(None)
        elif not self.started.called:
            self.started.callback("")

    def _overheard(self, line: bytes) -> None:
        self._log.error("Worker {number}: {line}", number=self._number, line=line.decode("utf-8", "backslashreplace"))


class Report(msgspec.Struct):
    """A line that is not a log event: the outcome of a start, or that new settings were taken (or not: see the log)."""

    ready: bool = False
    failed: str = ""
    took: bool = False


class WorkerLaunch:
    """The parent, which waits for this worker's start."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.status = 0  # exit status of the process

    def began(self) -> None:
        """Do nothing: the parent knows."""

    def succeeded(self) -> None:
        self._write(msgspec.json.encode(Report(ready=True)) + b"\n")

    def failed(self, why: str) -> None:
        self._write(msgspec.json.encode(Report(failed=why)) + b"\n")
        self.status = 1

    def took(self) -> None:
        """Acknowledge the last message from the parent."""
        self._write(msgspec.json.encode(Report(took=True)) + b"\n")


class OutputLines:
    """Splits the output of a process into lines; cuts a line that is too long."""

    def __init__(self, take: Callable[[bytes], None], longest: int = LONGEST_LINE) -> None:
        self._take = take
        self._longest = longest
        self._rest = b""

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._longest:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            if line:
                self._take(line)


def adopted(reactor: Any, charge: Charge) -> list[IStreamServerEndpoint]:
    """Return endpoints over the sockets that this worker inherited."""
    return [
        AdoptedStreamServerEndpoint(reactor, FIRST_DESCRIPTOR + place, socket.AddressFamily(family))
        for place, family in enumerate(charge.families)
    ]


def read_charge() -> tuple[Charge, bytes]:
    """Return the parent's first message on standard input, and the part of later ones that has already arrived."""
    data = b""
    while b"\n" not in data:
        more = os.read(STDIN, 65536)
        if not more:
            break
        data += more
    line, _, rest = data.partition(b"\n")
    return msgspec.json.decode(base64.b64decode(line), type=Charge), rest


def _line(what: Charge | Settings) -> bytes:
    return base64.b64encode(msgspec.json.encode(what)) + b"\n"


class Lifeline(FileDescriptor):
    """Standard input, with the parent at the other end: when it closes, the parent is gone and this worker exits.

    Until then, new settings may arrive. A worker that lived on would keep the port from the parent's successor.
    """

    def __init__(self, reactor: Any, take: Callable[[Settings], None], cut: Callable[[], None], rest: bytes) -> None:
        super().__init__(reactor)
        self._lines = OutputLines(
            lambda line: take(msgspec.json.decode(base64.b64decode(line), type=Settings)), LONGEST_SETTINGS
        )
        self._cut = cut
        self._lines.take(rest)
        self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        return STDIN

    def doRead(self) -> Exception | None:
        data = os.read(STDIN, 65536)
        self._lines.take(data)
        return None if data else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._cut()
