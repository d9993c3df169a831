"""Claims: the fleet's nodes agree on invocation policies, and a procedure with one callee has one in the whole fleet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nexus_tw.commands.claims import AGAIN
from nexus_tw.interfaces.peers import Registration
from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT, NexusError
from nexus_tw.model.names import Pattern
from tests.commands.nodes import Node, Nodes
from tests.recording import RecordingPeer

DEPLOY = Pattern.parse("deploy")


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("a", "b")


def registered(node: Node, peer: RecordingPeer, invoke: str = "single", pattern: Pattern = DEPLOY) -> list[object]:
    """Register, and return the answers, which may come later."""
    answers: list[object] = []

    def ok(_registration: Registration) -> None:
        answers.append("ok")

    def fail(error: NexusError) -> None:
        answers.append(error.uri)

    node.registrar.register_procedure(peer, peer.principal, pattern, invoke, None, ok, fail)
    return answers


def claims(nodes: Nodes) -> dict[str, set[str]]:
    return nodes.broker.claims._nodes


@pytest.mark.parametrize("told", [True, False])
def test_a_procedure_with_one_callee_has_one_in_the_fleet(nodes: Nodes, told: bool) -> None:
    peer = RecordingPeer()
    assert registered(nodes["a"], peer) == ["ok"]
    if told:
        nodes.deliver()
    assert registered(nodes["b"], RecordingPeer()) == [ALREADY_REGISTERED.uri]
    assert nodes["b"].metrics.registrations_refused == 1
    nodes["a"].lose(peer)
    assert registered(nodes["b"], RecordingPeer()) == ["ok"], "though this node has not heard yet that the other is gone"
    nodes.deliver()
    assert claims(nodes) == {"deploy": {"b"}}
    assert registered(nodes["a"], RecordingPeer()) == [ALREADY_REGISTERED.uri]


def test_all_callees_of_the_fleet_have_the_same_policy(nodes: Nodes) -> None:
    first, second = RecordingPeer(), RecordingPeer()
    assert registered(nodes["a"], first, "first") == ["ok"]
    assert registered(nodes["b"], RecordingPeer(), "last") == [POLICY_CONFLICT.uri]
    assert registered(nodes["b"], second, "first") == ["ok"]
    nodes.deliver()
    nodes["a"].lose(first)
    nodes.deliver()
    assert registered(nodes["a"], RecordingPeer(), "random") == [POLICY_CONFLICT.uri]
    nodes["b"].lose(second)
    assert claims(nodes) == {}
    assert registered(nodes["a"], RecordingPeer(), "random") == ["ok"]
    nodes.deliver()
    there = nodes["b"].registry.registration(DEPLOY)
    assert there is not None and there.invoke == "random"


def test_the_policy_may_change_once_the_others_are_gone_though_that_is_not_known_yet(nodes: Nodes) -> None:
    first = RecordingPeer()
    assert registered(nodes["a"], first, "first") == ["ok"]
    nodes.deliver()
    nodes["a"].lose(first)
    newer = RecordingPeer()
    assert registered(nodes["b"], newer, "last") == ["ok"]
    registration = nodes["b"].registry.registration(DEPLOY)
    assert registration is not None and registration.invoke == "last"
    nodes.deliver()
    assert [callee.session for callee in registration.callees] == [newer.number]


def test_a_node_claims_a_pattern_for_its_first_callee_and_gives_it_up_with_its_last(nodes: Nodes) -> None:
    peers = [RecordingPeer() for _ in range(3)]
    for peer in peers:
        nodes["a"].register(peer, ["deploy", "restart"], None)
    assert claims(nodes) == {"deploy": {"a"}, "restart": {"a"}} and len(nodes["a"].fleetwide.claims) == 2
    nodes["a"].registrar.unregister(peers[0], ["deploy"])
    nodes["a"].lose(peers[1])
    assert claims(nodes) == {"deploy": {"a"}, "restart": {"a"}}
    nodes["a"].registrar.unregister(peers[2], ["deploy"])
    assert claims(nodes) == {"restart": {"a"}}
    nodes["a"].lose(peers[0])
    nodes["a"].lose(peers[2])
    assert claims(nodes) == {} and not len(nodes["a"].fleetwide.claims)


def test_of_a_list_that_is_refused_nothing_is_claimed(nodes: Nodes) -> None:
    assert registered(nodes["a"], RecordingPeer(), "single", Pattern.parse("taken")) == ["ok"]
    errors: list[NexusError] = []
    peer = RecordingPeer()
    nodes["b"].registrar.register(peer, ["free", "taken"], None, lambda: None, errors.append)
    assert [error.uri for error in errors] == [POLICY_CONFLICT.uri]
    assert claims(nodes) == {"taken": {"a"}} and not nodes["b"].registry.held(peer)


def test_how_many_patterns_the_fleet_has_is_bounded(nodes: Nodes) -> None:
    nodes.broker.claims._most = 1
    peer = RecordingPeer()
    assert registered(nodes["a"], peer) == ["ok"]
    assert registered(nodes["b"], RecordingPeer(), pattern=Pattern.parse("other")) == ["wamp.error.unavailable"]
    nodes["a"].lose(peer)
    assert registered(nodes["b"], RecordingPeer(), pattern=Pattern.parse("other")) == ["ok"]


def test_an_heir_gives_up_the_claims_of_a_node_that_is_gone(nodes: Nodes) -> None:
    nodes.add("c")
    registered(nodes["a"], RecordingPeer())
    registered(nodes["a"], RecordingPeer(), "first", Pattern.prefixed("x"))
    nodes.broker.claims._nodes["x**"].add("b")
    nodes["b"].bus.available = False
    nodes.kill("a", "b")
    nodes.advance(0)  # in which the commands of that node, of which there are none, are taken over
    assert nodes["b"].fleet.held == ["a"], "not yet: the bus is away"
    nodes["b"].bus.available = True
    nodes.advance(AGAIN)
    assert claims(nodes) == {"x**": {"b"}} and nodes["b"].fleet.held == [] and nodes["c"].fleet.held == []
    assert registered(nodes["c"], RecordingPeer()) == ["ok"]


# --- while the bus is away


def test_a_command_is_registered_while_the_bus_is_away_and_claimed_later(nodes: Nodes) -> None:
    nodes["a"].bus.available = False
    peer = RecordingPeer()
    nodes["a"].register(peer, ["deploy"], "agent")
    assert nodes["a"].registry.any("deploy", "agent") and claims(nodes) == {}
    nodes.advance(AGAIN)
    assert claims(nodes) == {}
    nodes["a"].bus.available = True
    nodes.advance(AGAIN)
    assert claims(nodes) == {"deploy": {"a"}} and peer.ended == []
    assert not nodes["a"].clock.getDelayedCalls()


def test_a_registration_that_is_refused_later_is_ended(nodes: Nodes) -> None:
    nodes["a"].bus.available = False
    peers = [RecordingPeer(), RecordingPeer()]
    for peer in peers:
        nodes["a"].register(peer, ["deploy", "restart"], None)
    nodes.deliver()
    other = RecordingPeer()
    assert registered(nodes["b"], other) == ["ok"]
    nodes["a"].bus.available = True
    nodes.advance(AGAIN)
    nodes.deliver()
    assert [peer.ended for peer in peers] == [[("deploy", POLICY_CONFLICT.uri)]] * 2
    assert claims(nodes) == {"deploy": {"b"}, "restart": {"a"}}
    for name in "ab":
        there = nodes[name].registry.registration(DEPLOY)
        assert there is not None and [callee.session for callee in there.callees] == [other.number]
        assert there.invoke == "single"


def test_other_policies_are_refused_meanwhile_and_what_the_bus_may_have_taken_is_given_up(nodes: Nodes) -> None:
    nodes["a"].bus.available = False
    assert registered(nodes["a"], RecordingPeer()) == ["wamp.error.unavailable"]
    nodes.broker.claims.claim(DEPLOY, "single", "a")  # the bus was away before it could say so
    nodes["a"].bus.available = True
    nodes.advance(AGAIN)
    assert claims(nodes) == {} and not nodes["a"].clock.getDelayedCalls()


def test_what_is_given_up_while_the_bus_is_away_is_given_up_later(nodes: Nodes) -> None:
    peer = RecordingPeer()
    assert registered(nodes["a"], peer) == ["ok"]
    nodes["a"].bus.available = False
    nodes["a"].lose(peer)
    assert claims(nodes) == {"deploy": {"a"}}
    nodes["a"].bus.available = True
    nodes.advance(AGAIN)
    assert claims(nodes) == {}


def test_when_the_bus_has_lost_its_data_all_is_claimed_again(nodes: Nodes) -> None:
    peer, shared = RecordingPeer(), RecordingPeer()
    assert registered(nodes["a"], peer) == ["ok"]
    nodes["a"].register(shared, ["restart"], None)
    nodes.broker.claims.clear()
    other = RecordingPeer()
    assert registered(nodes["b"], other) == ["ok"], "it was faster"
    nodes["a"].fleet.renew()
    assert claims(nodes) == {"deploy": {"b"}, "restart": {"a"}}
    assert peer.ended == [("deploy", ALREADY_REGISTERED.uri)] and shared.ended == []


# --- answers that take a while


class Slow:
    """The claims of a node on a bus that answers when the test says so."""

    def __init__(self, nodes: Nodes, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[Callable[[], None]] = []
        real = nodes[name].bus.claims
        assert real is not None
        for verb in ("claim", "release"):
            monkeypatch.setattr(real, verb, self.later(getattr(real, verb)))

    def later(self, act: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: self.waiting.append(lambda: act(*arguments))

    def answer(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def test_of_two_on_one_node_that_ask_at_once_the_first_gets_it(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(nodes, "a", monkeypatch)
    first, second = registered(nodes["a"], RecordingPeer()), registered(nodes["a"], RecordingPeer())
    third = registered(nodes["a"], RecordingPeer(), "last")
    assert first == second == third == []
    slow.answer()
    assert (first, second, third) == (["ok"], [ALREADY_REGISTERED.uri], [POLICY_CONFLICT.uri])
    assert claims(nodes) == {"deploy": {"a"}}


def test_who_is_gone_before_the_answer_registers_nothing(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(nodes, "a", monkeypatch)
    peer = RecordingPeer()
    answers = registered(nodes["a"], peer)
    nodes["a"].lose(peer)
    slow.answer()
    assert answers == ["wamp.error.unavailable"]
    assert claims(nodes) == {} and not nodes["a"].registry.held(peer) and not len(nodes["a"].fleetwide.claims)


def test_a_claim_that_is_being_given_up_is_taken_again_in_that_order(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = RecordingPeer()
    assert registered(nodes["a"], peer) == ["ok"]
    slow = Slow(nodes, "a", monkeypatch)
    nodes["a"].lose(peer)
    answers = registered(nodes["a"], RecordingPeer())
    slow.answer()
    assert answers == ["ok"] and claims(nodes) == {"deploy": {"a"}}
