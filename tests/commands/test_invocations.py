from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus_tw.commands import invocations as module
from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.invocations import Invocations, PendingInvocation
from nexus_tw.commands.registry import SharedRegistration
from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.settings import Limits
from tests.recording import RecordingHalf, RecordingPeer, caller, principal

REGISTRATION = SharedRegistration(1, Pattern.parse("deploy"), "single", 0)
ONE = Payload.of_value(b"1")
FAILED = NexusError("failed", "it did")
SAYS: dict[str, tuple[Any, ...]] = {"result": (ONE,), "error": (FAILED,), "stop": ("cancelled",)}


class SilentPeer(RecordingPeer):
    """Calls nothing by a command id, as one who speaks WAMP does not."""

    def invoke(self, invocation: Any) -> None:
        self.invocations.append(invocation)

    def interrupt(self, invocation: Any, reason: Any) -> bool:
        self.interrupted.append((invocation, reason))
        return self.answers


class World:
    def __init__(self) -> None:
        self.table = Invocations(Limits())
        self.caller = caller(RecordingPeer())

    def callee(self, peer: RecordingPeer, agent_id: str = "a") -> PeerExecutor:
        return PeerExecutor(self.table, peer, agent_id, REGISTRATION)

    def make(self, peer: RecordingPeer, command_id: str = "", agent_id: str = "a") -> tuple[PendingInvocation, RecordingHalf]:
        half = RecordingHalf()
        callee = self.callee(peer, agent_id)
        invocation = PendingInvocation(half, callee, "deploy", ONE, self.caller, 5.0, command_id=command_id)
        return invocation, half

    def start(self, peer: RecordingPeer, command_id: str = "", agent_id: str = "a") -> tuple[PendingInvocation, RecordingHalf]:
        invocation, half = self.make(peer, command_id, agent_id)
        invocation.executor.start(invocation, None)
        return invocation, half


def peer_of(invocation: PendingInvocation) -> Peer:
    assert isinstance(invocation.executor, PeerExecutor)
    return invocation.executor.peer


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer() -> RecordingPeer:
    return SilentPeer()


def test_numbers_follow_each_other_for_each_connection(world: World, peer: RecordingPeer) -> None:
    other = SilentPeer()
    given = [world.start(each)[0] for each in (peer, peer, other, peer, other)]
    assert [invocation.number for invocation in given] == [1, 2, 1, 3, 2]
    assert peer.invocations == [given[0], given[1], given[3]]
    assert world.table.get(peer, 3) is given[3]
    given[3].result(ONE)
    assert world.start(peer)[0].number == 4, "also after some have ended"


def test_who_executes_it_says_how_far_it_is_and_how_it_ends(world: World, peer: RecordingPeer) -> None:
    invocation, half = world.start(peer)
    invocation.progress(Payload.of_value(b"50"))
    invocation.result(ONE)
    assert half.heard == [("progressed", b"50"), ("completed", b"1")]
    failing, other = world.start(peer)
    failing.error(FAILED)
    assert other.heard == [("failed", "failed")]
    assert invocation.over and failing.over and world.table.get(peer, 1) is None


@pytest.mark.parametrize("end", ["result", "error", "lost", "end", "stop"])
def test_what_is_said_after_the_end_is_passed_over(world: World, peer: RecordingPeer, end: str) -> None:
    invocation, half = world.start(peer)
    getattr(invocation, end)(*SAYS.get(end, ()))
    told = list(half.heard)
    assert told == {"result": [("completed", b"1")], "error": [("failed", "failed")], "lost": ["lost"]}.get(end, [])
    invocation.progress(ONE)
    invocation.result(ONE)
    invocation.error(FAILED)
    invocation.lost()
    invocation.end()
    assert half.heard == told and invocation.over


@pytest.mark.parametrize("verb", ["result", "error", "lost"])
def test_it_is_over_before_anybody_is_told_so(world: World, peer: RecordingPeer, verb: str) -> None:
    over: list[object] = []

    class Half(RecordingHalf):
        def completed(self, *_told: object) -> None:
            over.append((invocation.over, world.table.get(peer, invocation.number)))
            invocation.result(ONE)

        failed = lost = completed  # type: ignore[assignment]

    invocation = PendingInvocation(Half(), world.callee(peer), "deploy", ONE, world.caller, 5.0)
    invocation.executor.start(invocation, None)
    getattr(invocation, verb)(*SAYS.get(verb, ()))
    assert over == [(True, None)]


def test_a_connection_is_told_once_that_nobody_waits_any_more_and_says_whether_it_answers(world: World) -> None:
    for answers in (True, False):
        peer = SilentPeer()
        peer.answers = answers
        invocation, half = world.start(peer)
        assert invocation.stop("timeout") is answers
        assert peer.interrupted == [(invocation, "timeout")] and half.heard == []


def test_one_that_answers_while_it_is_handed_over_is_heard(world: World) -> None:
    class Hasty(SilentPeer):
        def invoke(self, invocation: Any) -> None:
            invocation.result(ONE)

    invocation, half = world.start(Hasty(), "c")
    assert half.heard == [("completed", b"1")] and invocation.over


# --- by command id


def test_by_its_command_id_it_is_found_as_that_agent_or_the_oldest(world: World, peer: RecordingPeer) -> None:
    first, _ = world.start(peer, "c", "a")
    second, _ = world.start(peer, "c", "b")
    assert world.table.find(peer, "c", None) is first
    assert world.table.find(peer, "c", "b") is second
    assert world.table.find(peer, "c", "x") is None and world.table.find(peer, "d", None) is None
    assert world.table.find(SilentPeer(), "c", None) is None, "another connection's"
    first.end()
    assert world.table.find(peer, "c", None) is second


def test_it_is_known_of_what_is_over_whose_it_was(world: World, peer: RecordingPeer) -> None:
    invocation, _ = world.start(peer, "c")
    assert not world.table.had(peer, "c"), "it has it"
    invocation.result(ONE)
    assert world.table.had(peer, "c") and not world.table.had(SilentPeer(), "c") and not world.table.had(peer, "d")


def test_what_is_known_of_those_that_are_over_is_bounded_and_the_oldest_goes_first(
    peer: RecordingPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PAST", 3)
    world = World()
    for number in range(5):
        world.start(peer, f"c{number}")[0].end()
    assert [world.table.had(peer, f"c{number}") for number in range(5)] == [False, False, True, True, True]


def test_one_subject_with_many_does_not_push_out_what_is_known_of_others(
    peer: RecordingPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PAST", 8)
    world, greedy = World(), RecordingPeer(who=principal("greedy"))
    for number in range(2):
        world.start(peer, f"c{number}")[0].end()
    for number in range(50):
        world.start(greedy, f"g{number}")[0].end()
    assert all(world.table.had(peer, f"c{number}") for number in range(2))
    assert [number for number in range(50) if world.table.had(greedy, f"g{number}")] == list(range(44, 50))


def test_one_without_a_command_id_gets_one_when_somebody_asks(world: World, peer: RecordingPeer) -> None:
    invocation, _ = world.start(peer)
    other, _ = world.start(peer)
    assert not invocation.named
    assert invocation.command_id == invocation.command_id != other.command_id
    assert world.table.find(peer, invocation.command_id, None) is invocation
    invocation.end()
    assert world.table.find(peer, invocation.command_id, None) is None and world.table.had(peer, invocation.command_id)


def test_nothing_is_remembered_of_calls_that_nobody_named(world: World, peer: RecordingPeer) -> None:
    for _ in range(3):
        world.start(peer)[0].result(ONE)
    assert not world.table._past and not world.table._named


# --- a connection that is gone


def test_a_lost_connection_loses_what_it_has_in_hand_and_nobody_elses(world: World, peer: RecordingPeer) -> None:
    mine = [world.start(peer, name) for name in ("", "c", "c")]
    others = SilentPeer()
    other, others_half = world.start(others, "c")
    list(world.table.lost(peer))
    list(world.table.lost(peer))
    assert [half.heard for _, half in mine] == [["lost"]] * 3
    assert others_half.heard == [] and world.table.find(others, "c", None) is other
    assert world.table.get(peer, 1) is None and world.table.find(peer, "c", None) is None
    assert peer not in world.table._hands


@pytest.mark.parametrize("count", [1, 2])
def test_a_connection_that_sends_too_much_is_told_of_as_that(world: World, peer: RecordingPeer, count: int) -> None:
    mine = [world.start(peer) for _ in range(count)]
    _, others_half = world.start(SilentPeer())
    world.table.overran(peer)
    world.table.overran(RecordingPeer())
    assert not any(half.heard for _, half in mine), "nothing has ended yet"
    list(world.table.lost(peer))
    assert [half.heard for _, half in mine] == [[("overran", count == 1)]] * count
    assert others_half.heard == []


def test_who_is_told_of_one_that_is_lost_may_end_another(world: World, peer: RecordingPeer) -> None:
    class Ending(RecordingHalf):
        def lost(self) -> None:
            super().lost()
            other.end()

    half = Ending()
    first = PendingInvocation(half, world.callee(peer), "deploy", ONE, world.caller, 5.0)
    first.executor.start(first, None)
    other, others_half = world.start(peer)
    list(world.table.lost(peer))
    assert half.heard == ["lost"] and others_half.heard == []
    assert not world.table._hands


# --- against a model


class InvocationsAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.peers: list[RecordingPeer] = [RecordingPeer(), SilentPeer()]  # the first has a name for everything
        self.open: list[tuple[PendingInvocation, RecordingHalf]] = []

    @rule(place=st.integers(0, 1), command_id=st.sampled_from(["", "c", "d"]), agent_id=st.sampled_from("ab"))
    def start(self, place: int, command_id: str, agent_id: str) -> None:
        self.open.append(self.world.start(self.peers[place], command_id, agent_id))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), verb=st.sampled_from(["result", "error", "end", "stop", "name"]))
    def end(self, data: st.DataObject, verb: str) -> None:
        place = data.draw(st.integers(0, len(self.open) - 1))
        invocation, half = self.open[place]
        if verb == "name":
            assert invocation.command_id
            return
        getattr(invocation, verb)(*SAYS.get(verb, ()))
        del self.open[place]
        assert len(half.heard) == (verb in ("result", "error"))

    @rule(place=st.integers(0, 1))
    def lose(self, place: int) -> None:
        peer = self.peers[place]
        list(self.world.table.lost(peer))
        for invocation, half in self.open:
            assert half.heard == (["lost"] if peer_of(invocation) is peer else [])
        self.open = [(invocation, half) for invocation, half in self.open if peer_of(invocation) is not peer]
        self.peers[place] = [RecordingPeer, SilentPeer][place]()

    @invariant()
    def what_is_open_is_found(self) -> None:
        table = self.world.table
        for peer in self.peers:
            mine = [invocation for invocation, _ in self.open if peer_of(invocation) is peer]
            numbers = [invocation.number for invocation in mine]
            assert numbers == sorted(set(numbers))
            assert all(table.get(peer, invocation.number) is invocation for invocation in mine)
            for command_id in {invocation.command_id for invocation in mine if invocation.named} | {"c", "d"}:
                named = [each for each in mine if each.named and each.command_id == command_id]
                for agent_id in ("a", "b", None):
                    meant = [each for each in named if agent_id in (None, each.agent_id)]
                    found = table.find(peer, command_id, agent_id)
                    # One that was named late stands behind those that were named before.
                    assert (found in meant) if meant else found is None
        assert not any(invocation.over for invocation, _ in self.open)

    def teardown(self) -> None:
        for place in range(2):
            self.lose(place)
        assert not self.world.table._hands and not self.world.table._named


InvocationsAgainstModel.TestCase.settings = settings(InvocationsAgainstModel.TestCase.settings, stateful_step_count=30)
TestInvocationsAgainstModel = InvocationsAgainstModel.TestCase
