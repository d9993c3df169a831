"""Guests: invocations that callees of this node carry out for other nodes, their drivers.

How a command has ended is kept, within bounds, until its driver says that the ledger knows: a driver may die before it has got
that, or before it has written it. When a driver leaves, the callers of its plain calls are gone, and these are interrupted. Its
commands go on: the heir takes them over by `adopt`. They, and how they ended, wait for that no longer than `PATIENCE`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands import mail
from nexus_tw.commands.invocations import PendingInvocation
from nexus_tw.commands.registry import Registry
from nexus_tw.interfaces.peers import Reason
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import ApplicationError, Options, Payload
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall

PATIENCE: Final = 60.0  # s for which a command without driver is kept
ORPHANS: Final = 65536  # commands without driver that are kept
OUTCOMES: Final = 65536  # ended commands that are kept, with or without driver
OUTCOME_BYTES: Final = 67108864  # of their results
PAST: Final = 4096  # invocations that are over, and may still be interrupted

_guarded: Final = Guard(__name__, "A callee could not be told that nobody waits for its answer")

Tell = Callable[[str, mail.ToDriver], None]
"""Tells a node."""
Room = Callable[[str, int], bool]
"""Returns whether a node can be told so many bytes now."""


class Guest:
    """The caller's half of one invocation; provides `nexus_tw.commands.invocations.CallersHalf`."""

    __slots__ = ("end", "guests", "invocation", "key", "node", "number", "retried", "size")

    invocation: PendingInvocation

    def __init__(self, guests: Guests, node: str, number: int, retried: bool) -> None:
        self.guests = guests
        self.node: str | None = node  # the driver; None: it has left
        self.number = number
        self.retried = retried
        self.key: tuple[str, str] | None = None  # of a command: its id and the agent
        self.end: mail.ToDriver | None = None  # kept until its driver has written it
        self.size = 0  # bytes of it

    # --- CallersHalf

    def progressed(self, payload: Payload, options: Options) -> None:
        if self.node is None:
            return
        if self.guests.room(self.node, payload.size):
            self.guests.tell(self.node, mail.Progressed(self.number, payload.packed, mail.stated(options)))
        else:
            self.invocation.stop("cancelled")
            self.failed(NexusError("rate_limited", "the node of the caller has not read its earlier messages yet"))

    def completed(self, payload: Payload, options: Options) -> None:
        self.guests.ended(self, mail.Completed(self.number, payload.packed, mail.stated(options)), payload.size)

    def failed(self, error: NexusError) -> None:
        failed, size = mail.Failed(self.number, error.code, error.message, error.uri), len(error.message)
        if isinstance(error, ApplicationError):
            failed.payload, failed.options = error.payload.packed, mail.stated(error.options)
            size += error.payload.size
        self.guests.ended(self, failed, size)

    def lost(self) -> None:
        self.guests.ended(self, mail.Lost(self.number), 0)

    def overran(self, alone: bool) -> None:
        self.guests.ended(self, mail.Overran(self.number, alone), 0)

    def returned(self, _payload: Payload, _busy: bool) -> None:
        raise AssertionError("a connection of this node is no remote executor")


class Guests:
    """The invocations of other nodes on this one."""

    def __init__(
        self,
        clock: IReactorTime,
        spread: Spread,
        registry: Registry,
        metrics: Metrics,
        tell: Tell,
        room: Room,
        out_of_touch: Callable[[], bool],
    ) -> None:
        """`out_of_touch` says whether this node may be given up by the others."""
        self.tell = tell
        self.room = room
        self._out_of_touch = out_of_touch
        self._clock = clock
        self._spread = spread
        self._registry = registry
        self._metrics = metrics
        self._open: dict[str, dict[int, Guest]] = {}  # by driver and number
        self._commands: dict[tuple[str, str], list[Guest]] = {}  # by command id and agent, all that are kept
        self._past: OrderedDict[tuple[str, int], PendingInvocation] = OrderedDict()  # over, but not interrupted
        self._orphans: OrderedDict[Guest, float] = OrderedDict()  # without driver, and the time at which they are given up
        self._outcomes: dict[Guest, None] = {}  # ended commands, with or without driver
        self._bytes = 0  # of their results
        self._sweeping = False

    def __len__(self) -> int:
        """Return how many are under way for a driver."""
        return sum(guest.end is None for there in self._open.values() for guest in there.values())

    @property
    def kept(self) -> tuple[int, int, int]:
        """Commands without driver, those that have ended, and the bytes of their results."""
        return len(self._orphans), len(self._outcomes), self._bytes

    def received(self, node: str, message: mail.ToGuests) -> None:
        """Receive what a driver wants."""
        if type(message) is mail.Start:
            self._start(node, message)
        elif type(message) is mail.Further:
            guest = self._under_way(node, message.number)
            if guest is not None:
                self._further(guest, Payload.unpacked(message.payload), message.more)
        elif type(message) is mail.Interrupt:
            self._interrupt(node, message.number, message.reason)
        elif type(message) is mail.Release:
            for number in message.numbers:
                self._release(node, number)
        elif type(message) is mail.Adopt:
            self._adopt(node, message)

    # --- one invocation

    def _start(self, node: str, start: mail.Start) -> None:
        payload = Payload.unpacked(start.payload)
        callee = self._registry.here(start.session, start.agent_id, start.pattern)
        if callee is None or not callee.room(payload.size):
            # Said before this node can tell of a later registration of the same callee.
            self.tell(node, mail.Returned(start.number, callee is not None, start.payload))
            return
        guest = Guest(self, node, start.number, start.retried)
        guest.invocation = PendingInvocation(
            guest,
            callee,
            start.procedure,
            payload,
            mail.caller_of(start),
            wall(self._clock) + start.seconds,
            start.command_id,
            start.attempt,
            start.disclosed,
            start.progressive,
            start.more,
            start.options,
        )
        self._open.setdefault(node, {})[start.number] = guest
        self._metrics.guests += 1
        if start.command_id:
            guest.key = (start.command_id, start.agent_id)
            self._commands.setdefault(guest.key, []).append(guest)
        if guest.retried and self._out_of_touch():
            # It came while this node stood still: another executor may have got it since.
            guest.lost()
        else:
            callee.start(guest.invocation, None)

    def _under_way(self, node: str, number: int) -> Guest | None:
        guest = self._open.get(node, {}).get(number)
        return None if guest is None or guest.end is not None else guest

    def _further(self, guest: Guest, payload: Payload, more: bool) -> None:
        executor = guest.invocation.executor
        if executor.room(payload.size):
            executor.further(guest.invocation, payload, more)
        else:
            guest.invocation.stop("cancelled")
            guest.failed(NexusError("rate_limited", "the executor has not read its earlier messages yet"))

    def _interrupt(self, node: str, number: int, reason: Reason) -> None:
        guest = self._under_way(node, number)
        invocation = self._past.pop((node, number), None) if guest is None else guest.invocation
        if invocation is not None:
            _guarded(invocation.executor.interrupt, invocation, reason)

    def _release(self, node: str, number: int) -> None:
        guest = self._open.get(node, {}).get(number)
        if guest is None:
            return
        self._forget(guest)
        if guest.end is None:
            self._metrics.guests -= 1
            guest.invocation.end()
            self._past[node, number] = guest.invocation
            if len(self._past) > PAST:
                self._past.popitem(last=False)

    def ended(self, guest: Guest, end: mail.ToDriver, size: int) -> None:
        """An invocation has ended: tell its driver, and keep that until it is written."""
        node = guest.node
        if node is not None:
            self.tell(node, end)
        elif guest not in self._orphans:
            return  # a call, whose driver has left
        self._metrics.guests -= 1
        if guest.key is None or not isinstance(end, mail.KEPT):
            self._forget(guest)
            return
        guest.end, guest.size = end, size
        self._outcomes[guest] = None
        self._count(1, size)
        while len(self._outcomes) > OUTCOMES:
            self._give_up(next(iter(self._outcomes)))
        while self._bytes > OUTCOME_BYTES:
            self._give_up(next(one for one in self._outcomes if one.size))

    def _count(self, outcomes: int, size: int) -> None:
        self._bytes += size
        self._metrics.outcomes += outcomes
        self._metrics.outcome_bytes += size

    def _forget(self, guest: Guest) -> None:
        if guest.node is not None:
            self._detach(guest, guest.node)
        elif self._orphans.pop(guest, None) is not None:
            self._metrics.orphans -= 1
        if guest in self._outcomes:
            del self._outcomes[guest]
            self._count(-1, -guest.size)
        if guest.key is not None:
            same = self._commands.get(guest.key, [])
            if guest in same:
                same.remove(guest)
            if not same:
                self._commands.pop(guest.key, None)

    def _detach(self, guest: Guest, node: str) -> None:
        """Take a guest from its driver."""
        there = self._open.get(node, {})
        there.pop(guest.number, None)
        if not there:
            self._open.pop(node, None)

    # --- drivers that leave

    def left(self, node: str) -> None:
        """A driver is gone: interrupt its calls, and keep its commands for its heir."""
        guests = self._open.pop(node, {})
        calls = []
        until = self._clock.seconds() + PATIENCE
        for guest in guests.values():
            guest.node = None
            if guest.key is None:
                calls.append(guest)
                self._metrics.guests -= 1
            else:
                self._orphans[guest] = until
                self._metrics.orphans += 1
        for key in [key for key in self._past if key[0] == node]:
            del self._past[key]
        if calls:
            self._spread.work(_stop(calls))
        while len(self._orphans) > ORPHANS:
            self._give_up(next(iter(self._orphans)))
        self._sweep_later()

    def _adopt(self, node: str, adopt: mail.Adopt) -> None:
        for guest in self._commands.get((adopt.command_id, adopt.agent_id), ()):
            if guest.invocation.attempt == adopt.attempt:
                break
        else:
            self.tell(node, mail.Lost(adopt.number))
            return
        if guest.node is None:
            del self._orphans[guest]
            self._metrics.orphans -= 1
        else:  # this node has not been told yet that the former driver has left
            self._detach(guest, guest.node)
        guest.node, guest.number = node, adopt.number
        self._open.setdefault(node, {})[adopt.number] = guest
        if guest.end is not None:
            guest.end = replace(guest.end, number=adopt.number)
            self.tell(node, guest.end)

    def _sweep_later(self) -> None:
        if self._orphans and not self._sweeping:
            self._sweeping = True
            due = next(iter(self._orphans.values()))
            self._clock.callLater(max(0.0, due - self._clock.seconds()), self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        now = self._clock.seconds()
        while self._orphans and next(iter(self._orphans.values())) <= now:
            self._give_up(next(iter(self._orphans)))
        self._sweep_later()

    def _give_up(self, guest: Guest) -> None:
        """Forget a command that nobody has taken over or written, and interrupt it if it has not ended."""
        if guest in self._orphans:
            self._metrics.orphans_given_up += 1
        else:
            self._metrics.outcomes_given_up += 1
        self._forget(guest)
        if guest.end is None:
            self._metrics.guests -= 1
            _guarded(guest.invocation.stop, "cancelled")

    def fenced(self) -> None:
        """Stop commands that may be handed over elsewhere: if this node comes back in time after all, they are lost."""
        for guests in list(self._open.values()):
            for guest in [one for one in guests.values() if one.retried and one.end is None]:
                _guarded(guest.invocation.stop, "cancelled")
                guest.lost()

    def renamed(self) -> None:
        """Stop all: their drivers have given this node up."""
        guests = [guest for there in self._open.values() for guest in there.values()] + list(self._orphans)
        self._metrics.guests -= len(guests) - len(self._outcomes)
        self._metrics.orphans -= len(self._orphans)
        self._count(-len(self._outcomes), -self._bytes)
        self._open.clear()
        self._commands.clear()
        self._orphans.clear()
        self._outcomes.clear()
        self._past.clear()
        for guest in guests:
            guest.node = guest.key = None
        self._spread.work(_stop(guests))


def _stop(guests: list[Guest]) -> Iterator[None]:
    for guest in guests:
        if not guest.invocation.over:
            _guarded(guest.invocation.stop, "cancelled")
        yield
