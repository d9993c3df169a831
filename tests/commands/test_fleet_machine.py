"""Commands on nodes that die, callers that repeat, agents that come and go: each ends once, executed as often as allowed."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec import Raw, json

from nexus_tw.commands.following import AGAIN, TRIES
from nexus_tw.model.commands import CommandAnswer, CommandRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.protocols.native.messages import CommandInvocation
from tests.commands.telling import mishear, telling
from tests.commands.test_fleet import Node, Nodes, caller
from tests.recording import RecordingPeer, RecordingReply

LONG = os.environ.get("NEXUS_TEST_LONG") == "1"
IDS = ["c0", "c1", "c2", "c3"]
TTL, TIMEOUT = 40.0, 15.0
REFUSALS = {"agent_offline", "not_found", "limit_exceeded", "bus_unavailable"}  # what is no outcome of a command


def request(command_id: str) -> CommandRequest:
    """Return the one request of that id: with or without time to wait, with or without a further attempt."""
    number = int(command_id[1:])
    return CommandRequest(
        "deploy",
        target="a" if number < 3 else ["a", "b"],
        command_id=command_id,
        ttl=TTL if number else 0.0,
        retries=number % 2,
        timeout=TIMEOUT,
    )


class FleetMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.nodes = Nodes("one", "two", "three")
        self.agents: dict[str, tuple[Node, RecordingPeer]] = {}
        self.peers: list[tuple[str, RecordingPeer]] = []  # with the agent that each acts as
        self.replies: list[tuple[str, str, RecordingReply]] = []  # node, id
        self.finals: dict[str, bytes] = {}
        self.answered: dict[tuple[str, str], tuple[int, str]] = {}  # by id and agent: the attempt, and its node

    def node(self, number: int) -> Node:
        alive: list[Node] = list(self.nodes.all.values())
        return alive[number % len(alive)]

    @rule(number=st.integers(0, 2), command_id=st.sampled_from(IDS))
    def call(self, number: int, command_id: str) -> None:
        node, reply = self.node(number), RecordingReply()
        try:
            node.commands.call(caller(), request(command_id), reply)
        except NexusError as error:
            reply.error(error, command_id)
        self.replies.append((node.fleet.node, command_id, reply))

    @rule(number=st.integers(0, 2), command_id=st.sampled_from(IDS))
    def cancel(self, number: int, command_id: str) -> None:
        node, reply = self.node(number), RecordingReply()
        try:
            node.commands.cancel(caller().principal, command_id, reply)
        except NexusError as error:
            reply.error(error, command_id)
        self.replies.append((node.fleet.node, "cancel", reply))

    @rule(number=st.integers(0, 2), agent_id=st.sampled_from("ab"))
    def come(self, number: int, agent_id: str) -> None:
        self.go(agent_id)
        node = self.node(number)
        peer = node.agent(agent_id)
        self.agents[agent_id] = node, peer
        self.peers.append((agent_id, peer))

    @rule(agent_id=st.sampled_from("ab"))
    def go(self, agent_id: str) -> None:
        if agent_id in self.agents:
            node, peer = self.agents.pop(agent_id)
            node.lose(peer)

    @rule(agent_id=st.sampled_from("ab"), at=st.integers(0, 3))
    def answer(self, agent_id: str, at: int) -> None:
        if agent_id in self.agents:
            node, peer = self.agents[agent_id]
            given = peer.got(CommandInvocation)
            if given:
                one = given[at % len(given)]
                if node.invocations.find(peer, one.command_id, agent_id) is not None:
                    self.answered[one.command_id, agent_id] = one.attempt, node.fleet.node
                with suppress(NexusError):  # a late answer
                    node.answers.result(peer, CommandAnswer(one.command_id, Raw(b'"%d"' % one.attempt)))

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.nodes.settle(seconds)

    @precondition(lambda self: len(self.nodes.all) > 1)
    @rule(number=st.integers(0, 2), heir=st.integers(0, 1))
    def kill(self, number: int, heir: int) -> None:
        name = self.node(number).fleet.node
        for agent_id, (node, _) in list(self.agents.items()):
            if node.fleet.node == name:
                del self.agents[agent_id]
        self.answered = {key: answered for key, answered in self.answered.items() if answered[1] != name}
        others = [other for other in self.nodes.all if other != name]
        self.nodes.kill(name, others[heir % len(others)])

    @precondition(lambda self: self.served())
    @rule(data=st.data(), heir=st.integers(0, 1), read=st.booleans())
    def die_with_answers(self, data: st.DataObject, heir: int, read: bool) -> None:
        """Kill a node that has not written, or not even got, what an agent of another node has just answered."""
        agent_id, name = data.draw(st.sampled_from(self.served()))
        self.nodes.all[name].linked = False
        if not read:
            self.nodes.pretended.frozen.add(name)
        for at in range(4):
            self.answer(agent_id, at)
        self.nodes.settle(0.3)
        self.kill(list(self.nodes.all).index(name), heir)

    def served(self) -> list[tuple[str, str]]:
        """Return agents with other nodes that drive what they execute."""
        return [
            (agent_id, entry.node)
            for agent_id, (node, peer) in self.agents.items()
            for command_id in IDS
            if node.invocations.find(peer, command_id, agent_id) is not None
            and (entry := self.nodes.ledger.find(command_id)) is not None
            and entry.node in self.nodes.all
            and entry.node != node.fleet.node
        ]

    @invariant()
    def nobody_is_told_twice(self) -> None:
        assert all(reply.ends <= 1 for _, _, reply in self.replies)

    @invariant()
    def each_attempt_is_handed_over_once(self) -> None:
        given: Counter[Any] = Counter()
        for _, peer in self.peers:
            for one in peer.got(CommandInvocation):
                number = int(one.command_id[1:])
                assert one.attempt <= number % 2 + 1
                given[one.command_id, one.agent_id if number == 3 else None, id(peer), one.attempt] += 1
        assert all(count == 1 for count in given.values()), given
        single = Counter((one.command_id, one.attempt) for _, peer in self.peers for one in peer.got(CommandInvocation))
        assert all(count == 1 for (command_id, _), count in single.items() if command_id != "c3"), single

    @invariant()
    def what_was_answered_is_not_handed_over_again(self) -> None:
        for (command_id, agent_id), (attempt, _) in self.answered.items():
            for one in (one for acts, peer in self.peers if acts == agent_id for one in peer.got(CommandInvocation)):
                assert one.command_id != command_id or one.attempt <= attempt, (command_id, agent_id)

    @invariant()
    def what_has_ended_stays_as_it_is(self) -> None:
        for command_id in IDS:
            entry = self.nodes.ledger.find(command_id)
            if entry is not None and entry.final:
                assert self.finals.setdefault(command_id, entry.final) == entry.final

    def teardown(self) -> None:
        for _ in range(TRIES):
            self.nodes.settle(AGAIN)
        self.nodes.settle(TTL + 2 * TIMEOUT)
        self.nodes.settle(TIMEOUT)
        for _ in range(3):
            self.nodes.settle(AGAIN)
        told: dict[str, set[Any]] = {}
        for node, command_id, reply in self.replies:
            if node in self.nodes.all:
                assert reply.ends == 1, (node, command_id)
            if reply.ends and command_id != "cancel":
                error = reply.errors[0].code if reply.errors else ""
                if error not in REFUSALS:
                    told.setdefault(command_id, set()).add(error or json.encode(reply.values[-1].outcome))
        assert all(len(outcomes) == 1 for outcomes in told.values()), told
        assert all(node.commands.open == 0 and node.commands.followed == 0 for node in self.nodes.all.values())


class TellingMachine(FleetMachine):
    """The same with a ledger that publishes the events of what it writes, and links that lose answers."""

    def __init__(self) -> None:
        super().__init__()
        self.announced = telling(self.nodes)

    @rule(number=st.integers(0, 2))
    def mishear(self, number: int) -> None:
        mishear(self.node(number))

    @rule()
    def hear(self) -> None:
        for node in self.nodes.all.values():
            mishear(node, False)

    def teardown(self) -> None:
        self.hear()
        super().teardown()
        for command_id in self.finals:
            self.announced.check(command_id, command_id == "c3")


def test_fleet() -> None:
    run(FleetMachine)


def test_telling() -> None:
    run(TellingMachine)


def run(machine: type[FleetMachine]) -> None:
    examples = 600 if LONG else 200
    how = hypothesis_settings(max_examples=examples, stateful_step_count=40, deadline=None, derandomize=not LONG)
    run_state_machine_as_test(machine, settings=how)
