"""Invocations between the caller's half and an executor, and the invocations that each connection is executing.

The caller's half is an attempt (`executions`) for commands, and a `PlainCall` (`calls`) for plain calls; the invocation is the
same for both. It is over before the caller's half learns of its end: later answers of the executor are ignored, and it ends
only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol
from uuid import uuid4

from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.peers import Caller, Invocation, Peer, Reason, Registration
from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.recent import Recent
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.guard import Guard

# Replaces the arguments of an invocation once its executor has accepted them: many invocations may wait long for an answer.
HANDED_ON: Final = Payload.of_value(b"null")
MOST_PAST: Final = 65536  # ended invocations of a realm whose connections are kept

TOO_LONG: Final = "who executes it was closed with 1009: it sent a message that was too long, which may have been the answer"

_guarded: Final = Guard(__name__, "A caller could not be told that its executor is gone")


class CallersHalf(Protocol):
    """Receives the progress and the one end of an invocation (`nexus_tw.interfaces.executors`)."""

    @property
    def retried(self) -> bool:
        """Whether it hands the command over again if the executor is lost."""

    def progressed(self, payload: Payload, options: Options) -> None: ...

    def completed(self, payload: Payload, options: Options) -> None: ...

    def failed(self, error: NexusError) -> None: ...

    def lost(self) -> None:
        """End: the executor is gone."""

    def overran(self, alone: bool) -> None:
        """End: the executor is gone because of a message that was too long, perhaps the answer. `alone`: it was executing
        nothing else."""

    def returned(self, payload: Payload, busy: bool) -> None:
        """End: the callee, which is on another node, never got it; these are its arguments. With `busy` it has no room now,
        else it is gone."""


class PendingInvocation:
    """Provides `nexus_tw.interfaces.peers.Invocation`, and to the caller's half the means to end it."""

    __slots__ = (
        "_command_id",
        "_half",
        "attempt",
        "caller",
        "deadline",
        "disclosed",
        "executor",
        "more",
        "number",
        "options",
        "payload",
        "procedure",
        "progressive",
        "registration",
        "settle",
    )

    number: int
    registration: Registration

    def __init__(
        self,
        half: CallersHalf,
        executor: Executor,
        procedure: str,
        payload: Payload,
        caller: Caller,
        deadline: float,
        command_id: str = "",
        attempt: int = 1,
        disclosed: bool = False,
        progressive: bool = True,
        more: bool = False,
        options: Options = None,
    ) -> None:
        """Each call and command makes one: all by position, since names would double the cost."""
        self._half: CallersHalf | None = half  # until it is over: the two halves refer to each other
        self._command_id = command_id
        self.executor = executor
        self.procedure = procedure
        self.payload = payload
        self.caller = caller
        self.disclosed = disclosed
        self.deadline = deadline
        self.attempt = attempt
        self.progressive = progressive
        self.more = more
        self.options = options
        # Set by an executor on another node, which keeps the end of a command until this is called.
        self.settle: Callable[[], None] | None = None

    @property
    def agent_id(self) -> str | None:
        return self.executor.agent_id

    @property
    def command_id(self) -> str:
        if not self._command_id:
            self._command_id = str(uuid4())
            self.executor.named(self)
        return self._command_id

    @property
    def named(self) -> bool:
        return bool(self._command_id)

    @property
    def over(self) -> bool:
        return self._half is None

    def progress(self, payload: Payload, options: Options = None) -> None:
        if self._half is not None:
            self._half.progressed(payload, options)

    def result(self, payload: Payload, options: Options = None) -> None:
        half = self._half
        if half is not None:
            self._half = None
            self.executor.release(self)
            half.completed(payload, options)

    def error(self, error: NexusError) -> None:
        half = self._half
        if half is not None:
            self.end()
            half.failed(error)

    def lost(self) -> None:
        half = self._half
        if half is not None:
            self.end()
            half.lost()

    def overran(self, alone: bool) -> None:
        half = self._half
        if half is not None:
            self.end()
            half.overran(alone)

    # --- for executors on other nodes

    @property
    def retried(self) -> bool:
        """Whether it is handed over again if the executor is lost."""
        return self._half is not None and self._half.retried

    def returned(self, payload: Payload, busy: bool) -> None:
        half = self._half
        if half is not None:
            self.end()
            half.returned(payload, busy)

    # --- for the caller's half

    def refused(self) -> None:
        """End the invocation, since the executor did not accept it."""
        self._half = None

    def stop(self, reason: Reason) -> bool:
        """End the invocation and interrupt the executor. Return whether the executor will answer to that."""
        self.end()
        return self.executor.interrupt(self, reason)

    def end(self) -> None:
        """End the invocation without telling the executor."""
        if self._half is not None:
            self._half = None
            self.executor.release(self)


class _Hand:
    """The open invocations of one connection, by number."""

    __slots__ = ("last", "open", "overran")

    def __init__(self) -> None:
        self.last = 0
        self.overran = False
        self.open: dict[int, Invocation] = {}


class Invocations:
    """The open invocations of all connections."""

    def __init__(self, limits: Limits) -> None:
        self._hands: dict[Peer, _Hand] = {}
        self._named: dict[tuple[Peer, str], list[Invocation]] = {}
        # By client id and command id; each counts in the share of the connection's subject.
        self._past: Recent[tuple[str, str]] = Recent(limits, MOST_PAST)

    def start(self, peer: Peer, invocation: Invocation) -> None:
        """Give the invocation a number on the connection, and hand it over."""
        hand = self._hands.get(peer)
        if hand is None:
            hand = self._hands[peer] = _Hand()
        hand.last += 1
        invocation.number = hand.last
        hand.open[hand.last] = invocation
        if invocation.named:
            self.name(peer, invocation)
        peer.invoke(invocation)
        invocation.payload = HANDED_ON

    def name(self, peer: Peer, invocation: Invocation) -> None:
        """Make the invocation known by its command id."""
        self._named.setdefault((peer, invocation.command_id), []).append(invocation)

    def remove(self, peer: Peer, invocation: Invocation) -> None:
        """Remove an invocation that is over; keep the fact that the connection executed it."""
        del self._hands[peer].open[invocation.number]
        if invocation.named:
            command_id = invocation.command_id
            key = (peer, command_id)
            named = self._named[key]
            if len(named) == 1:
                del self._named[key]
            else:
                named.remove(invocation)
            self._past.put((peer.client_id, command_id), peer.principal.account)

    def find(self, peer: Peer, command_id: str, agent_id: str | None) -> Invocation | None:
        """Return the connection's open invocation of that command id: the agent's, or without an agent the oldest."""
        for invocation in self._named.get((peer, command_id), ()):
            if agent_id in (None, invocation.agent_id):
                return invocation
        return None

    def had(self, peer: Peer, command_id: str) -> bool:
        """Return whether the connection has executed this recently."""
        return (peer.client_id, command_id) in self._past

    def get(self, peer: Peer, number: int) -> Invocation | None:
        """Return the connection's open invocation of that number."""
        hand = self._hands.get(peer)
        return None if hand is None else hand.open.get(number)

    def overran(self, peer: Peer) -> None:
        """Note that the connection is about to be lost because it sent a message that was too long."""
        hand = self._hands.get(peer)
        if hand is not None:
            hand.overran = True

    def lost(self, peer: Peer) -> Iterator[None]:
        """End all invocations of a lost connection, step by step. A second call does nothing."""
        hand = self._hands.get(peer)
        if hand is not None:
            held = list(hand.open.values())
            for invocation in held:
                # Ignored by an invocation that has ended because of another one.
                if hand.overran:
                    _guarded(invocation.overran, len(held) == 1)
                else:
                    _guarded(invocation.lost)
                yield
            if self._hands.get(peer) is hand and not hand.open:
                del self._hands[peer]
