"""Executors on other nodes of the fleet, and the invocations that this node has handed to them.

This node is then the driver of an invocation: it has the caller's half, and the timeout. The node of the callee holds it as a
guest (`guests`). Whatever the executing node says after the end of an invocation is ignored. It keeps how a command has ended
until it is told that the ledger knows; that is told of many together, as nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands import mail
from nexus_tw.commands.invocations import HANDED_ON, CallersHalf, PendingInvocation
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.peers import Caller, Invocation, Reason, Registration
from nexus_tw.model.errors import ERRORS, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import ApplicationError, Payload
from nexus_tw.model.policy import Principal
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall

PART: Final = "invocations"
PROBES: Final = 2  # questions whether a client answers, each for the patience of the fleet; a client has 3 s
GATHER: Final = 0.5  # s for which ends that are in the ledger are gathered before their nodes are told
GATHERED: Final = 256  # of these for one node, at most

_guarded: Final = Guard(__name__, "A caller could not be told of the end of an invocation on another node")
_NOBODY: Final = Caller(0, "", "")


class RemoteExecutor:
    """A callee on another node; implements `nexus_tw.interfaces.executors.Executor`."""

    __slots__ = (
        "_remotes",
        "agent_id",
        "answers",
        "identity",
        "node",
        "order",
        "place",
        "registration",
        "session",
        "streams",
    )

    local = False
    interruptible = True

    def __init__(
        self, remotes: Remotes, node: str, session: int, agent_id: str, registration: Registration | None = None
    ) -> None:
        """`session` is the id of the connection, which represents the agent there. Without a registration it is the executor
        of what has been adopted, and starts nothing."""
        self._remotes = remotes
        self.node = node
        self.session = session
        self.agent_id = agent_id
        self.registration = registration
        self.identity = ""
        self.streams = self.answers = False
        self.place = self.order = 0

    def room(self, size: int) -> bool:
        return self._remotes.fleet.room(self.node, size)

    def start(self, invocation: Invocation, _principal: Principal | None) -> None:
        self._remotes.start(self, invocation)

    def further(self, invocation: Invocation, payload: Payload, more: bool) -> None:
        self._remotes.tell(self.node, mail.Further(invocation.number, payload.packed, more))

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        self._remotes.tell(self.node, mail.Interrupt(invocation.number, reason))
        return self.answers

    def named(self, _invocation: Invocation) -> None:
        """Do nothing: the id that a callee reads belongs to the guest."""

    def release(self, invocation: Invocation) -> None:
        self._remotes.release(self.node, invocation)

    def probe(self, done: Callable[[], None]) -> None:
        """Check whether the client still answers, if its node does; then call `done`."""
        self._remotes.probe(self.node, self.session, PROBES, done)


class Remotes:
    """The invocations that executors on other nodes carry out for this one."""

    def __init__(
        self,
        fleet: Fleet,
        clock: IReactorTime,
        spread: Spread,
        metrics: Metrics,
        gone: Callable[[RemoteExecutor], None],
    ) -> None:
        """`gone` is called with an executor whose node says that it does not exist."""
        self.fleet = fleet
        self._clock = clock
        self._spread = spread
        self._metrics = metrics
        self._gone = gone
        self._last = 0
        self._open: dict[str, dict[int, PendingInvocation]] = {}  # by node and number
        self._settled: dict[str, list[int]] = {}  # by node: ends that are in the ledger
        self._gathering = False
        self._here: Callable[[str, mail.ToGuests], None] = _nowhere

    def connect(self, here: Callable[[str, mail.ToGuests], None]) -> None:
        """Have `here` receive what this node tells itself, with its name: an heir may adopt what it executes."""
        self._here = here

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def adopt(
        self, node: str, command_id: str, agent_id: str, attempt: int, name: str, half: CallersHalf
    ) -> PendingInvocation:
        """Take over what the agent executes on `node`: this attempt of the command `name`, whose driver has left.

        `node` may be this one. The half hears what any caller's half hears: progress, and once how it ends, never before this
        returns. What has ended was kept (without a driver for 60 s, within bounds), and the half hears of that end. It hears
        `lost` if the node knows nothing of that attempt, is no member of the fleet or leaves. `PendingInvocation.stop` and
        `end` work as for an invocation that this node itself has handed over; its payload and caller are empty.
        """
        executor = RemoteExecutor(self, node, 0, agent_id)
        invocation = PendingInvocation(
            half, executor, name, HANDED_ON, _NOBODY, self._clock.seconds(), command_id, attempt
        )
        number = self._enter(node, invocation)
        if node == self.fleet.node or node in self.fleet.members:
            self.tell(node, mail.Adopt(number, command_id, agent_id, attempt))
        else:
            self._clock.callLater(0, self._take, node, mail.Lost(number))
        return invocation

    # --- for the executors

    def start(self, executor: RemoteExecutor, invocation: Invocation) -> None:
        """Hand an invocation over."""
        assert isinstance(invocation, PendingInvocation)
        assert executor.registration is not None
        number = self._enter(executor.node, invocation)
        self._metrics.invocations_sent += 1
        start = mail.Start(
            number,
            executor.session,
            executor.agent_id,
            executor.registration.pattern.text,
            invocation.procedure,
            invocation.payload.packed,
            invocation.caller,
            invocation.deadline - wall(self._clock),
            invocation.command_id if invocation.named else "",
            invocation.attempt,
            invocation.retried,
            invocation.disclosed,
            invocation.progressive,
            invocation.more,
            mail.stated(invocation.options),
        )
        self.tell(executor.node, start)
        invocation.payload = HANDED_ON

    def probe(self, node: str, session: int, times: int, done: Callable[[], None]) -> None:
        """Have a node check whether the client of a session answers. It may take longer for that than the fleet has patience,
        so it is asked up to so many times; not if it is silent itself."""

        def answered(answers: Mapping[str, bytes]) -> None:
            if node in answers:
                done()
            else:
                self.probe(node, session, times - 1, done)

        if not times or self.fleet.silent(node):
            done()
        else:
            self.fleet.ask([node], PART, mail.encode(session), answered)

    def tell(self, node: str, message: mail.ToGuests) -> None:
        if node == self.fleet.node:
            self._clock.callLater(0, self._here, node, message)
        else:
            self.fleet.tell(node, PART, mail.encode(message))

    def release(self, node: str, invocation: Invocation) -> None:
        """The invocation is over: if the other node has not said so itself, tell it."""
        if self._open.get(node, {}).pop(invocation.number, None) is not None:
            self.tell(node, mail.Release([invocation.number]))

    def _enter(self, node: str, invocation: PendingInvocation) -> int:
        number = self._last = invocation.number = self._last + 1
        self._open.setdefault(node, {})[number] = invocation
        return number

    # --- from the other nodes

    def received(self, node: str, message: mail.ToDriver) -> None:
        """Receive what the executing node says of an invocation."""
        _guarded(self._take, node, message)

    def _take(self, node: str, message: mail.ToDriver) -> None:
        there = self._open.get(node, {})
        if type(message) is mail.Progressed:
            invocation = there.get(message.number)
            if invocation is not None:
                invocation.progress(Payload.unpacked(message.payload), message.options)
            return
        invocation = there.pop(message.number, None)
        if invocation is None:
            return
        if invocation.named and isinstance(message, mail.KEPT):
            invocation.settle = partial(self._settle, node, message.number)
        if type(message) is mail.Completed:
            invocation.result(Payload.unpacked(message.payload), message.options)
        elif type(message) is mail.Failed:
            invocation.error(_error(message))
        elif type(message) is mail.Overran:
            invocation.overran(message.alone)
        elif type(message) is mail.Returned:
            if not message.busy and isinstance(invocation.executor, RemoteExecutor):
                self._gone(invocation.executor)
            invocation.returned(Payload.unpacked(message.payload), message.busy)
        else:
            invocation.lost()

    def _settle(self, node: str, number: int) -> None:
        """The end of a command is in the ledger: its node need not keep it."""
        numbers = self._settled.setdefault(node, [])
        numbers.append(number)
        if len(numbers) >= GATHERED:
            self.tell(node, mail.Release(self._settled.pop(node)))
        elif not self._gathering:
            self._gathering = True
            self._clock.callLater(GATHER, self._tell_settled)

    def _tell_settled(self) -> None:
        self._gathering = False
        settled, self._settled = self._settled, {}
        for node, numbers in settled.items():
            self.tell(node, mail.Release(numbers))

    def left(self, node: str) -> None:
        """End all invocations on a node that is gone."""
        self._settled.pop(node, None)
        invocations = self._open.pop(node, None)
        if invocations:
            self._spread.work(_lose(invocations))

    def renamed(self) -> None:
        """End all invocations on other nodes: they have given this node up, and what it had handed to them."""
        for node in list(self._open):
            self.left(node)


def _lose(invocations: dict[int, PendingInvocation]) -> Iterator[None]:
    for invocation in invocations.values():
        _guarded(invocation.lost)
        yield


def _error(failed: mail.Failed) -> NexusError:
    if failed.payload is not None:
        return ApplicationError(failed.uri, Payload.unpacked(failed.payload), failed.message, failed.options)
    return NexusError(failed.code if failed.code in ERRORS else "failed", failed.message, failed.uri)


def _nowhere(_node: str, _message: mail.ToGuests) -> None:
    raise AssertionError("`connect` was not called")
