from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nexus_tw.model.errors import REPLACED, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.spread import STEPS, Spread
from tests.presence.world import presence_alone
from tests.recording import RecordingAnnouncer, RecordingPeer, principal


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.announced = RecordingAnnouncer()
        self.metrics = Metrics()
        self.presence = presence_alone(
            self.announced, self.clock, Limits(agents=3, agents_all=20), self.metrics, Spread(self.clock)
        )

    def statuses(self) -> list[tuple[str, str]]:
        return [(event["agentId"], event["status"]) for event in self.announced.of("agent.status")]


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_connection_puts_an_agent_online_and_the_last_one_takes_it_offline(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.presence.acts(one, "a")
    world.presence.acts(two, "a")
    world.presence.acts(one, "a")
    assert world.statuses() == [("a", "online")]
    assert world.presence.peers("a") == [one, two]
    world.presence.gone(one)
    assert world.statuses() == [("a", "online")]
    world.presence.gone(two)
    assert world.statuses() == [("a", "online"), ("a", "offline")]
    assert world.presence.agents() == [] and world.presence.peers("a") == []


def test_the_event_says_who_what_and_when(world: World) -> None:
    world.clock.advance(1.5)
    world.presence.acts(RecordingPeer(), "a")
    assert world.announced.events == [
        ("agent.status", {"agentId": "a", "status": "online", "timestamp": "1970-01-01T00:00:01.500Z"})
    ]


def test_one_connection_may_act_for_several_agents(world: World) -> None:
    peer = RecordingPeer()
    for agent_id in "abc":
        world.presence.acts(peer, agent_id)
    assert world.presence.agents() == ["a", "b", "c"]
    world.presence.gone(peer)
    assert world.statuses()[3:] == [("a", "offline"), ("b", "offline"), ("c", "offline")]


def test_the_many_agents_of_one_connection_go_offline_a_few_in_each_turn() -> None:
    clock, announced = Clock(), RecordingAnnouncer()
    presence = presence_alone(announced, clock, Limits(), Metrics(), Spread(clock))
    peer, other = RecordingPeer(), RecordingPeer()
    ids = [f"a{number}" for number in range(5 * STEPS)]
    for agent_id in ids:
        presence.acts(peer, agent_id)
    announced.events.clear()
    presence.gone(peer)
    assert len(announced.events) == STEPS
    presence.acts(other, ids[-1])  # comes back before it was told that it went
    clock.advance(0)
    assert [event["agentId"] for event in announced.of("agent.status")] == ids[:-1]
    assert presence.peers(ids[-1]) == [other] and presence.agents() == [ids[-1]]


def test_a_connection_that_acted_for_nobody_or_is_gone_already_may_go(world: World) -> None:
    peer = RecordingPeer()
    world.presence.gone(peer)
    world.presence.acts(peer, "a")
    world.presence.gone(peer)
    world.presence.gone(peer)
    assert world.statuses() == [("a", "online"), ("a", "offline")]


def test_who_registers_an_explicit_id_replaces_who_registered_it_before(world: World) -> None:
    older, newer = RecordingPeer(), RecordingPeer()
    assert world.presence.registers(older, "a", True) is None
    assert world.presence.registers(newer, "a", True) is older
    assert older.closed == [REPLACED] and newer.closed == []
    world.presence.gone(older)
    assert world.statuses() == [("a", "online")]
    newest = RecordingPeer()
    assert world.presence.registers(newest, "a", True) is newer


def test_who_only_sends_telemetry_under_an_id_is_not_replaced(world: World) -> None:
    sensor, agent = RecordingPeer(), RecordingPeer()
    world.presence.acts(sensor, "a")
    assert world.presence.registers(agent, "a", True) is None
    assert sensor.closed == [] and world.presence.peers("a") == [sensor, agent]


def test_registering_again_replaces_nobody(world: World) -> None:
    peer = RecordingPeer()
    world.presence.registers(peer, "a", True)
    assert world.presence.registers(peer, "a", True) is None
    assert peer.closed == []


def test_a_connections_own_id_is_nobody_elses_to_lose(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.presence.registers(one, one.client_id, False)
    assert world.presence.registers(two, one.client_id, False) is None
    assert one.closed == []


def test_an_id_is_free_again_when_its_connection_is_gone(world: World) -> None:
    older, newer = RecordingPeer(), RecordingPeer()
    world.presence.registers(older, "a", True)
    world.presence.gone(older)
    assert world.presence.registers(newer, "a", True) is None
    assert older.closed == []


def test_the_agents_of_one_connection_are_bounded_and_those_it_has_stay_usable(world: World) -> None:
    peer = RecordingPeer()
    for number in range(3):
        assert world.presence.acts(peer, f"a{number}")
    assert not world.presence.acts(peer, "one-more")
    with pytest.raises(NexusError, match="more than 3 agents") as caught:
        world.presence.registers(peer, "one-more", True)
    assert caught.value.code == "limit_exceeded"
    assert world.presence.acts(peer, "a0")
    assert world.presence.peers("one-more") == []


def test_an_id_that_is_no_name_is_refused_and_leaves_no_trace(world: World) -> None:
    with pytest.raises(NexusError) as caught:
        world.presence.registers(RecordingPeer(), "a b", True)
    assert caught.value.code == "invalid_message"
    assert world.presence.agents() == [] and world.announced.events == []


@given(st.lists(st.tuples(st.sampled_from(["acts", "registers", "gone"]), st.integers(0, 3), st.sampled_from("ab"))))
def test_an_agent_is_online_exactly_while_a_connection_acts_for_it(steps: list[tuple[str, int, str]]) -> None:
    world = World()
    peers = [RecordingPeer(who=principal(f"subject-{number}")) for number in range(4)]  # each within its share
    model: dict[str, set[RecordingPeer]] = {"a": set(), "b": set()}
    for verb, number, agent_id in steps:
        peer = peers[number]
        if verb == "gone":
            world.presence.gone(peer)
            for acting in model.values():
                acting.discard(peer)
        else:
            if verb == "acts":
                world.presence.acts(peer, agent_id)
            else:
                world.presence.registers(peer, agent_id, True)
            model[agent_id].add(peer)
        assert set(world.presence.agents()) == {name for name, acting in model.items() if acting}
        for name, acting in model.items():
            assert set(world.presence.peers(name)) == acting
            told = [status for who, status in world.statuses() if who == name]
            assert told == [("online", "offline")[turn % 2] for turn in range(len(told))]
            assert bool(acting) == (len(told) % 2 == 1)


def test_the_agents_of_one_subject_leave_room_for_those_of_others(world: World) -> None:
    greedy = [RecordingPeer(who=principal("greedy")) for _ in range(2)]
    assert [world.presence.acts(peer, f"g{n}") for n in range(3) for peer in greedy] == [True] * 5 + [False]
    with pytest.raises(NexusError, match=r"More than 5 agents of one subject \(limits\.share\)") as refused:
        world.presence.registers(greedy[1], "g9", True)
    assert refused.value.code == "limit_exceeded" and world.presence.holder("g9") is None
    assert world.metrics.shares_refused == {"agents": 2}
    assert world.presence.acts(greedy[0], "g0"), "what it acts for already"
    others = [RecordingPeer(who=principal(f"other-{n}")) for n in range(5)]
    assert [world.presence.acts(peer, f"o{n}") for n in range(3) for peer in others] == [True] * 15
    with pytest.raises(NexusError, match=r"More than 20 agents of all subjects \(limits\.agents_all\)"):
        world.presence.registers(RecordingPeer(who=principal("late")), "late", True)
    for peer in greedy:
        world.presence.gone(peer)
    assert all(world.presence.acts(greedy[0], f"g{n}") for n in range(3))
    assert world.announced.accounts[:4] == ["greedy", "greedy", "greedy", "other-0"], "each on the account of who caused it"
