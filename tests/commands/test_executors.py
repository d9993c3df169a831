"""The contract of executors: kept by each kind, and enough for a kind that the callers' halves have never seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw
from twisted.internet.defer import Deferred

from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.calls import Calls
from nexus_tw.commands.handlers import HELD, HandlerExecutor
from nexus_tw.commands.invocations import Invocations, PendingInvocation
from nexus_tw.commands.procedures import ProcedureExecutor
from nexus_tw.commands.registry import SharedRegistration
from nexus_tw.commands.remotes import RemoteExecutor
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.peers import Invocation, Peer, Reason
from nexus_tw.interfaces.plugins import Invoked
from nexus_tw.interfaces.realm import CallReply, CallRequest
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.client_log import ClientLog
from tests.commands.nodes import Nodes
from tests.commands.world import World
from tests.recording import RecordingCallReply, RecordingHalf, RecordingPeer, caller, principal

ONE = Payload.of_value(b"1")
LATE = NexusError("failed", "it comes after the end")


# --- what is known keeps it


class Known:
    """An executor of one kind, and how the test makes it answer."""

    def __init__(self, kind: str) -> None:
        self.peer = RecordingPeer()
        self.results: list[Deferred[Any]] = []
        self.replies: list[CallReply] = []
        self.far: RecordingPeer | None = None
        self.turn: Callable[[], None] = lambda: None  # lets arrive what was sent
        self.executor = self._executor(kind)

    def _executor(self, kind: str) -> Executor:
        if kind == "callee":
            registration = SharedRegistration(1, Pattern.parse("deploy"), "single", 0)
            return PeerExecutor(Invocations(Limits()), RecordingPeer(), "a", registration)
        if kind == "remote":
            return self._remote()
        if kind == "handler":
            return HandlerExecutor(self._handle, Budget("handler_bytes", HELD, Limits(), Metrics()))
        return ProcedureExecutor(self._reply, lambda _number: self.peer)

    def _remote(self) -> Executor:
        nodes = Nodes("here", "there")
        self.far = RecordingPeer()
        nodes["there"].register(self.far, ["deploy"], "a")
        nodes.deliver()
        self.turn = nodes.deliver
        executor = nodes["here"].registry.pick("deploy", None)
        assert isinstance(executor, RemoteExecutor)
        return executor

    def _handle(self, _invoked: Invoked) -> Deferred[Any]:
        self.results.append(Deferred())
        return self.results[-1]

    def _reply(self, _peer: Peer, _payload: Payload, reply: CallReply) -> None:
        self.replies.append(reply)

    def answer(self, invocation: Invocation) -> None:
        for result in self.results:
            if not result.called:
                result.callback(2)
        if self.far is not None:
            for there in self.far.invocations:
                there.result(Payload.of_value(b"2"))
        elif not self.results:
            invocation.result(Payload.of_value(b"2"))
        self.turn()


class Released:
    """Counts `release` of an executor, and what the caller's half had heard by then."""

    def __init__(self, executor: Executor, half: RecordingHalf, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[int] = []
        release = type(executor).release

        def counted(its: Any, invocation: Invocation) -> None:
            self.heard.append(len(half.heard))
            release(its, invocation)

        monkeypatch.setattr(type(executor), "release", counted)


KINDS = pytest.mark.parametrize("kind", ["callee", "handler", "procedure", "remote"])


def started(known: Known) -> tuple[PendingInvocation, RecordingHalf]:
    half, who = RecordingHalf(), principal()
    invocation = PendingInvocation(half, known.executor, "deploy", ONE, caller(known.peer), 5.0)
    known.executor.start(invocation, who)
    known.turn()
    return invocation, half


@KINDS
def test_it_is_released_once_before_the_callers_half_hears_of_its_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known(kind)
    invocation, half = started(known)
    released = Released(known.executor, half, monkeypatch)
    assert half.heard == []
    known.answer(invocation)
    assert invocation.over and half.heard == [("completed", b"2")] and released.heard == [0]
    invocation.error(LATE)
    invocation.lost()
    invocation.end()
    known.executor.interrupt(invocation, "timeout")
    assert half.heard == [("completed", b"2")] and released.heard == [0]


@KINDS
def test_one_that_the_caller_gave_up_is_released_once_and_its_answer_ignored(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known(kind)
    invocation, half = started(known)
    released = Released(known.executor, half, monkeypatch)
    assert not invocation.stop("cancelled")
    known.answer(invocation)
    assert half.heard == [] and released.heard == [0]


@KINDS
def test_what_is_asked_of_it_beforehand_changes_nothing(kind: str) -> None:
    executor = Known(kind).executor
    assert executor.room(1 << 20) and executor.room(1 << 20)
    assert executor.local is (executor.agent_id is None)


# --- a kind that is not known here


class Far:
    """An agent on another node, as far as this contract goes: what it was given, and how it was left."""

    streams = True
    local = False
    interruptible = True

    def __init__(self, agent_id: str | None = "far") -> None:
        self.agent_id = agent_id
        self.has_room = True
        self.refuses: NexusError | None = None
        self.given: list[Invocation] = []
        self.parts: list[tuple[bytes, bool]] = []
        self.interrupted: list[Reason] = []
        self.released = 0

    def room(self, _size: int) -> bool:
        return self.has_room

    def start(self, invocation: Invocation, _principal: Principal | None) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.given.append(invocation)

    def further(self, _invocation: Invocation, payload: Payload, more: bool) -> None:
        self.parts.append((payload.data, more))

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        self.interrupted.append(reason)
        return not invocation.over

    def named(self, _invocation: Invocation) -> None:
        raise AssertionError("nobody asked for an id")

    def release(self, _invocation: Invocation) -> None:
        self.released += 1


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
def world(far: Far) -> World:
    world = World()
    world.registry.serve("deploy", far)
    return world


def call(world: World, more: bool = False) -> tuple[Any, RecordingCallReply]:
    calls = Calls(
        world.clock, world.registry, world.metrics, Limits(), False, ClientLog("calls", world.clock, world.metrics)
    )
    reply = RecordingCallReply()
    request = CallRequest("deploy", ONE, 2.0, True, more, False, None)
    return calls.call(world.caller, world.caller.principal, request, reply), reply


def test_a_command_goes_to_it_and_its_progress_and_result_come_back(world: World, far: Far) -> None:
    reply = world.call(parameters=Raw(b'{"a":1}'))
    (given,) = far.given
    assert (given.payload.data, given.procedure, given.attempt) == (b'{"a":1}', "deploy", 1)
    assert given.caller.authid == "caller"
    given.progress(Payload.of_value(b"50"))
    given.result(Payload.of_value(b'"done"'))
    assert [bytes(told.data) for told in reply.progressed] == [b"50"]
    assert reply.answer["data"]["result"] == "done" and far.released == 1
    assert world.statuses(agents=True) == [("far", "sent"), ("far", "running"), ("far", "completed")]


def test_a_command_that_it_loses_is_tried_again(world: World, far: Far) -> None:
    reply = world.call(retries=1)
    far.given[0].lost()
    assert [given.attempt for given in far.given] == [1, 2] and far.released == 1
    far.given[1].lost()
    assert reply.code == "agent_lost" and far.released == 2


def test_a_command_that_it_refuses_has_failed(world: World, far: Far) -> None:
    far.refuses = NexusError("agent_offline", "the other node is away")
    reply = world.call()
    assert reply.code == "agent_offline" and world.statuses()[-1] == "failed" and far.released == 0


def test_it_is_interrupted_when_a_command_is_late_or_cancelled(world: World, far: Far) -> None:
    late = world.call(timeout=1.0)
    world.clock.advance(1.0)
    assert late.code == "timeout"
    cancelled = world.call(command_id="c")
    world.commands.cancel(world.caller.principal, "c", cancelled)
    assert cancelled.code == "cancelled"
    assert far.interrupted == ["timeout", "cancelled"] and far.released == 2


def test_a_call_goes_to_it_in_parts_and_its_results_come_back(world: World, far: Far) -> None:
    one, reply = call(world, more=True)
    one.further(Payload.of_value(b"2"), False)
    assert far.parts == [(b"2", False)]
    (given,) = far.given
    given.progress(Payload.of_value(b"50"))
    given.result(Payload.of_value(b"100"))
    assert reply.told == [("progress", b"50"), ("result", b"100")] and far.released == 1


def test_a_call_is_ended_by_it_or_by_its_caller_and_once(world: World, far: Far) -> None:
    _, late = call(world)
    world.clock.advance(2.0)
    killed, reply = call(world)
    killed.cancel("kill")
    assert reply.told == [], "it was asked, and will answer"
    far.given[-1].error(NexusError("cancelled", "as you like"))
    _, gone = call(world)
    far.given[-1].lost()
    assert late.told == [("error", "timeout")] and reply.told == [("error", "cancelled")]
    assert gone.told == [("error", "agent_lost")]
    assert far.interrupted == ["timeout", "cancelled"] and far.released == 3
    far.refuses = NexusError("agent_offline", "the other node is away")
    with pytest.raises(NexusError, match="is away"):
        call(world)
    assert world.clock.getDelayedCalls() == []


def test_one_without_room_is_given_nothing(world: World, far: Far) -> None:
    far.has_room = False
    for ask in (world.call, lambda: call(world)):
        with pytest.raises(NexusError) as refused:
            ask()
        assert refused.value.code == "rate_limited"
    assert far.given == []
