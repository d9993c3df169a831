"""What the fleet hears of agents that move, of nodes that die, and of a bus that loses its data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nexus_tw.bus.memory_attendance import MemoryAttendance
from nexus_tw.model.attendance import Attendance, Hold, Told
from nexus_tw.model.errors import REPLACED, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.presence.agents import Presence
from nexus_tw.presence.attending import RETRY, SETTLING, Attending
from nexus_tw.presence.fellows import AT_ONCE, ORDERS, SILENCE, Fellows
from nexus_tw.presence.holding import Done, Surroundings
from nexus_tw.runtime.spread import Spread
from tests.fleet.pretend import Pretended, PretendedFleet
from tests.recording import RecordingPeer, principal

GRACE = 5.0


class Node:
    """A node with its own link to the bus."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.up = True
        self.fleet = PretendedFleet(world.fleet, name)
        own = self.own = MemoryAttendance(world.attendance, lambda: self.up, lambda: str(world.epoch))
        self.around = Surroundings(
            lambda: own, lambda: self.fleet.node, lambda: bool(self.fleet.members), self._missed
        )
        self.missed = 0
        self.metrics = Metrics()
        self.spread = Spread(world.clock)
        self.presence = Presence(
            self.around, self._displaced, world.clock, world.grace, Limits(agents=0, agents_all=0), self.metrics, self.spread
        )
        self.fellows = Fellows(self.fleet, self.presence, self.around.attendance, world.clock, world.grace)
        self.presence.attending.started()
        world.fleet.join(self.fleet)

    def _missed(self) -> None:
        self.missed += 1

    def _displaced(self, *what: Any) -> None:
        self.fellows.displaced(*what)

    def peer(self, *agents: str, explicit: bool = False) -> RecordingPeer:
        """Return a connection that represents these."""
        peer = RecordingPeer(who=principal("somebody"))
        for agent_id in agents:
            if explicit:
                self.presence.registers(peer, agent_id, True)
                self.presence.hold(peer, agent_id, allow, ignore)
            else:
                self.presence.acts(peer, agent_id)
        return peer

    def lose(self, peer: RecordingPeer) -> None:
        self.presence.gone(peer)

    def cut(self) -> None:
        self.up = False

    def mend(self) -> None:
        self.up = True
        self.presence.attending.restored()

    def stop(self) -> None:
        """End as a process does that is killed."""
        self.presence.attending.stop()
        self.fellows.stop()


def allow(_holder: Hold, done: Done) -> None:
    done(None)


def ignore(_error: NexusError | None) -> None:
    pass


class World:
    def __init__(self, grace: float = GRACE) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.grace = grace
        self.epoch = 1
        self.fleet = Pretended()
        self.buried: set[str] = set()
        self.events: list[tuple[str, str]] = []
        self.times: list[float] = []  # of these
        self.attendance = Attendance(self._publish, self.clock.seconds, self.buried)

    def _publish(self, told: Told) -> None:
        event = json.loads(told.data)
        self.events.append((event["agentId"], event["status"]))
        self.times.append(self.clock.seconds())

    def node(self, name: str) -> Node:
        return Node(self, name)

    def kill(self, node: Node) -> None:
        """The node dies, and the others notice."""
        node.stop()
        self.clock.advance(SILENCE)
        self.bury(node)

    def bury(self, node: Node) -> None:
        self.buried.add(node.fleet.node)
        self.fleet.kill(node.fleet.node)

    def flush(self, *nodes: Node) -> None:
        """The bus loses its data; all nodes have lost their links and find another epoch."""
        for node in nodes:
            node.cut()
        self.attendance.clear()
        self.epoch += 1
        for node in nodes:
            node.mend()
            node.presence.attending.renewed()

    def run(self, seconds: float) -> None:
        self.clock.pump([0.25] * int(seconds * 4))
        self.fleet.deliver()

    def of(self, agent_id: str) -> list[str]:
        return [status for who, status in self.events if who == agent_id]


@pytest.fixture
def world() -> World:
    return World()


def test_an_agent_that_returns_within_its_grace_was_never_gone(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a")
    one.lose(first)
    world.run(GRACE - 1)
    second = two.peer("a")
    two.lose(second)
    world.run(GRACE - 1)
    third = one.peer("a")
    world.run(3 * GRACE)
    assert world.of("a") == ["online"]
    one.lose(third)
    world.run(GRACE - 1)
    assert world.of("a") == ["online"]
    world.run(1)
    assert world.of("a") == ["online", "offline"]
    assert len(one.presence.attending) == len(two.presence.attending) == 0


def test_without_grace_it_is_offline_at_once() -> None:
    world = World(grace=0)
    node = world.node("one")
    node.lose(node.peer("a"))
    assert world.of("a") == ["online", "offline"] and node.metrics.events_published == 2


def test_the_heir_tells_of_the_agents_of_a_node_that_died(world: World) -> None:
    one, two, three = world.node("one"), world.node("two"), world.node("three")
    ids = [f"a{number}" for number in range(3 * AT_ONCE)]
    one.peer(*ids)
    two.peer("a0")
    released = one.peer("released")
    one.lose(released)
    three.peer("three")
    world.kill(one)
    world.run(1)
    assert world.of("a0") == ["online"] and world.of("three") == ["online"]
    assert all(world.of(agent_id) == ["online", "offline"] for agent_id in [*ids[1:], "released"])
    assert two.fleet.held == three.fleet.held == []


def test_the_agents_of_a_node_that_leaves_have_their_whole_grace(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    moving = one.peer("moving", "lost")
    one.fellows.drain()
    world.fleet.deliver()
    one.lose(moving)
    one.stop()
    world.bury(one)
    world.run(GRACE - 1)
    two.peer("moving")
    world.run(GRACE)
    assert world.of("moving") == ["online"] and world.of("lost") == ["online", "offline"]


def test_an_heir_that_cannot_reach_the_bus_tries_again_and_one_that_dies_has_an_heir(world: World) -> None:
    one, two, three = world.node("one"), world.node("two"), world.node("three")
    one.peer("a")
    two.cut()
    world.kill(one)
    world.run(3)
    assert world.of("a") == ["online"]
    two.stop()
    world.bury(two)
    three.fellows.left("one", True)
    world.run(GRACE)
    assert world.of("a") == ["online", "offline"]


def test_when_the_bus_has_lost_its_data_nothing_is_told_of_those_who_stay(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    one.peer("stays", "both")
    two.peer("both")
    leaving = one.peer("leaving")
    one.lose(leaving)
    world.flush(one, two)
    world.run(2 * GRACE + SETTLING)
    assert world.of("stays") == world.of("both") == ["online"] and world.of("leaving") == ["online", "offline"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_what_changed_while_the_bus_lost_its_data_is_told_once(world: World, order: tuple[int, int]) -> None:
    one, two = nodes = world.node("one"), world.node("two")
    peer = one.peer("moves", "goes")
    for node in nodes:
        node.cut()
    one.lose(peer)
    two.peer("moves", "comes")
    world.run(2 * GRACE)
    world.attendance.clear()
    world.epoch += 1
    for number in order:
        nodes[number].mend()
        nodes[number].presence.attending.renewed()
        world.run(0.5)
    world.run(2 * GRACE)
    assert world.of("moves") == ["online"]
    assert world.of("goes") == ["online", "offline"]
    assert world.of("comes") == ["online"]
    assert one.missed == two.missed == 0


def test_while_the_bus_is_away_changes_wait_and_a_visit_that_nobody_heard_of_is_said_to_be_left_out(world: World) -> None:
    one = world.node("one")
    stays = one.peer("goes")
    one.cut()
    one.lose(stays)
    one.lose(one.peer("visits"))
    one.peer("comes")
    world.run(GRACE + 2 * RETRY)
    assert world.events == [("goes", "online")] and one.missed == 1
    one.mend()
    world.run(GRACE)
    assert world.of("goes") == ["online", "offline"] and world.of("comes") == ["online"] and world.of("visits") == []


def test_what_the_bus_refuses_is_tried_again_without_being_asked(world: World) -> None:
    one = world.node("one")
    one.up = False
    ids = [f"a{number}" for number in range(200)]
    one.peer(*ids)
    one.up = True
    world.run(2 * RETRY)
    assert [status for _, status in world.events] == ["online"] * 200
    assert not world.clock.getDelayedCalls()


def test_a_node_that_was_given_up_and_returns_tells_of_its_agents_again(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    one.peer("a")
    two.peer("b")
    one.cut()
    world.clock.advance(SILENCE)
    world.bury(one)
    world.run(1)
    assert world.of("a") == ["online", "offline"]
    one.fleet.node = "one+2"
    one.fleet.members.clear()
    world.fleet.join(one.fleet)
    one.mend()
    one.presence.attending.renewed()
    world.run(2)
    assert world.of("a") == ["online", "offline", "online"] and world.of("b") == ["online"]


def test_who_registers_an_agent_replaces_its_holder_on_any_node(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    ended: list[Any] = []
    one.presence.evict = ended.append
    first = one.peer("a", explicit=True)
    second = two.peer("a", explicit=True)
    assert first.closed == []
    world.fleet.deliver()
    assert first.closed == [REPLACED] and ended == [first] and second.closed == []
    assert one.presence.holder("a") is None and two.presence.holder("a") is second


def test_a_node_that_is_heard_from_late_is_told_then_whom_it_has_lost(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a", explicit=True)
    del two.fleet.members["one"]
    for number in range(ORDERS + 1):
        two.fellows.displaced(f"b{number}", Hold("never seen", 1, 1), 2)
    two.peer("a", explicit=True)
    world.fleet.deliver()
    assert first.closed == [] and len(two.fellows._orders) == ORDERS
    two.fleet.sees("one")
    world.fleet.deliver()
    assert first.closed == [REPLACED]


@pytest.mark.parametrize("later", [False, True])
def test_a_registration_replaces_its_holder_though_the_answer_that_said_whom_was_lost(world: World, later: bool) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a", explicit=True)
    world.run(1)
    hold, lost = two.own.hold, list[Any]()

    def unheard(node: str, agent_id: str, session: int, number: int, over: int, done: Any) -> None:
        hold(node, agent_id, session, number, over, lambda answer: lost.append((done, answer)))

    two.own.hold = unheard  # type: ignore[method-assign]
    second = two.peer("a", explicit=True)
    done, answer = lost.pop()
    done(answer)  # who holds it; then it is claimed over that
    done, answer = lost.pop()
    assert answer.former.node == "one"
    two.own.hold = hold  # type: ignore[method-assign]
    done(NexusError("bus_unavailable", "The link is lost"))
    world.run(RETRY / 2)
    if later:
        third = one.peer("a", explicit=True)
        world.fleet.deliver()
    world.run(RETRY)
    world.fleet.deliver()
    assert first.closed == [REPLACED]
    assert second.closed == ([REPLACED] if later else []) and (not later or third.closed == [])


def test_whom_a_node_has_replaced_before_it_knew_that_it_was_given_up_is_told_again(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a", explicit=True)
    one.fleet.loses("two", False)  # so that it does not listen to that name any more
    second = two.peer("a", explicit=True)
    world.fleet.deliver()
    assert first.closed == []
    two.fleet.loses("one", False)
    two.fleet.node = "two+2"
    world.fleet.join(two.fleet)
    two.presence.attending.renewed()
    world.fleet.deliver()
    assert first.closed == [REPLACED] and second.closed == []


def test_an_order_that_is_late_closes_nobody(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a", explicit=True)
    second = two.peer("a", explicit=True)
    third = one.peer("a", explicit=True)  # replaces the first here, and the second there
    assert first.closed == [REPLACED]
    one.presence.hold(third, "a", allow, ignore)
    world.fleet.deliver()
    assert third.closed == [] and second.closed == [REPLACED]
    assert one.presence.holder("a") is third


def test_registrations_while_the_bus_is_away_are_decided_when_it_returns(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a", explicit=True)
    one.cut()
    two.cut()
    world.clock.advance(1)
    answered: list[str] = []
    second = two.peer("a")
    two.presence.registers(second, "a", True)
    two.presence.hold(second, "a", allow, lambda _error: answered.append("held"))
    assert answered == ["held"] and first.closed == []
    world.clock.advance(1)
    world.flush(one, two)
    world.run(1)
    assert first.closed == [REPLACED] and second.closed == []


def test_a_registration_of_which_the_bus_hears_late_gives_way_to_one_made_since(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    one.cut()
    first = one.peer("a", explicit=True)
    world.clock.advance(1)
    second = two.peer("a", explicit=True)
    one.mend()
    world.run(2)
    assert first.closed == [REPLACED] and second.closed == []


def test_a_connection_that_is_gone_before_its_registration_is_known_leaves_the_agent_to_who_had_it(world: World) -> None:
    one, two = world.node("one"), world.node("two")
    first = one.peer("a", explicit=True)
    held = two.around.attendance().hold
    late: list[Any] = []
    two.own.hold = lambda *what: late.append(what)  # type: ignore[method-assign]
    gone = two.peer("a", explicit=True)
    two.lose(gone)
    two.own.hold = held  # type: ignore[method-assign]
    held(*late[0])
    world.run(1)
    assert first.closed == [] and one.presence.holder("a") is first
    second = two.peer("a", explicit=True)
    world.run(1)
    assert first.closed == [REPLACED] and second.closed == []


def test_the_agents_that_wait_are_bounded(world: World) -> None:
    node = world.node("one")
    attending = Attending(node.around, world.clock, GRACE, node.metrics, node.fellows.displaced, _outdone, most=3)
    ids = [f"a{number}" for number in range(5)]
    for agent_id in ids:
        attending.came(agent_id, "somebody")
    for agent_id in ids:
        attending.went(agent_id, "somebody")
    assert world.events[5:] == [("a0", "offline"), ("a1", "offline")] and len(attending) == 3
    node.cut()
    world.run(GRACE)
    assert len(attending) == 3 and node.missed == 0, "nothing is lost yet"
    node.up = True
    for agent_id in ("b0", "b1"):
        attending.came(agent_id, "somebody")
    node.up = False
    for agent_id in ("b0", "b1"):
        attending.went(agent_id, "somebody")
    world.run(GRACE)
    assert len(attending) == 3 and node.missed == 2


def _outdone(agent_id: str, session: int) -> None:
    raise AssertionError("nobody has registered an agent")


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "go", "go", "wait", "wait", "cut", "mend", "flush", "kill", "register"]),
        st.integers(0, 2),
        st.sampled_from("ab"),
        st.sampled_from([0.25, 1.0, 3.0, 6.0]),
    ),
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ACTS)
def test_whatever_happens_what_is_told_alternates_and_in_the_end_is_true(acts: list[tuple[str, int, str, float]]) -> None:
    world = World()
    nodes = [world.node(f"n{number}") for number in range(3)]
    peers: list[dict[str, list[RecordingPeer]]] = [{"a": [], "b": []} for _ in nodes]
    generation = 3

    here_until: dict[str, float] = {}
    told = 0

    def check() -> None:
        nonlocal told
        for (agent_id, status), at in list(zip(world.events, world.times, strict=True))[told:]:
            assert status == "online" or at - here_until[agent_id] >= GRACE, f"{agent_id} was offline too early"
        told = len(world.events)
        for agent_id in "ab":
            if any(there[agent_id] for there in peers):
                here_until[agent_id] = world.clock.seconds()
            statuses = world.of(agent_id)
            assert statuses == [("online", "offline")[turn % 2] for turn in range(len(statuses))], agent_id

    def take_over() -> None:
        """Let the heirs do their work: what only a dead node and the bus knew is lost with both."""
        if any(node.fleet.held for node in nodes):
            for node in nodes:
                node.mend()
            world.run(2 * RETRY)

    for verb, number, agent_id, seconds in acts:
        node, there = nodes[number], peers[number]
        if verb == "come":
            there[agent_id].append(node.peer(agent_id))
        elif verb == "register":
            there[agent_id].append(node.peer(agent_id, explicit=True))
        elif verb == "go" and there[agent_id]:
            node.lose(there[agent_id].pop())
        elif verb == "wait":
            world.run(seconds)
        elif verb == "cut":
            node.cut()
        elif verb == "mend":
            node.mend()
        elif verb == "flush":
            take_over()
            world.flush(*nodes)
            world.run(SETTLING)  # a second loss within that is a loss of what was told
        elif verb == "kill":
            take_over()
            world.kill(node)
            generation += 1
            nodes[number] = world.node(f"n{generation}")
            peers[number] = {"a": [], "b": []}
        check()
    for node in nodes:
        node.mend()
    world.run(4 * GRACE)
    check()
    for agent_id in "ab":
        here = any(there[agent_id] for there in peers)
        assert (world.of(agent_id)[-1:] == ["online"]) == here, (agent_id, world.of(agent_id))
