"""Registrations, calls and commands of a fleet against a plain model: what ends, ends once, and nothing is left behind."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Payload
from tests.commands.nodes import Nodes
from tests.commands.world import raising
from tests.recording import RecordingCallReply, RecordingPeer, RecordingReply

NAMES = ("a", "b", "c")


class Made:
    """A call or command, its node, and what its caller was told."""

    def __init__(self, node: str, reply: RecordingCallReply | RecordingReply, call: Any) -> None:
        self.node = node
        self.reply = reply
        self.call = call

    @property
    def ends(self) -> int:
        if isinstance(self.reply, RecordingReply):
            return self.reply.ends
        return sum(kind != "progress" for kind, _ in self.reply.told)


class Fleetwide(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.nodes = Nodes(*NAMES)
        self.callees: list[tuple[str, RecordingPeer]] = []
        self.held: set[tuple[int, str]] = set()  # session and command
        self.made: list[Made] = []
        self.come_so_far = 0

    def alive(self, number: int) -> str:
        names = sorted(self.nodes.nodes)
        return names[number % len(names)]

    @rule(node=st.integers(0, 2), command=st.sampled_from("xy"), answers=st.booleans())
    def register(self, node: int, command: str, answers: bool) -> None:
        name, peer = self.alive(node), RecordingPeer()
        peer.answers = answers
        self.callees.append((name, peer))
        self.nodes[name].registrar.register(peer, [command], None, lambda: None, raising)
        self.held.add((peer.number, command))

    @precondition(lambda self: self.callees)
    @rule(number=st.integers(0, 20), command=st.sampled_from("xy"))
    def unregister(self, number: int, command: str) -> None:
        name, peer = self.callees[number % len(self.callees)]
        self.nodes[name].registrar.unregister(peer, [command])
        self.held.discard((peer.number, command))

    @precondition(lambda self: self.callees)
    @rule(number=st.integers(0, 20))
    def leave(self, number: int) -> None:
        name, peer = self.callees.pop(number % len(self.callees))
        self.nodes[name].lose(peer)
        self.held -= {(peer.number, command) for command in "xy"}

    @rule(node=st.integers(0, 2), command=st.sampled_from("xy"), timeout=st.sampled_from([0.0, 2.0]))
    def call(self, node: int, command: str, timeout: float) -> None:
        name, reply = self.alive(node), RecordingCallReply()
        try:
            call, _ = self.nodes[name].plain(command, timeout=timeout, reply=reply)
        except NexusError:
            return
        self.made.append(Made(name, reply, call))

    @rule(node=st.integers(0, 2), command=st.sampled_from("xy"), retries=st.integers(0, 2), ttl=st.sampled_from([0.0, 5.0]))
    def command(self, node: int, command: str, retries: int, ttl: float) -> None:
        name = self.alive(node)
        try:
            reply = self.nodes[name].call(command, retries=retries, ttl=ttl, timeout=4.0)
        except NexusError:
            return
        self.made.append(Made(name, reply, None))

    @precondition(lambda self: any(made.call is not None for made in self.made))
    @rule(number=st.integers(0, 20), mode=st.sampled_from(["skip", "kill", "killnowait", "abandon"]))
    def give_up(self, number: int, mode: Any) -> None:
        calls = [made for made in self.made if made.call is not None and made.node in self.nodes.nodes]
        if not calls:
            return
        made = calls[number % len(calls)]
        if mode == "abandon":
            made.call.abandon()
            self.made.remove(made)  # nobody is told any more
        else:
            made.call.cancel(mode)

    @precondition(lambda self: any(peer.invocations for _, peer in self.callees))
    @rule(number=st.integers(0, 50), verb=st.sampled_from(["progress", "result", "error"]))
    def answer(self, number: int, verb: str) -> None:
        given = [invocation for _, peer in self.callees for invocation in peer.invocations]
        argument = NexusError("failed", "as it happens") if verb == "error" else Payload.of_value(b"2")
        getattr(given[number % len(given)], verb)(argument)

    @rule()
    def deliver(self) -> None:
        self.nodes.deliver()

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def wait(self, seconds: float) -> None:
        self.nodes.advance(seconds)

    @precondition(lambda self: len(self.nodes.nodes) > 1)
    @rule(number=st.integers(0, 2))
    def die(self, number: int) -> None:
        name = self.alive(number)
        self.nodes.kill(name)
        for where, peer in self.callees:
            if where == name:
                self.held -= {(peer.number, command) for command in "xy"}
        self.callees = [callee for callee in self.callees if callee[0] != name]
        self.made = [made for made in self.made if made.node != name]

    @precondition(lambda self: len(self.nodes.nodes) < len(NAMES))
    @rule(number=st.integers(0, 2))
    def come(self, number: int) -> None:
        self.come_so_far += 1
        self.nodes.add(f"{NAMES[number]}{self.come_so_far}")

    def teardown(self) -> None:
        if not hasattr(self, "nodes"):
            return
        for _ in range(3):
            self.nodes.deliver()
        for node in self.nodes.nodes.values():
            known = {(callee.session, each.pattern.text) for each in node.registry for callee in each.callees}
            assert known == self.held, "all nodes know what is registered"
        driven = sum(len(node.remotes) for node in self.nodes.nodes.values())
        assert driven == sum(len(node.guests) for node in self.nodes.nodes.values()), "nobody carries out what is over"
        for name, peer in self.callees:
            self.nodes[name].lose(peer)
        for _ in range(3):
            self.nodes.deliver()
        assert all(made.ends for made in self.made if made.call is not None), "what is lost ends at once"
        self.nodes.advance(100.0)
        self.nodes.advance(100.0)
        self.nodes.deliver()
        for made in self.made:
            assert made.ends == 1, "each caller is told once how it ended"
        for node in self.nodes.nodes.values():
            assert not len(node.remotes) and not len(node.guests) and node.guests.kept == (0, 0, 0)
            assert not list(node.registry) and not node.registry._agents and not node.registry.remote
            assert not node.invocations._hands and not len(node.fleetwide.claims)
            metrics = node.metrics
            assert (metrics.guests, metrics.orphans, metrics.claims, metrics.registrations_remote) == (0, 0, 0, 0)
            assert (metrics.outcomes, metrics.outcome_bytes) == (0, 0)
        assert set(self.nodes.nodes) >= {at for nodes in self.nodes.broker.claims._nodes.values() for at in nodes}


Fleetwide.TestCase.settings = settings(Fleetwide.TestCase.settings, stateful_step_count=40, deadline=None)
TestFleetwide = Fleetwide.TestCase
