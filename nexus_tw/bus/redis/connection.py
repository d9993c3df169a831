"""Single connections to Redis: for requests, for publishing, and for subscriptions.

txredisapi does the parsing, and commands outside the fast paths. Its factories are not used: if AUTH or SELECT fails
or the connection ends before the answer, they stop trying for ever. A connection here ends at its first failure and reports
the reason; its user makes another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import txredisapi
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.channels import Source, command
from nexus_tw.bus.redis.scripts import SCRIPTS
from nexus_tw.model.errors import NexusError
from nexus_tw.net.direct import is_socket, send
from nexus_tw.runtime.guard import Guard

# Publications wait for Redis' acknowledgement; beyond either of these bounds further ones are refused.
MAX_UNACKED: Final = 131072
MAX_UNACKED_BYTES: Final = 67108864

MAX_LOADS: Final = 100  # of the scripts in a row, without a call that was executed in between

# Names in one command; Redis does nothing else while it executes a command.
BATCH: Final = 1000

SOURCES_KEPT: Final = 16384  # channels for which a subscriber remembers the subscription that brings their messages

CONFIRMATIONS: Final = (b"subscribe", b"psubscribe", b"unsubscribe", b"punsubscribe")

_BEGIN: Final = command(b"MULTI")
_END: Final = command(b"EXEC")

guarded: Final = Guard(__name__, "What came over the bus could not be handled")


class Unreachable(Exception):
    """Why Redis cannot be used now; the text is safe for a log."""


def away() -> NexusError:
    return NexusError("bus_unavailable", "The event bus is away")


def refused(why: str) -> NexusError:
    return NexusError("bus_unavailable", f"The event bus refused this: {why}")


class Connection(txredisapi.RedisProtocol):
    """One connection to Redis or to a sentinel.

    `ended` is called once with the reason when it is lost; `closed` fires then.
    """

    transport: Any

    def __init__(self, ended: Callable[[str], None]) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._ended = ended
        self._why = ""
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """Send nothing yet: see `login`."""

    async def ask(self, *words: str) -> Any:
        """Return the answer to a command; raise `Unreachable` if it is an error."""
        try:
            return await self.execute_command(*words)
        except txredisapi.ResponseError as error:
            raise Unreachable(told(error)) from None
        except txredisapi.ConnectionError:
            raise Unreachable(self._why or "the connection was lost") from None

    async def login(self, address: Address) -> None:
        """Log in; raise `Unreachable`."""
        if address.password is not None:
            await self.ask("AUTH", *([address.username] if address.username else []), address.password)
        if address.db is not None:
            await self.ask("SELECT", str(address.db))
        if address.master is not None:
            role = await self.ask("ROLE")
            if role[0] not in (b"master", "master"):  # sentinels can be behind, and events published to a replica get lost
                raise Unreachable("it is no master")

    def fail(self, why: str) -> None:
        """Drop the connection at once, without waiting for the other side."""
        if self.transport is not None and self.connected:
            self._why = self._why or why
            self.transport.abortConnection()

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        try:
            super().dataReceived(data, unpause)
        except txredisapi.InvalidData:
            self.fail("it does not speak the Redis protocol")

    def tryConvertData(self, data: Any) -> Any:
        return data  # bytes stay bytes; the base class would check each of them

    def replyReceived(self, reply: Any) -> None:
        if self.replyQueue.waiting:
            super().replyReceived(reply)
        else:  # an unsolicited error, as for too many clients; then Redis closes
            self.fail(told(reply))

    def connectionLost(self, reason: Failure) -> None:
        self._why = self._why or reason.getErrorMessage()
        # Pending requests get an error from the base class; so the end is reported first.
        self._ended(self._why)
        txredisapi.RedisProtocol.connectionLost(self, reason)
        self.closed.callback(None)
        # All of these are parts of reference cycles: only the garbage collector would free the unsent bytes.
        self._ended = _nobody
        socket, self.transport = self.transport, None
        while isinstance(socket, ProtocolWrapper):
            socket = socket.transport
        connector = getattr(socket, "connector", None)
        if connector is not None:
            connector.transport = None


class Put:
    """A command on its way to Redis: its callback, and its weight until it is answered."""

    __slots__ = ("command", "count", "done", "kind", "replies", "scripted", "size")

    def __init__(
        self, command: bytes | Callable[[], bytes], done: Callable[[Any], None], kind: type, replies: int, size: int
    ) -> None:
        self.command = command
        self.done = done
        self.kind = kind  # of the reply; anything else is a refusal
        self.replies = replies
        self.size = size
        self.count = 1
        self.scripted = False  # whether an answer of its kind means that Redis has the scripts


class Publisher(Connection):
    """Publishes. Commands of one turn are sent in one write; answers are matched by their order.

    If Redis has lost the scripts, no command is sent until all earlier ones are answered. Then the scripts are loaded again,
    and the failed calls are repeated in their order.
    """

    def __init__(self, clock: IReactorTime, ended: Callable[[str], None]) -> None:
        super().__init__(ended)
        self._clock = clock
        self._unacked: deque[Put] = deque()
        self._bytes = 0
        self._count = 0
        self._replies: list[Any] = []  # those received of a transaction that is not answered in full
        self._turn: list[Put] = []
        self._flush_call: IDelayedCall | None = None
        self._unscripted: list[Put] = []  # calls that failed because Redis has lost their script
        self._overtaken = False  # by a later call that was executed
        self._loads = 0  # of the scripts since a call was executed

    async def login(self, address: Address) -> None:
        await super().login(address)
        # If MULTI is refused, Redis still executes the other commands one by one; so this is checked before.
        await self.ask("MULTI")
        await self.ask("EXEC")

    @property
    def behind(self) -> bool:
        """Whether further commands must wait until Redis has acknowledged some."""
        return self._count >= MAX_UNACKED or self._bytes >= MAX_UNACKED_BYTES

    def put(self, command: bytes, done: Callable[[Any], None], replies: int = 1) -> None:
        """Send a PUBLISH. Call `done` once with the number of recipients, or with `bus_unavailable`."""
        self._put(Put(command, done, int, replies, len(command)))

    def put_together(self, commands: Sequence[bytes], done: Callable[[Any], None]) -> None:
        """Send several PUBLISH as a transaction: Redis executes all or none, and no other command between them.

        Call `done` once with the last one's number of recipients, or with `bus_unavailable`.
        """
        self.put(b"".join((_BEGIN, *commands, _END)), done, len(commands) + 2)

    def put_script(
        self, command: bytes | Callable[[], bytes], done: Callable[[Any], None], kind: type = list, size: int = 0
    ) -> Put:
        """Send a call of a script; a function as `command` is called when it is sent. Call `done` once with the result,
        which is of that `kind`, or with `bus_unavailable`."""
        put = Put(command, done, kind, 1, size if callable(command) else len(command))
        put.scripted = kind is list
        self._put(put)
        return put

    def query(self, command: bytes, done: Callable[[Any], None], kind: type) -> None:
        """Send any other command. Call `done` once with the answer, which is of that `kind`, or with `bus_unavailable`."""
        self._put(Put(command, done, kind, 1, len(command)))

    def last(self, put: Put) -> bool:
        """Return whether this is the last command, and not sent yet."""
        return bool(self._turn) and self._turn[-1] is put

    def grow(self, put: Put, size: int) -> None:
        """Count one more event, of so many bytes, in a command that was not sent yet."""
        put.size += size
        put.count += 1
        self._bytes += size
        self._count += 1

    def _put(self, put: Put) -> None:
        self._bytes += put.size
        self._count += put.count
        self._turn.append(put)
        self._wake()

    def _wake(self) -> None:
        if self._flush_call is None and not self._unscripted:
            self._flush_call = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        if not self._unscripted:
            turn, self._turn = self._turn, []
            self._send(turn)

    def _send(self, puts: list[Put]) -> None:
        self._unacked += puts
        data = b"".join([put.command if isinstance(put.command, bytes) else put.command() for put in puts])
        if is_socket(self.transport):
            data = send(self.transport, data)
        if data:
            self.transport.write(data)

    def replyReceived(self, reply: Any) -> None:
        if not self._unacked:
            super().replyReceived(reply)
            return
        put = self._unacked[0]
        if put.replies > 1:
            self._replies.append(reply)
            if len(self._replies) < put.replies:
                return
        self._unacked.popleft()
        if put.replies > 1:
            reply = self._outcome()
        if isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT"):
            self._unscripted.append(put)
        else:
            self._overtaken = self._overtaken or (bool(self._unscripted) and put.scripted)
            self._answer(put, reply)
        if self._unscripted and not self._unacked and not self._why:
            self._load()

    def _answer(self, put: Put, reply: Any) -> None:
        self._bytes -= put.size
        self._count -= put.count
        if type(reply) is put.kind:
            if put.scripted:
                self._loads = 0
        else:
            if isinstance(reply, Exception) and str(reply).startswith("TIMELINE"):
                self.fail("its history is another one")
            reply = refused(told(reply))
        guarded(put.done, reply)

    def _load(self) -> None:
        """Load the scripts again, repeat the failed calls, and send the commands that waited."""
        failed, self._unscripted = self._unscripted, []
        overtaken, self._overtaken = self._overtaken, False
        self._loads += 1
        if self._loads > MAX_LOADS:
            self._unscripted = failed
            self.fail("it forgets its scripts")
            return
        turn, self._turn = self._turn, []
        if overtaken:
            # Another node has loaded them in the meantime, and later events were published: too late for these.
            for put in failed:
                self._answer(put, txredisapi.ResponseError("NOSCRIPT"))
            failed = []
        loads = [Put(command(b"SCRIPT", (b"LOAD", script.text)), _loaded, bytes, 1, 0) for script in SCRIPTS]
        for put in loads:
            put.count = 0
        self._send([*loads, *failed, *turn])

    def _outcome(self) -> Any:
        """Return the outcome of a transaction: its first error, else the answer to its last command."""
        (begun, *queued, carried_out), self._replies = self._replies, []
        if isinstance(begun, Exception):
            self.fail(f"a transaction was refused: {told(begun)}")
        replies = [begun, *queued, *(carried_out if type(carried_out) is list else [carried_out])]
        return next((reply for reply in replies if isinstance(reply, Exception)), replies[-1])

    def release(self) -> None:
        """Fail everything unacknowledged; called once, when the connection is no longer used."""
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        given_up = [*self._unscripted, *self._unacked, *self._turn]
        self._unscripted.clear()
        self._unacked.clear()
        self._turn.clear()
        for put in given_up:
            guarded(put.done, away())


class Subscriber(Connection):
    """Subscribes. Each message is passed on once, however many of this connection's subscriptions match it."""

    def __init__(self, clock: IReactorTime, arrived: Callable[[bytes, bytes], None], ended: Callable[[str], None]) -> None:
        """`arrived` is called with the channel and the payload."""
        super().__init__(ended)
        self._clock = clock
        self._arrived = arrived
        self._turn: list[tuple[bytes, tuple[bytes, ...]]] = []
        self._flush_call: IDelayedCall | None = None
        # Redis confirms every name of every command in the order of the requests.
        self._unconfirmed: deque[Callable[[], None]] = deque()
        # By channel, the one of its matching subscriptions with messages that are passed on.
        self._sources: dict[bytes, bytes] = {}

    def subscribe(self, source: Source, done: Callable[[], None]) -> None:
        """Subscribe; call `done` when it is confirmed, or when the connection is given up."""
        self._put(b"PSUBSCRIBE" if source.glob else b"SUBSCRIBE", source.names, done)

    def unsubscribe(self, source: Source) -> None:
        self._put(b"PUNSUBSCRIBE" if source.glob else b"UNSUBSCRIBE", source.names, _nothing)

    def _put(self, verb: bytes, names: tuple[bytes, ...], done: Callable[[], None]) -> None:
        self._unconfirmed.extend((_nothing,) * (len(names) - 1))
        self._unconfirmed.append(done)
        self._turn.append((verb, names))
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        turn, self._turn = self._turn, []
        commands: list[bytes] = []
        together: list[bytes] = []
        last = b""
        for verb, names in turn:
            # Names of one source stay in one command, so no published event comes between them.
            if together and (verb != last or len(together) + len(names) > BATCH):
                commands.append(command(last, together))
                together = []
            together += names
            last = verb
        commands.append(command(last, together))
        self.transport.write(b"".join(commands))

    def replyReceived(self, reply: Any) -> None:
        kind = reply[0] if type(reply) is list and reply else None
        if kind == b"message":
            self._message(reply[1], reply[1], reply[2])
        elif kind == b"pmessage":
            self._message(reply[1], reply[2], reply[3])
        elif kind in CONFIRMATIONS and self._unconfirmed:
            self._sources.clear()
            guarded(self._unconfirmed.popleft())
        else:
            super().replyReceived(reply)

    def _message(self, source: bytes, channel: bytes, payload: bytes) -> None:
        # For one publish Redis sends a copy for each matching subscription, all in a row. Confirmations come in the
        # same stream, so between two of them the same subscriptions match a channel and bring each of its publishes. The
        # first subscription to bring a message of a channel therefore brings all of them, and messages of the others are
        # copies. Only Redis decides which ones match. (Forgetting for lack of room happens between publishes too.)
        if channel not in self._sources:
            if len(self._sources) >= SOURCES_KEPT:
                self._sources.clear()
            self._sources[channel] = source
        elif self._sources[channel] != source:
            return
        guarded(self._arrived, channel, payload)

    def release(self) -> None:
        """Stop waiting for confirmations; called once, when the connection is no longer used."""
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        self._turn.clear()
        while self._unconfirmed:
            guarded(self._unconfirmed.popleft())


def told(error: object) -> str:
    """Return Redis' error text without quotations: it quotes unknown commands with their arguments, perhaps a password."""
    text = str(error)
    for quote in "'`\"":
        text = text.partition(quote)[0]
    return text[:200].strip()


def _nothing() -> None:
    pass


def _loaded(reply: object) -> None:
    """A script that cannot be loaded is found missing by the next call of it."""


def _nobody(_why: str) -> None:
    pass
