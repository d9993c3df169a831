"""Commands on several nodes with one ledger: asked for again, cancelled and taken over elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nexus_tw.bus.ledger import Ledger, MemoryLedger
from nexus_tw.commands.following import AGAIN, TRIES
from nexus_tw.commands.pen import AGAIN as WRITE_AGAIN
from nexus_tw.interfaces.plugins import Handler, Invoked
from nexus_tw.model.commands import CommandRequest, Outcome, ProgressReport
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from nexus_tw.protocols.native.messages import CommandCancel, CommandInvocation
from tests.commands.world import World, refusal, succeed
from tests.fleet.pretend import Pretended, PretendedFleet
from tests.recording import RecordingPeer, RecordingReply, principal


class Node(World):
    """One node: its links to the ledger and to the others may be cut."""

    def __init__(self, nodes: Nodes, name: str) -> None:
        self.fleet: PretendedFleet = nodes.pretended.node(name)
        self.linked = True
        ledger = self.link = MemoryLedger(nodes, lambda: self.linked)  # type: ignore[arg-type]
        super().__init__(nodes.handlers, clock=nodes.clock, ledger=ledger, fleet=self.fleet)

    def fence(self) -> None:
        """Notice that it is out of touch."""
        for part in self.fleet._parts.values():
            part.fenced()

    def renew(self, name: str) -> None:
        """Go on under a name, in a ledger that may have lost what it had."""
        if name != self.fleet.node:
            for member in list(self.fleet.members):
                self.fleet.loses(member, False)
        self.fleet.node = name
        for part in self.fleet._parts.values():
            part.renewed()


class Nodes:
    """Nodes that share a ledger."""

    def __init__(self, *names: str, handlers: Mapping[str, Handler] | None = None) -> None:
        self.handlers = handlers
        self.clock = self.make_clock()
        self.pretended = Pretended()
        self.metrics = Metrics()
        self.ledger = Ledger(self.metrics, self.clock.seconds)
        self.all = {}
        for name in names:
            self.all[name] = node = Node(self, name)
            self.pretended.join(node.fleet)

    def make_clock(self) -> Clock:
        return Clock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)  # which may be another one after a flush

    def flush(self) -> None:
        self.ledger = Ledger(self.metrics, self.clock.seconds)

    def kill(self, name: str, heir: str) -> None:
        """End a node: neither it nor its timers do anything any more that others see."""
        node = self.all.pop(name)
        node.linked = False
        self.pretended.kill(name, heir)
        self.settle()

    def settle(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        for _ in range(20):
            self.pretended.deliver()
            self.clock.advance(0)


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("one", "two", "three")


def caller(subject: str = "caller") -> RecordingPeer:
    return RecordingPeer(who=principal(subject))


def outcome(reply: RecordingReply) -> Any:
    """Return the code of the one error, or the one result."""
    assert reply.ends == 1, (reply.results, reply.errors)
    return reply.errors[0].code if reply.errors else reply.answer["data"]["result"]


def test_an_id_that_is_asked_for_on_another_node_is_the_same_command(nodes: Nodes) -> None:
    one, two, _three = nodes.all.values()
    agent, other = one.agent("a"), two.agent("b")
    first = one.call(command_id="c", target=None, by=caller())
    again = [two.call(command_id="c", by=caller()) for _ in range(2)]
    nodes.settle()
    one.answers.progress(agent, ProgressReport("c", Raw(b"1")))
    nodes.settle()
    assert [report.data for reply in again for report in reply.progressed] == [Raw(b"1")] * 2
    succeed(one, agent)
    nodes.settle()
    assert [outcome(reply) for reply in (first, *again)] == ["done"] * 3
    assert len(agent.got(CommandInvocation)) == 1 and other.got(CommandInvocation) == []
    late = nodes.all["three"].call(command_id="c", by=caller())
    assert outcome(late) == "done"
    assert (two.commands.followed, two.commands.open, one.commands.open) == (0, 0, 0)


def test_only_its_caller_may_ask_again_and_for_the_same_only(nodes: Nodes) -> None:
    one, two, three = nodes.all.values()
    one.call(command_id="c", target="a", ttl=60.0, by=caller())
    three.agent("a")  # which other nodes do not know of here
    for node in (two, three):
        assert outcome(node.call(command_id="c", target="a", ttl=60.0, by=caller("thief"))) == "forbidden"
        assert outcome(node.call(command_id="c", target="b", ttl=60.0, by=caller())) == "invalid_message"
        other = node.call(command_id="c", target="a", ttl=60.0, parameters=Raw(b"[1]"), by=caller())
        assert outcome(other) == "invalid_message"
        reply = RecordingReply()
        node.commands.cancel(principal("thief", caller().principal.rights), "c", reply)
    nodes.settle()
    assert one.commands.open == 1 or one.statuses()[-1] == "cancelled"


def test_an_id_for_which_there_is_no_executor_here_is_answered_all_the_same(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    one.call(command_id="c", target="a", by=caller())
    succeed(one, agent)
    assert outcome(two.call(command_id="c", target="a", by=caller())) == "done"
    with refusal("agent_offline"):
        two.call(target="a", by=caller())
    assert outcome(two.call(command_id="d", target="a", by=caller())) == "agent_offline"


def test_it_is_cancelled_from_another_node(nodes: Nodes) -> None:
    one, two, three = nodes.all.values()
    agent = one.agent("a")
    first = one.call(command_id="c", by=caller())
    peer, waiting = caller(), RecordingReply()
    three.commands.call(peer, CommandRequest("deploy", command_id="c"), waiting)
    nodes.settle()
    canceller = RecordingReply()
    three.commands.cancel(peer.principal, "c", waiting)  # who waits is told once
    two.commands.cancel(caller().principal, "c", canceller)
    nodes.settle()
    assert [outcome(reply) for reply in (first, waiting)] == ["cancelled"] * 2
    assert outcome(canceller) == "not_found", "it came too late"
    assert len(agent.got(CommandCancel)) == 1
    reply = RecordingReply()
    two.commands.cancel(caller().principal, "c", reply)
    assert outcome(reply) == "not_found" and "it is cancelled" in reply.errors[0].message
    second, elsewhere = one.call(command_id="e", by=caller()), RecordingReply()
    two.commands.cancel(caller().principal, "e", elsewhere)
    nodes.settle()
    assert [outcome(reply) for reply in (second, elsewhere)] == ["cancelled"] * 2
    unknown = RecordingReply()
    two.commands.cancel(caller().principal, "unknown", unknown)
    assert outcome(unknown) == "not_found"


def test_several_targets_are_told_one_by_one_on_every_node(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agents = [one.agent(name) for name in "ab"]
    one.call(command_id="c", target=["a", "b"], ttl=60.0, by=caller())
    nodes.settle()
    succeed(one, agents[0])
    late = two.call(command_id="c", target=["b", "a"], ttl=60.0, by=caller())
    nodes.settle()
    assert [getattr(result.outcome, "agent_id", None) for result in late.values] == ["a"]
    succeed(one, agents[1])
    nodes.settle()
    assert [getattr(result.outcome, "agent_id", None) for result in late.values] == ["a", "b", None]


def test_the_heir_goes_on_with_what_waited_and_all_who_follow_hear_of_it(nodes: Nodes) -> None:
    one, two, three = nodes.all.values()
    one.call(command_id="c", target="a", ttl=60.0, by=caller())
    follower = three.call(command_id="c", target="a", ttl=60.0, by=caller())
    nodes.settle(20.0)
    nodes.kill("one", heir="two")
    assert two.commands.open == 1 and two.metrics.commands_taken_over == 1
    agent = two.agent("a")
    nodes.settle()
    (invocation,) = agent.got(CommandInvocation)
    assert invocation.attempt == 1
    succeed(two, agent)
    nodes.settle(AGAIN)
    assert outcome(follower) == "done"
    assert two.statuses() == ["sent", "completed"], "it was queued all the time"


def test_the_heir_lets_it_wait_for_the_rest_of_its_time_only(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    one.call(command_id="c", target="a", ttl=60.0, by=caller())
    nodes.settle(50.0)
    nodes.kill("one", heir="two")
    nodes.settle(9.9)
    assert two.statuses() == []
    nodes.settle(0.2)
    assert two.statuses() == ["expired"]
    assert outcome(two.call(command_id="c", target="a", ttl=60.0, by=caller())) == "expired"


@pytest.mark.parametrize("retries", [0, 1])
def test_what_the_dead_node_executed_is_lost_and_given_again_if_that_is_allowed(nodes: Nodes, retries: int) -> None:
    one, two, three = nodes.all.values()
    agent = one.agent("a")
    one.call(command_id="c", retries=retries, parameters=Raw(b'{"v":1}'), by=caller())
    assert len(agent.got(CommandInvocation)) == 1
    follower = three.call(command_id="c", retries=retries, parameters=Raw(b'{"v":1}'), by=caller())
    second = two.agent("b")
    nodes.settle()
    nodes.kill("one", heir="two")
    succeed(one, agent)  # too late, and nobody hears of it
    nodes.settle(AGAIN)
    if retries:
        (invocation,) = second.got(CommandInvocation)
        assert invocation.attempt == 2 and bytes(invocation.parameters) == b'{"v":1}'
        succeed(two, second, b'"second"')
        nodes.settle(AGAIN)
    assert outcome(follower) == ("second" if retries else "agent_lost")


def test_several_targets_of_the_dead_go_on_where_they_were(nodes: Nodes) -> None:
    one, two, three = nodes.all.values()
    agents = [one.agent(name) for name in "ab"]
    targets = ["a", "b", "c"]
    one.call(command_id="c", target=targets, ttl=60.0, by=caller())
    follower = three.call(command_id="c", target=targets, ttl=60.0, by=caller())
    nodes.settle()
    succeed(one, agents[0], b'"a"')
    nodes.settle()
    nodes.kill("one", heir="two")
    agent = two.agent("c")
    nodes.settle(AGAIN)
    succeed(two, agent, b'"c"')
    nodes.settle(AGAIN)
    *each, last = [result.outcome for result in follower.values]
    assert isinstance(last, list)
    told = [(one.agent_id, one.code) for one in each if isinstance(one, Outcome)]
    assert sorted(told) == [("a", None), ("b", "agent_lost"), ("c", None)], "each once, though two nodes told of it"
    assert [one.code for one in last] == [None, "agent_lost", None]


def test_a_node_that_was_given_up_ends_nothing_and_its_callers_follow_the_heir(nodes: Nodes) -> None:
    one, _two, _ = nodes.all.values()
    agent = one.agent("a")
    waiting = one.call(command_id="c", retries=1, by=caller())
    running = one.call(command_id="d", target="a", by=caller())
    one.linked = False
    succeed(one, agent, at=1)
    assert running.ends == 0, "its end is not in the ledger yet"
    one.fence()
    nodes.settle()
    assert [cancel.command_id for cancel in agent.got(CommandCancel)] == ["c"], "others may give it to another agent"
    nodes.pretended.kill("one", heir="two")
    nodes.settle()
    one.linked = True
    one.renew("one.2")
    nodes.pretended.join(one.fleet)
    nodes.settle(WRITE_AGAIN)
    nodes.settle(AGAIN)
    assert outcome(running) == "agent_lost", "as the heir said meanwhile"
    # The heir has given it to the same agent, now one of another node to it.
    assert [(each.command_id, each.attempt) for each in agent.got(CommandInvocation)][2:] == [("c", 2)]
    succeed(one, agent, b'"heir"')
    nodes.settle(AGAIN)
    assert outcome(waiting) == "heir"
    assert one.commands.open == 0 and one.metrics.ledger_refused == 2


@pytest.mark.parametrize("targets", ["a", ["a", "b"]])
def test_the_heir_ends_what_only_had_to_be_written_as_ended(nodes: Nodes, targets: Any) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    one.call(command_id="c", target=targets, by=caller())
    nodes.flush()
    one.link.write = lambda *what: what[1](None)  # type: ignore[method-assign]
    take = one.link.take
    # The ledger has lost it: it is put there again, as it is by then, and the driver dies before it has written the end.
    one.link.take = lambda *what: take(what[0], what[1], lambda _answer: None)  # type: ignore[method-assign]
    succeed(one, agent)
    nodes.kill("one", heir="two")
    assert two.commands.open == 0
    reply = two.call(command_id="c", target=targets, by=caller())
    nodes.settle()
    assert reply.ends == 1 and reply.errors == []


def test_what_the_ledger_takes_under_a_name_that_was_given_up_is_taken_under_the_present_one(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    late: list[Any] = []
    take = one.link.take
    one.link.take = lambda *what: late.append(what)  # type: ignore[method-assign]
    first, again = (one.call(command_id="c", by=caller()) for _ in range(2))
    nodes.pretended.kill("one", heir="two")
    nodes.settle()
    one.renew("one.2")
    nodes.pretended.join(one.fleet)
    one.link.take = take  # type: ignore[method-assign]
    take(*late[0])
    succeed(one, agent)
    nodes.settle()
    assert (outcome(first), outcome(again), outcome(two.call(command_id="c", by=caller()))) == ("done",) * 3


def test_a_command_of_which_nobody_knows_whether_it_was_taken_is_removed_under_the_name_of_then(nodes: Nodes) -> None:
    one = nodes.all["one"]
    one.agent("a")
    late: list[Any] = []
    take = one.link.take
    one.link.take = lambda *what: late.append(what)  # type: ignore[method-assign]
    reply = one.call(command_id="c", by=caller())
    one.link.take = take  # type: ignore[method-assign]
    nodes.pretended.kill("one", heir="two")
    nodes.settle()
    entry, former, done = late[0]
    take(entry, former, lambda _answer: done(NexusError("bus_unavailable", "The link is lost")))
    one.renew("one.2")
    nodes.pretended.join(one.fleet)
    assert outcome(reply) == "bus_unavailable" and nodes.metrics.ledger_commands == 1
    nodes.settle(WRITE_AGAIN)
    assert nodes.metrics.ledger_commands == 0


def test_a_ledger_that_lost_its_data_gets_what_is_open_again(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    reply = one.call(command_id="c", by=caller())
    one.call(command_id="q", target="b", ttl=60.0, by=caller())
    nodes.flush()
    one.renew("one")
    assert nodes.metrics.ledger_commands >= 2
    follower = two.call(command_id="q", target="b", ttl=60.0, by=caller())
    succeed(one, agent)
    one.commands.cancel(caller().principal, "q", RecordingReply())
    nodes.settle()
    assert (outcome(reply), outcome(follower)) == ("done", "cancelled")
    assert outcome(two.call(command_id="c", by=caller())) == "done"


def test_even_what_is_written_before_that_is_noticed_is_not_lost(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    reply = one.call(command_id="c", by=caller())
    nodes.flush()
    succeed(one, agent)
    assert outcome(reply) == "done"
    assert outcome(two.call(command_id="c", by=caller())) == "done"


def test_without_the_ledger_nothing_begins_and_what_runs_ends_later(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    running = one.call(command_id="c", by=caller())
    queued = one.call(command_id="q", target="b", ttl=600.0, by=caller())
    one.linked = False
    assert outcome(one.call(command_id="d", by=caller())) == "bus_unavailable"
    succeed(one, agent)
    other = one.agent("b")
    nodes.settle(5.0)
    assert running.ends == 0 and other.got(CommandInvocation) == []
    assert one.metrics.ledger_waiting == 2
    one.linked = True
    nodes.settle(WRITE_AGAIN)
    assert outcome(running) == "done" and len(other.got(CommandInvocation)) == 1
    succeed(one, other)
    assert outcome(queued) == "done" and one.metrics.ledger_waiting == 0
    assert outcome(two.call(command_id="d", target="z", by=caller())) == "agent_offline", "it was never taken"


def test_a_caller_whose_driver_is_nowhere_is_told_to_ask_later(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    one.call(command_id="c", target="a", ttl=600.0, by=caller())
    del two.fleet.members["one"]  # not known yet
    follower = two.call(command_id="c", target="a", ttl=600.0, by=caller())
    for _ in range(TRIES):
        nodes.settle(AGAIN)
    assert outcome(follower) == "bus_unavailable" and two.commands.followed == 0


def test_who_leaves_is_not_told_and_nothing_is_left_of_it(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    agent, peer = one.agent("a"), caller()
    one.call(command_id="c", by=caller())
    follower = two.call(command_id="c", by=peer)
    nodes.settle()
    two.commands.left(peer)
    nodes.settle()
    (command,) = one.commands._book.live()
    assert len(command.peers()) == 1 and two.commands.followed == 0
    succeed(one, agent)
    nodes.settle()
    assert follower.ends == 0
    assert not one.commands._following._elsewhere and not two.commands._following._peers


def test_waiting_callers_of_other_nodes_are_bounded_like_those_here(nodes: Nodes) -> None:
    one, two, _ = nodes.all.values()
    one.agent("a")
    one.call(command_id="c", by=caller())
    peer = caller()
    replies = [two.call(command_id="c", by=peer) for _ in range(9)]
    nodes.settle()
    assert [reply.ends for reply in replies] == [0] * 8 + [1]
    assert outcome(replies[8]) == "limit_exceeded"


def test_an_answer_that_is_no_message_is_dropped(nodes: Nodes) -> None:
    one, _two, _ = nodes.all.values()
    one.commands._following.received("two", b"\xff{")
    one.commands._following.received("two", b'["result",77,"c","deploy",["a"]]')
    assert one.commands.followed == 0


def test_what_another_node_executes_goes_on_when_its_driver_dies(nodes: Nodes) -> None:
    one, two, three = nodes.all.values()
    agent = three.agent("a")
    nodes.settle()
    one.call(command_id="c", target="a", by=caller())
    follower = two.call(command_id="c", target="a", by=caller())
    nodes.settle()
    assert [invocation.attempt for invocation in agent.got(CommandInvocation)] == [1]
    nodes.kill("one", heir="two")
    three.answers.progress(agent, ProgressReport("c", Raw(b"1")))
    nodes.settle(AGAIN)
    succeed(three, agent)
    nodes.settle(AGAIN)
    assert outcome(follower) == "done"
    assert len(agent.got(CommandInvocation)) == 1 and agent.got(CommandCancel) == []


def test_what_the_heir_itself_executes_goes_on_too(nodes: Nodes) -> None:
    one, two, three = nodes.all.values()
    agent = two.agent("a")
    nodes.settle()
    one.call(command_id="c", target="a", by=caller())
    follower = three.call(command_id="c", target="a", by=caller())
    nodes.settle()
    nodes.kill("one", heir="two")
    succeed(two, agent)
    nodes.settle(AGAIN)
    assert outcome(follower) == "done" and len(agent.got(CommandInvocation)) == 1


def test_a_handler_that_the_heir_calls_again_gets_the_callers_rights(nodes: Nodes) -> None:
    runs: list[Invoked] = []

    def handler(call: Invoked) -> Deferred[Any]:
        runs.append(call)
        return Deferred()

    nodes = Nodes("one", "two", handlers={"deploy": handler})
    one, two = nodes.all.values()
    role = Role(call=("deploy",), publish=("{subject}.**",))
    asking = Principal("caller", "operator", role, 9e9, issuer="there", account="payer", token_id="secret")
    one.call(command_id="c", retries=1, by=RecordingPeer(who=asking))
    one.call(command_id="d", by=RecordingPeer(who=asking))
    (entry,) = [entry for entry in [nodes.ledger.find("c")] if entry is not None]
    assert b"publish" in entry.head and b"secret" not in entry.head
    nodes.kill("one", heir="two")
    assert [(call.command_id, call.attempt) for call in runs] == [("c", 1), ("d", 1), ("c", 2)]
    caller = runs[-1].caller
    assert caller.identity == asking.identity and (caller.account, caller.role, caller.expires) == ("payer", "operator", 9e9)
    assert caller.allows("publish", "caller.done") and not caller.allows("publish", "other.done") and not caller.admin
    assert two.commands.open == 1
