from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.invocations import Invocations
from nexus_tw.commands.registry import Callee, Registry, SharedRegistration
from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.cache import BoundedCache
from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT, NexusError
from nexus_tw.model.ids import number_of
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import Limits
from nexus_tw.protocols.wamp.uris import pattern_of
from tests.recording import RecordingPeer


class Executor(NamedTuple):
    """A connection as one agent."""

    peer: Peer
    agent_id: str


def shared(callee: PeerExecutor) -> SharedRegistration:
    assert isinstance(callee.registration, SharedRegistration)
    return callee.registration


class World:
    def __init__(self) -> None:
        self.registry = Registry(Random(1), Invocations(Limits()))

    def add(self, peer: RecordingPeer, agent_id: str, *names: str, match: str = "exact", invoke: str = "roundrobin") -> None:
        for name in names:
            self.registry.add(peer, agent_id, pattern_of(name, match), invoke, 1.5, self.registry.next())

    def pick(self, name: str, agent_id: str | None = None) -> Executor | None:
        callee = self.registry.pick(name, agent_id)
        if callee is None:
            return None
        assert isinstance(callee, PeerExecutor)
        assert callee in shared(callee).callees and shared(callee).pattern.matches(name)
        return Executor(callee.peer, callee.agent_id)

    def who(self, name: str) -> str | None:
        """As which agent it would be executed."""
        executor = self.pick(name)
        return executor.agent_id if executor else None


@pytest.fixture
def world() -> World:
    return World()


def test_executors_take_turns(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.add(one, "a", "deploy")
    world.add(two, "b", "deploy")
    picked = [world.pick("deploy") for _ in range(4)]
    assert picked == [Executor(one, "a"), Executor(two, "b")] * 2


def test_a_given_agent_is_reached_by_the_connection_that_registered_last(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.add(one, "a", "deploy")
    world.add(two, "a", "deploy")
    assert world.pick("deploy", "a") == Executor(two, "a")
    world.add(one, "a", "deploy")
    assert world.pick("deploy", "a") == Executor(one, "a")
    world.registry.lost(one)
    assert world.pick("deploy", "a") == Executor(two, "a")


def test_dropping_a_command_drops_it_for_every_agent_of_the_connection_and_for_nobody_else(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.add(one, "a", "deploy", "stop")
    world.add(one, "b", "deploy")
    world.add(two, "c", "deploy")
    left = world.registry.drop(one, ["deploy", "unheard-of"])
    assert world.registry.held(one).keys() == {("stop", "a")}
    assert world.pick("deploy") == Executor(two, "c")
    assert not world.registry.any("deploy", "a") and world.registry.any("stop", "a")
    assert [(registration.pattern.text, gone) for registration, gone in left] == [("deploy", False)] * 2


def test_a_lost_connection_executes_nothing_and_may_be_lost_twice(world: World) -> None:
    peer = RecordingPeer()
    world.add(peer, "a", "deploy", "stop")
    left = world.registry.lost(peer)
    assert [(registration.pattern.text, gone) for registration, gone in left] == [("deploy", True), ("stop", True)]
    assert world.registry.lost(peer) == []
    assert world.pick("deploy") is None and world.pick("deploy", "a") is None
    assert not world.registry.any("stop", None) and not world.registry.held(peer)


def test_a_connection_is_several_agents_only_when_it_registered_as_more_than_one(world: World) -> None:
    peer = RecordingPeer()
    assert not world.registry.multi_agent(peer)
    world.add(peer, "a", "deploy", "stop")
    assert not world.registry.multi_agent(peer)
    world.add(peer, "b", "deploy")
    assert world.registry.multi_agent(peer)


# --- policies


@pytest.mark.parametrize(
    ("invoke", "picked"),
    [("first", "aaaa"), ("last", "cccc"), ("roundrobin", "abca")],
)
def test_the_policy_says_who_is_taken(world: World, invoke: str, picked: str) -> None:
    for agent_id in "abc":
        world.add(RecordingPeer(), agent_id, "deploy", invoke=invoke)
    assert [world.who("deploy") for _ in range(4)] == list(picked)


def test_by_random_everybody_is_taken_about_as_often(world: World) -> None:
    for agent_id in "abc":
        world.add(RecordingPeer(), agent_id, "deploy", invoke="random")
    picked = Counter(world.who("deploy") for _ in range(300))
    assert picked.keys() == {"a", "b", "c"} and min(picked.values()) > 50  # the source of chance begins the same each time


def test_the_first_is_followed_by_the_one_after_it_and_the_last_by_the_one_before(world: World) -> None:
    peers = {agent_id: RecordingPeer() for agent_id in "abc"}
    for agent_id, peer in peers.items():
        world.add(peer, agent_id, "one", invoke="first")
        world.add(peer, agent_id, "two", invoke="last")
    world.registry.lost(peers["a"])
    assert (world.who("one"), world.who("two")) == ("b", "c")
    world.registry.lost(peers["c"])
    assert (world.who("one"), world.who("two")) == ("b", "b")


def test_whoever_registers_again_keeps_its_place(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    for peer in (one, two, one):
        world.add(peer, "a", "deploy", invoke="last")
    assert world.pick("deploy") == Executor(two, "a")


def test_a_single_registration_is_nobody_elses_and_all_who_share_one_have_the_same_policy(world: World) -> None:
    world.add(RecordingPeer(), "a", "alone", invoke="single")
    world.add(RecordingPeer(), "a", "shared", invoke="first")
    check = world.registry.check
    with pytest.raises(NexusError, match="alone is registered already") as refused:
        check(Pattern.parse("alone"), "single")
    assert (refused.value.code, refused.value.uri) == ("forbidden", "wamp.error.procedure_already_exists")
    for name, invoke in (("alone", "first"), ("shared", "single"), ("shared", "roundrobin")):
        with pytest.raises(NexusError, match=f"{name} is registered with the invocation policy") as conflict:
            check(Pattern.parse(name), invoke)
        uri = "wamp.error.procedure_exists_with_different_invocation_policy"
        assert (conflict.value.code, conflict.value.uri) == ("forbidden", uri)
    check(Pattern.parse("shared"), "first")
    check(Pattern.prefixed("alone"), "last")
    check(Pattern.parse("neither"), "single")


def test_a_policy_ends_with_the_last_who_has_it(world: World) -> None:
    peer = RecordingPeer()
    world.add(peer, "a", "a.b", match="prefix", invoke="single")
    with pytest.raises(NexusError, match="is registered already"):
        world.registry.check(Pattern.prefixed("a.b"), "single")
    world.registry.lost(peer)
    world.registry.check(Pattern.prefixed("a.b"), "first")


# --- patterns


def test_a_name_goes_before_patterns_and_a_longer_prefix_before_a_shorter_one_and_before_any_wildcard(world: World) -> None:
    for place, (name, match) in enumerate(
        [("a.b.c", "exact"), ("a.b.", "prefix"), ("a.b", "prefix"), ("a", "prefix"), ("a..c", "wildcard"), ("..c", "wildcard")]
    ):
        world.add(RecordingPeer(), str(place), name, match=match)
    assert [world.who(name) for name in ("a.b.c", "a.b.d", "a.bx", "ax", "a", "x.y.c", "x")] == [*"012335", None]
    assert world.who("a.x.c") == "3", "a prefix, however short"


def test_reserved_names_that_nobody_has_are_not_caught_by_patterns(world: World) -> None:
    world.registry.add(RecordingPeer(), "a", Pattern.prefixed(""), "single", 0.0, 1)
    assert world.registry.find("anything") is not None
    assert world.registry.find("wamp.session.nonsense") is None
    assert not world.registry.any("nexus.nonsense", None)


def test_of_wildcards_the_one_that_says_more_on_the_left_is_taken(world: World) -> None:
    for name in ("a...", "a..c.", "a...d", "a.b..", ".b.c.d", "..."):
        world.add(RecordingPeer(), name, name, match="wildcard")
    assert world.who("a.b.c.d") == "a.b.."
    assert world.who("a.x.c.d") == "a..c."
    assert world.who("a.x.x.d") == "a...d"
    assert world.who("x.b.c.d") == ".b.c.d"
    assert world.who("x.x.c.d") == "..."
    assert world.who("x.x.c") is None


def test_what_was_found_is_forgotten_when_patterns_come_and_go(world: World) -> None:
    peer = RecordingPeer()
    assert world.who("a.b.c") is None
    world.add(peer, "1", "a", match="prefix")
    assert world.who("a.b.c") == "1"
    world.add(peer, "2", "a.b", match="prefix")
    assert world.who("a.b.c") == "2"
    world.registry.drop(peer, [Pattern.prefixed("a.b").text])
    assert world.who("a.b.c") == "1"
    world.registry.lost(peer)
    assert world.who("a.b.c") is None


def test_what_was_found_is_bounded(world: World) -> None:
    world.registry._registrations._kept = BoundedCache(10, 1 << 20)
    world.add(RecordingPeer(), "a", "x", match="prefix")
    for number in range(35):
        assert world.who(f"x.{number}") == "a" and world.who(f"y.{number}") is None
        assert len(world.registry._registrations._kept) <= 10


def test_what_is_no_name_is_looked_for_but_not_remembered(world: World) -> None:
    """`wamp.registration.match` on new texts, of any length: the key of what is kept is checked."""
    world.add(RecordingPeer(), "a", "", match="prefix")
    for text in ("x" * 60_000, "a b", "", "a..b", "*"):
        assert world.who(text) is None
    assert not world.registry._registrations._kept
    for number in range(20_000):
        world.registry.find(f"{number:0250}")
    assert world.registry._registrations._kept._size <= 4 << 20


def test_an_agent_is_asked_for_what_it_registered_by_name_and_not_for_what_a_pattern_of_its_stands_for(world: World) -> None:
    peer = RecordingPeer()
    world.add(peer, "a", "deploy", match="prefix")
    assert world.pick("deploy.x", "a") is None and not world.registry.any("deploy.x", "a")
    assert world.pick("deploy.x") == Executor(peer, "a") and world.registry.any("deploy.x", None)


def test_registrations_have_the_numbers_of_their_patterns_and_say_since_when(world: World) -> None:
    peer = RecordingPeer()
    world.add(peer, "a", "x", "y")
    world.add(peer, "a", "x", match="prefix")
    registrations = list(world.registry)
    assert [(each.pattern.policy, each.created) for each in registrations] == [
        (("exact", "x"), 1500),
        (("exact", "y"), 1500),
        (("prefix", "x"), 1500),
    ]
    assert [each.number for each in registrations] == [number_of(each.pattern) for each in registrations]


# --- against a model


PATTERNS = [
    *(pattern_of(name, "exact") for name in ("a", "a.b", "a.b.c")),
    *(pattern_of(name, "prefix") for name in ("", "a", "a.", "a.b")),
    *(pattern_of(name, "wildcard") for name in ("a.", ".b", ".", "a.b", "a..c", "..c")),
]
NAMES = ("a", "b", "a.b", "a.x", "x.b", "ab", "a.b.c", "a.x.c", "x.x.c", "a.bx")


class RegistryAgainstModel(RuleBasedStateMachine):
    """The model is a list of all registrations, each a list of executors in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(Random(1), Invocations(Limits()))
        self.peers = [RecordingPeer() for _ in range(3)]
        self.held: dict[Pattern, tuple[str, list[Executor]]] = {}

    @rule(
        place=st.integers(0, 2),
        agent_id=st.sampled_from("ab"),
        pattern=st.sampled_from(PATTERNS),
        invoke=st.sampled_from(["single", "first", "last", "roundrobin", "random"]) | st.just("roundrobin"),
    )
    def add(self, place: int, agent_id: str, pattern: Pattern, invoke: str) -> None:
        there = self.held.get(pattern)
        if there is not None and (there[0] != invoke or invoke == "single"):
            with pytest.raises(NexusError) as refused:
                self.registry.check(pattern, invoke)
            assert refused.value.uri == (POLICY_CONFLICT if there[0] != invoke else ALREADY_REGISTERED).uri
            return
        self.registry.check(pattern, invoke)
        executor = Executor(self.peers[place], agent_id)
        registration, created = self.registry.add(executor.peer, executor.agent_id, pattern, invoke, 0.0, self.registry.next())
        assert registration.pattern == pattern and created == (there is None)
        executors = self.held.setdefault(pattern, (invoke, []))[1]
        if executor not in executors:
            executors.append(executor)

    @rule(place=st.integers(0, 2), patterns=st.lists(st.sampled_from(PATTERNS), max_size=4))
    def drop(self, place: int, patterns: list[Pattern]) -> None:
        self.left(place, self.registry.drop(self.peers[place], [pattern.text for pattern in patterns]), patterns)

    @rule(place=st.integers(0, 2))
    def lose(self, place: int) -> None:
        self.left(place, self.registry.lost(self.peers[place]), list(self.held))
        assert not self.registry.held(self.peers[place])

    def left(self, place: int, told: list[tuple[SharedRegistration, bool]], patterns: list[Pattern]) -> None:
        expected: Counter[Any] = Counter()
        for pattern in dict.fromkeys(patterns):
            if pattern in self.held:
                executors = self.held[pattern][1]
                mine = [executor for executor in executors if executor.peer is self.peers[place]]
                for executor in mine:
                    executors.remove(executor)
                    expected[pattern, not executors] += 1
                if not executors:
                    del self.held[pattern]
        assert Counter((registration.pattern, gone) for registration, gone in told) == expected

    @precondition(lambda self: self.held)
    @rule(name=st.sampled_from(NAMES))
    def pick(self, name: str) -> None:
        matching = [pattern for pattern in self.held if pattern.matches(name)]
        callee = self.registry.pick(name, None)
        assert (callee is not None) == bool(matching)
        if callee is None:
            return
        assert isinstance(callee, PeerExecutor)
        registration, executor = shared(callee), Executor(callee.peer, callee.agent_id)
        pattern = registration.pattern
        assert pattern in matching
        kinds = {each.policy[0] for each in matching}
        kind, uri = pattern.policy
        assert kind == next(each for each in ("exact", "prefix", "wildcard") if each in kinds)
        rivals = [each.policy[1] for each in matching if each.policy[0] == kind]
        if kind == "prefix":
            assert len(uri) == max(map(len, rivals))
        elif kind == "wildcard":
            # Component by component from the left: it says one wherever a rival does, up to where it alone says one.
            mine = [bool(part) for part in uri.split(".")]
            assert all(mine >= [bool(part) for part in rival.split(".")] for rival in rivals)
        invoke, executors = self.held[pattern]
        assert registration.invoke == invoke
        if invoke == "roundrobin":
            assert executor == executors[0]
            executors.append(executors.pop(0))
        elif invoke == "random":
            assert executor in executors
        else:
            assert executor == executors[-1 if invoke == "last" else 0]

    @staticmethod
    def executor(callee: Callee) -> Executor:
        assert isinstance(callee, PeerExecutor)
        return Executor(callee.peer, callee.agent_id)

    @invariant()
    def what_is_held_is_known(self) -> None:
        assert {
            each.pattern: (each.invoke, [self.executor(callee) for callee in each.callees]) for each in self.registry
        } == self.held
        numbers = [each.number for each in self.registry]
        assert len(set(numbers)) == len(numbers)
        for peer in self.peers:
            mine = {
                (pattern.text, executor.agent_id)
                for pattern, (_, executors) in self.held.items()
                for executor in executors
                if executor.peer is peer
            }
            assert self.registry.held(peer).keys() == mine
            assert self.registry.multi_agent(peer) == (len({agent_id for _, agent_id in mine}) > 1)
        for name in NAMES:
            assert self.registry.any(name, None) == any(pattern.matches(name) for pattern in self.held)
            for agent_id in "ab":
                found = self.held.get(Pattern.parse(name), ("", []))[1]
                assert self.registry.any(name, agent_id) == any(each.agent_id == agent_id for each in found)

    def teardown(self) -> None:
        for place in range(3):
            self.lose(place)
        registry = self.registry
        assert not list(registry._registrations) and not registry._agents and not registry._peers
        trie = registry._registrations._trie
        assert not trie._root.children and not trie._root.tails


RegistryAgainstModel.TestCase.settings = settings(RegistryAgainstModel.TestCase.settings, stateful_step_count=40)
TestRegistryAgainstModel = RegistryAgainstModel.TestCase
