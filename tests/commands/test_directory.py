"""The directory: each node knows the registrations of all, and all pick from the same callees."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_tw.commands import directory, mail
from nexus_tw.commands.registering import PROBES
from nexus_tw.commands.registry import Callee
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import Role
from nexus_tw.protocols.native.messages import CommandInvocation
from tests.commands.nodes import Node, Nodes
from tests.commands.world import raising, refusal
from tests.recording import RecordingPeer, principal

DEPLOY = Pattern.parse("deploy")


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("a", "b", "c")


def picked(node: Node, name: str = "deploy", agent_id: str | None = None) -> int:
    callee = node.registry.pick(name, agent_id)
    assert isinstance(callee, Callee)
    return callee.session


def known(node: Node) -> set[tuple[str, str, int]]:
    return {(each.pattern.text, each.invoke, callee.session) for each in node.registry for callee in each.callees}


def test_all_nodes_know_the_same_registrations_by_the_same_ids(nodes: Nodes) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    nodes["a"].register(one, ["deploy", "restart"], "one")
    number = nodes["b"].procedure(two, Pattern.prefixed("x."), "first")
    nodes.deliver()
    expected = {("deploy", "roundrobin", one.number), ("restart", "roundrobin", one.number), ("x.**", "first", two.number)}
    for name in "abc":
        assert known(nodes[name]) == expected
        there = nodes[name].registry.numbered(number)
        assert there is not None and there.pattern == Pattern.prefixed("x.") and nodes[name].registry.any("x.y", None)
        assert nodes[name].registry.any("deploy", "one") and not nodes[name].registry.any("deploy", "two")
    assert nodes["c"].metrics.registrations_remote == 3
    created = {there.created for name in "abc" if (there := nodes[name].registry.registration(DEPLOY)) is not None}
    assert len(created) == 1, "since when, by the clock of the first node"


def test_what_changes_in_a_turn_is_told_in_one_batch_and_nobody_is_told_if_there_is_nobody(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bytes] = []
    monkeypatch.setattr(nodes["a"].fleet, "tell", lambda _node, _part, body: told.append(body))
    peers = [RecordingPeer() for _ in range(3)]
    for peer in peers:
        nodes["a"].registrar.register(peer, ["deploy", "restart"], None, lambda: None, raising)
    nodes["a"].registrar.unregister(peers[0], ["deploy", "unheard-of"])
    nodes["a"].registrar.lost(peers[1])
    nodes["a"].registrar.lost(RecordingPeer())
    nodes.deliver()
    (batch,) = told
    assert [type(change) for change in mail.batch(batch)] == [mail.Added] * 3 + [mail.Dropped] * 2
    assert [change.patterns for change in mail.batch(batch)] == [["deploy", "restart"]] * 3 + [["deploy"], None]
    alone = Nodes("alone")
    alone["alone"].agent("a")
    assert alone["alone"].fleetwide.directory._changes == []


def test_who_registers_and_leaves_in_one_turn_is_unknown_to_who_joins_in_it() -> None:
    nodes, peer = Nodes("a", "b"), RecordingPeer()
    nodes["a"].registrar.register(peer, ["deploy"], None, lambda: None, raising)
    nodes.kill("b")
    nodes["a"].lose(peer)
    nodes.add("c")
    nodes.deliver()
    assert known(nodes["c"]) == set()


def test_who_leaves_is_forgotten_everywhere(nodes: Nodes) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    for peer in (one, two):
        nodes["a"].register(peer, ["deploy", "restart"], None)
    nodes.deliver()
    nodes["a"].registrar.unregister(one, ["deploy"])
    nodes["a"].lose(two)
    nodes.deliver()
    assert known(nodes["b"]) == {("restart", "roundrobin", one.number)}
    nodes["a"].lose(one)
    nodes.deliver()
    registry = nodes["b"].registry
    assert known(nodes["b"]) == set() and not registry._agents and not registry.remote and not registry._remote["a"]


def test_a_node_that_joins_learns_all_and_one_that_leaves_is_forgotten(nodes: Nodes) -> None:
    peers = {name: RecordingPeer() for name in "ab"}
    for name, peer in peers.items():
        nodes[name].register(peer, ["deploy"], name)
    nodes.deliver()
    nodes.add("d")
    nodes.deliver()
    assert {session for _, _, session in known(nodes["d"])} == {peer.number for peer in peers.values()}
    nodes.kill("a")
    nodes.deliver()
    for name in "bcd":
        assert known(nodes[name]) == {("deploy", "roundrobin", peers["b"].number)}
        assert not nodes[name].registry.any("deploy", "a")
        assert nodes[name].metrics.registrations_remote == (name != "b")


def test_what_a_node_has_said_and_is_not_learned_yet_is_dropped_when_it_leaves(nodes: Nodes) -> None:
    for _ in range(600):
        nodes["a"].register(RecordingPeer(), ["deploy"], None)
    nodes["a"].clock.advance(0)
    nodes.world.deliver()
    assert 0 < nodes["b"].registry.remote < 600, "it takes turns"
    nodes.kill("a")
    nodes.deliver()
    assert known(nodes["b"]) == set() and not nodes["b"].fleetwide.directory._arrived


def test_the_callees_of_all_nodes_take_turns(nodes: Nodes) -> None:
    peers = [RecordingPeer() for _ in range(6)]
    for place, peer in enumerate(peers):
        nodes["abc"[place % 3]].register(peer, ["deploy"], None)
    nodes.deliver()
    for name in "abc":
        assert sorted(picked(nodes[name]) for _ in range(12)) == sorted([peer.number for peer in peers] * 2)


@pytest.mark.parametrize("invoke", ["first", "last"])
def test_the_first_and_the_last_callee_are_the_same_for_all_nodes(nodes: Nodes, invoke: str) -> None:
    peers = [RecordingPeer() for _ in range(5)]
    for place, peer in enumerate(peers):
        nodes["abcab"[place]].procedure(peer, DEPLOY, invoke)
        nodes.deliver()
    nodes.add("d")
    nodes.deliver()
    while peers:
        peer = peers[0 if invoke == "first" else -1]
        assert {picked(node) for node in nodes.nodes.values()} == {peer.number}
        where = next(name for name in "abc" if nodes[name].registry.held(peer))
        nodes[where].lose(peer)
        nodes.deliver()
        peers.remove(peer)


def test_of_callees_that_registered_at_the_same_time_all_nodes_take_the_same(nodes: Nodes) -> None:
    for name in "abc":
        nodes[name].procedure(RecordingPeer(), DEPLOY, "last")
    nodes.deliver()
    assert len({picked(nodes[name]) for name in "abc"}) == 1
    newer = RecordingPeer()
    nodes["a"].procedure(newer, DEPLOY, "last")
    nodes.deliver()
    assert {picked(nodes[name]) for name in "abc"} == {newer.number}


def test_a_named_agent_is_reached_by_the_connection_that_registered_it_last(nodes: Nodes) -> None:
    old, new = RecordingPeer(), RecordingPeer()
    nodes["a"].register(old, ["deploy"], "agent")
    nodes.deliver()
    nodes["b"].register(new, ["deploy"], "agent")
    nodes.deliver()
    assert {picked(nodes[name], agent_id="agent") for name in "abc"} == {new.number}
    nodes["a"].register(old, ["deploy"], "agent")
    nodes.deliver()
    assert {picked(nodes[name], agent_id="agent") for name in "abc"} == {old.number}


@pytest.mark.parametrize("register", [("harmless",), ("harmless", "deploy"), ("harmless", "restart")])
def test_who_replaces_a_connection_of_another_node_may_register_all_that_it_executes(
    nodes: Nodes, register: tuple[str, ...]
) -> None:
    real = RecordingPeer()
    nodes["a"].register(real, ["deploy"], "agent")
    nodes["a"].register(real, ["restart"], "second")
    nodes.deliver()
    intruder = RecordingPeer(who=principal("intruder", Role(telemetry=("**",), register=register)))
    for commands in ([], ["harmless"]):
        with refusal("forbidden"):
            nodes["b"].register(intruder, commands, "agent")
    nodes.deliver()
    assert real.closed == [] and not nodes["b"].registry.held(intruder)
    assert picked(nodes["b"], agent_id="agent") == real.number
    entitled = RecordingPeer(who=principal("owner", Role(telemetry=("**",), register=("deploy", "restart"))))
    nodes["b"].register(entitled, ["deploy"], "agent")
    assert picked(nodes["b"], agent_id="agent") == entitled.number


def test_no_right_is_needed_for_what_another_node_executes_no_more(nodes: Nodes) -> None:
    def stranger() -> RecordingPeer:
        return RecordingPeer(who=principal("stranger", Role(telemetry=("**",), register=("stop",))))

    real = RecordingPeer()
    nodes["a"].register(real, ["deploy", "stop"], "agent")
    nodes.deliver()
    with refusal("forbidden"):
        nodes["b"].register(stranger(), ["stop"], "agent")
    nodes["a"].registrar.unregister(real, ["deploy"])
    nodes.deliver()
    nodes["b"].register(stranger(), ["stop"], "agent")
    nodes["a"].register(real, ["deploy"], "agent")
    nodes.deliver()
    with refusal("forbidden"):
        nodes["c"].register(stranger(), ["stop"], "agent")
    nodes.kill("a")
    nodes.deliver()
    nodes["c"].register(stranger(), ["stop"], "agent")


def test_commands_that_wait_are_handed_to_who_registers_elsewhere(nodes: Nodes) -> None:
    anybody, named = nodes["a"].call(ttl=60.0), nodes["a"].call(target="agent", ttl=60.0)
    peer = RecordingPeer()
    nodes["b"].register(peer, ["deploy"], "agent")
    nodes.deliver()
    nodes.deliver()
    assert len(peer.got(CommandInvocation)) == 2
    for invocation in peer.invocations:
        invocation.result(invocation.payload)
    nodes.deliver()
    assert anybody.ends == named.ends == 1


def test_how_many_callees_of_others_are_known_is_bounded(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MOST", 3)
    for _ in range(3):
        nodes["a"].register(RecordingPeer(), ["deploy", "restart"], None)
    nodes.deliver()
    assert nodes["b"].registry.remote == 2 and nodes["b"].metrics.registrations_unknown == 4


# --- a new connection in the place of a dead one


def test_a_registration_probes_other_connections_of_the_subject_on_all_nodes(nodes: Nodes) -> None:
    dead, stranger = RecordingPeer(who=principal("agent")), RecordingPeer(who=principal("other"))
    for peer in (dead, stranger):
        nodes["a"].register(peer, ["deploy"], None)
    nodes.deliver()
    nodes["b"].register(RecordingPeer(who=principal("agent")), ["deploy"], None)
    nodes.deliver()
    assert len(dead.probes) == 1 and stranger.probes == []


def test_agents_with_ids_of_their_own_are_not_probed_for_each_other(nodes: Nodes) -> None:
    one, other = RecordingPeer(who=principal("agent")), RecordingPeer(who=principal("agent"))
    nodes["a"].register(one, ["deploy"], "agent-1")
    nodes["a"].register(other, ["deploy"], "agent-2")
    nodes.deliver()
    assert one.probes == other.probes == []


def test_a_registration_probes_so_many_connections_and_no_more(nodes: Nodes) -> None:
    peers = [RecordingPeer(who=principal("agent")) for _ in range(PROBES + 2)]
    for peer in peers:
        nodes["a"].register(peer, ["deploy"], None)
    assert [len(peer.probes) for peer in peers[-4:]] == [3, 2, 0, 0]


def test_who_makes_way_is_asked_on_its_own_node(nodes: Nodes) -> None:
    dead = RecordingPeer(who=principal("agent", Role(register=("**",))))
    nodes["a"].procedure(dead, DEPLOY, "single")
    nodes.deliver()
    new = RecordingPeer(who=principal("agent", Role(register=("**",))))
    (namesake,) = nodes["b"].registry.namesakes(new, DEPLOY)
    done: list[bool] = []
    namesake.probe(lambda: done.append(True))
    nodes.deliver()
    assert done == [] and len(dead.probes) == 1
    nodes["a"].lose(dead)
    dead.probes.pop()()
    nodes.deliver()
    assert done == [True]
    nodes["b"].procedure(new, DEPLOY, "single")
    namesake.probe(lambda: done.append(False))
    nodes.deliver()
    assert done == [True, False], "a connection that is gone answers at once"


def test_connections_of_other_subjects_are_not_looked_at_for_namesakes(nodes: Nodes) -> None:
    for node, name in (("a", "stranger"), ("a", "agent"), ("b", "stranger"), ("b", "agent")):
        nodes[node].register(RecordingPeer(who=principal(name)), ["deploy"], None)
    nodes.deliver()
    registry, new = nodes["a"].registry, RecordingPeer(who=principal("agent"))
    registration: Any = registry.registration(DEPLOY)
    oldest = [callee for callee in registration.callees if callee.identity == "agent"]
    registration.callees = None
    assert [*registry.namesakes(new, DEPLOY)] == oldest and len(oldest) == 2


def test_a_node_that_is_silent_is_not_asked_whether_a_client_answers(nodes: Nodes) -> None:
    nodes["a"].register(RecordingPeer(who=principal("agent")), ["deploy"], None)
    nodes.deliver()
    (namesake,) = nodes["b"].registry.namesakes(RecordingPeer(who=principal("agent")), DEPLOY)
    asked: list[Any] = []
    fleet: Any = nodes["b"].fleet
    fleet.ask = lambda *what: asked.append(what)
    done: list[int] = []
    namesake.probe(lambda: done.append(1))
    assert (done, len(asked)) == ([], 1)
    asked[0][-1]({})  # its client has more time to answer than the fleet has patience
    assert (done, len(asked)) == ([], 2)
    asked[1][-1]({})
    assert (done, len(asked)) == ([1], 2)
    nodes.world.frozen.add("a")
    namesake.probe(lambda: done.append(2))
    assert (done, len(asked)) == ([1, 2], 2)


def test_a_question_or_an_answer_about_a_connection_that_is_none_grants_nothing(nodes: Nodes) -> None:
    peer = RecordingPeer()
    nodes["a"].register(peer, ["deploy"], "agent-1")
    nodes.deliver()
    answers: list[Any] = []
    there: Any = nodes["a"].fleetwide.directory
    there.asked("b", b"\xc1", answers.append)
    assert answers == [b""]
    nodes["a"].fleet._asked[directory.PART] = lambda _node, _body, answer: answer(b"")
    nodes["b"].fleetwide.directory.ask("a", peer.number, answers.append)
    nodes.deliver()
    assert answers[1:] == [["deploy"]], "what it has told before"
