"""Revoking: puts revocations in force on all nodes, and closes the connections whose credentials they refuse.

What is revoked is first kept (`IRevoked`): by a bus for all nodes, else by the store over a restart. Then every node is asked
to put it in force. A node that does not answer is told, which reaches it when it can be reached; one that comes later reads
what is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.auth.revocations import Revocations
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.model.errors import REVOKED, NexusError
from nexus_tw.model.revocations import Revocation, decode_revocation, encode_revocation
from nexus_tw.runtime.failures import forget_trace
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread
from nexus_tw.transport.connections import Connections, Open
from nexus_tw.transport.conversation import Conversation

PART: Final = "revocations"
AGAIN: Final = 1.0  # s until what is kept is read again, if it could not be
STEP: Final = 32  # connections that are looked at in one step

_guarded: Final = Guard(__name__, "A connection could not be closed")


class Change(msgspec.Struct, gc=False):
    """A revocation that is to be put in force, or the key of one that is to be lifted."""

    revocation: Revocation | None = None
    lift: str = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Change).decode


class Revoking:
    """Implements `nexus_tw.interfaces.fleet.Part`."""

    _log = Logger()

    def __init__(
        self,
        fleet: Fleet,
        connections: Connections,
        revocations: Revocations,
        keeper: Any,
        awaited: Callable[[Any], Deferred[Any]],
        clock: IReactorTime,
    ) -> None:
        """`keeper` provides `IRevoked`, None if nothing is kept; `awaited` returns a Deferred for what it returns."""
        self._fleet = fleet
        self._connections = connections
        self.revocations = revocations
        self._keeper = keeper
        self._awaited = awaited
        self._clock = clock
        self._spread = Spread(clock)
        self._retry: IDelayedCall | None = None
        self._reading = 0  # readings of what is kept that are under way
        self._meanwhile: list[Change] = []
        self._warned = False
        fleet.take_part(PART, self, self.asked)

    async def start(self) -> None:
        """Put in force what is kept. If it cannot be read, it is tried again until it can."""
        await self._read()

    def stop(self) -> None:
        """Finish what was begun."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._spread.finish()

    async def revoke(self, revocation: Revocation) -> int:
        """Keep a revocation and put it in force on all nodes. Return how many connections were closed on those that answered.

        Raise `limit_exceeded` if there are too many, `bus_unavailable` or `store_unavailable` if it cannot be kept: then
        nothing has changed.
        """
        ended = self.revocations.sweep()
        self.revocations.check(revocation)
        if self._keeper is not None:
            if ended:
                await self._kept(self._keeper.unrevoke(ended))
            await self._kept(self._keeper.revoke(revocation.key, encode_revocation(revocation)))
        answers = await self._everywhere(Change(revocation))
        return sum(int(answer) for answer in answers.values())

    async def lift(self, key: str) -> None:
        """Lift a revocation on all nodes. Raise `not_found` if there is none with this key, else as `revoke` does."""
        if all(revocation.key != key for revocation in self.revocations.known()):
            raise NexusError("not_found", "No such revocation")
        if self._keeper is not None:
            await self._kept(self._keeper.unrevoke([key]))
        await self._everywhere(Change(lift=key))

    # --- Part

    def received(self, _node: str, body: bytes) -> None:
        self._change(body, _nobody)

    def asked(self, _node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        self._change(body, lambda closed: answer(b"%d" % closed))

    def joined(self, node: str) -> None:
        """Do nothing: it reads what is kept."""

    def left(self, node: str, heir: bool) -> None:
        """Do nothing: it has told nothing that must be forgotten."""

    def fenced(self) -> None:
        """Do nothing: what is in force stays so."""

    def renewed(self) -> None:
        """Keep again what is in force here, as the bus may have lost it, then read what others have revoked meanwhile. What was
        lifted while this node was out of touch is in force again: that is the safe side."""
        Deferred.fromCoroutine(self._keep_again()).addErrback(self._failed)

    # ---

    async def _everywhere(self, change: Change) -> Mapping[str, bytes]:
        """Make this change on all nodes. Return the answers of those that could be reached at once."""
        body = _encode(change)
        asked: Deferred[Mapping[str, bytes]] = Deferred()
        self._fleet.ask(None, PART, body, asked.callback)
        answers = await asked
        for node in self._fleet.members:
            if node not in answers:
                self._fleet.tell(node, PART, body)
        return answers

    def _change(self, body: bytes, done: Callable[[int], None]) -> None:
        change = _decode(body)
        if self._reading:
            self._meanwhile.append(change)
        self._make(change)
        if change.revocation is None:
            done(0)
        else:
            self._spread.work(self._close(done))

    def _make(self, change: Change) -> None:
        if change.revocation is None:
            self.revocations.lift(change.lift)
        else:
            self.revocations.add(change.revocation)

    def _close(self, done: Callable[[int], None]) -> Iterator[None]:
        """Close the connections whose credentials are refused, and call `done` with their number."""
        closed = 0
        connections = iter(self._connections)
        while some := list(islice(connections, STEP)):
            for connection in some:
                principal = cast(Conversation, connection).principal
                if principal is not None and self.revocations.refuses(principal):
                    closed += 1
                    _guarded(_end, connection)
            yield
        done(closed)

    async def _read(self) -> None:
        """Put in force what is kept, and nothing else but what is changed meanwhile."""
        if self._keeper is None:
            return
        self._reading += 1
        try:
            records: Sequence[bytes] = await self._kept(self._keeper.revoked())
            self.revocations.replace(found for found in map(decode_revocation, records) if found is not None)
            for change in self._meanwhile:
                self._make(change)
        except NexusError as error:
            if not self._warned:
                self._warned = True
                self._log.warn("The revocations cannot be read yet: {why}", why=error.message)
            self._later(self._read)
            return
        finally:
            self._reading -= 1
            if not self._reading:
                self._meanwhile = []
        self._spread.work(self._close(_nobody))

    async def _keep_again(self) -> None:
        if self._keeper is None:
            return
        try:
            for revocation in self.revocations.known():
                await self._kept(self._keeper.revoke(revocation.key, encode_revocation(revocation)))
        except NexusError:
            self._later(self._keep_again)
            return
        await self._read()

    def _later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this work in a while, in place of what was to be done then."""

        def begin() -> None:
            self._retry = None
            Deferred.fromCoroutine(work()).addErrback(self._failed)

        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._clock.callLater(AGAIN, begin)

    async def _kept(self, answer: Awaitable[Any]) -> Any:
        try:
            return await self._awaited(answer)
        except NexusError as error:
            forget_trace(error)
            raise NexusError(error.code, error.message) from None

    def _failed(self, failure: Failure) -> None:
        self._log.failure("The revocations could not be read", failure)


def _end(connection: Open) -> None:
    connection.close(REVOKED)


def _nobody(_closed: int) -> None:
    """Nobody waits for the number of closed connections."""
