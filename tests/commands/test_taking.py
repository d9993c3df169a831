"""Which node has a command: asked for while it changes hands, and written into a ledger that has lost a part of it."""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest

from nexus_tw.commands.following import AGAIN, MISSING
from nexus_tw.model.errors import NexusError
from nexus_tw.protocols.native.messages import CommandInvocation
from tests.commands.test_fleet import Nodes, caller, outcome
from tests.commands.world import succeed
from tests.recording import RecordingReply


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("one", "two")


def test_who_follows_a_command_that_the_ledger_does_not_have_may_give_it_again(nodes: Nodes) -> None:
    one, two = nodes.all.values()
    one.call(command_id="c", target="a", ttl=60.0, by=caller())
    follower, canceller = two.call(command_id="c", target="a", ttl=60.0, by=caller()), RecordingReply()
    two.commands.cancel(caller().principal, "c", canceller)
    nodes.flush()
    nodes.kill("one", heir="two")
    for _ in range(MISSING - 2):
        nodes.settle(AGAIN)
    assert follower.ends == canceller.ends == 0, "its driver may be about to put it there again"
    nodes.settle(AGAIN)
    assert outcome(follower) == "bus_unavailable" and follower.errors[0].kind.retryable
    assert outcome(canceller) == "not_found" and two.commands.followed == 0
    agent = two.agent("a")
    again = two.call(command_id="c", target="a", ttl=60.0, by=caller())
    succeed(two, agent)
    assert outcome(again) == "done"


def test_a_command_that_is_asked_for_while_its_heir_learns_of_it_is_executed_once(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = nodes.all.values()
    two.agent("b")
    agent = one.agent("a")
    one.call(command_id="c", target="a", by=caller())
    assert len(agent.got(CommandInvocation)) == 1
    inherit, answers = two.link.inherit, list[Any]()

    def slow(left: str | None, node: str, most: int, done: Any) -> None:
        inherit(left, node, most, lambda answer: answers.append((done, answer)))

    monkeypatch.setattr(two.link, "inherit", slow)
    nodes.kill("one", heir="two")
    back = two.agent("a")
    reply = two.call(command_id="c", target="a", by=caller())
    monkeypatch.setattr(two.link, "inherit", inherit)
    done, answer = answers.pop()
    done(answer)
    nodes.settle()
    assert outcome(reply) == "agent_lost" and back.got(CommandInvocation) == []
    assert two.commands.open == 0


def test_a_command_that_was_taken_and_whose_answer_was_lost_is_taken_anew(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _two = nodes.all.values()
    agent = one.agent("a")
    take = one.link.take

    def unheard(entry: Any, former: str, done: Any) -> None:
        take(entry, former, lambda _answer: done(NexusError("bus_unavailable", "The link is lost")))

    monkeypatch.setattr(one.link, "take", unheard)
    assert outcome(one.call(command_id="c", target="a", by=caller())) == "bus_unavailable"
    monkeypatch.setattr(one.link, "take", take)
    reply = one.call(command_id="c", target="a", by=caller())
    nodes.settle()
    (invocation,) = agent.got(CommandInvocation)
    assert invocation.attempt == 1
    succeed(one, agent)
    nodes.settle(AGAIN)
    assert outcome(reply) == "done"


@pytest.mark.parametrize("answered", [True, False])
def test_a_command_that_is_asked_for_before_its_heir_inherits_it_goes_on(
    nodes: Nodes, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = nodes.all.values()
    one.call(command_id="c", target="a", ttl=60.0, by=caller())
    take, taken = two.link.take, list[Any]()
    monkeypatch.setattr(two.link, "take", lambda *what: taken.append(what))
    reply = two.call(command_id="c", target="a", ttl=60.0, by=caller())
    nodes.kill("one", heir="two")
    assert two.commands.open == 1 and reply.ends == 0
    monkeypatch.setattr(two.link, "take", take)
    entry, former, done = taken.pop()
    if answered:
        take(entry, former, done)
    else:
        done(NexusError("bus_unavailable", "The link is lost"))
        assert outcome(reply) == "bus_unavailable"
        reply = two.call(command_id="c", target="a", ttl=60.0, by=caller())
    agent = two.agent("a")
    nodes.settle()
    assert [each.attempt for each in agent.got(CommandInvocation)] == [1]
    succeed(two, agent)
    nodes.settle()
    assert outcome(reply) == "done" and two.commands.open == 0


def test_an_end_is_not_written_into_a_ledger_that_lost_what_came_before_it(nodes: Nodes) -> None:
    one, two = nodes.all.values()
    agents = [one.agent(name) for name in "ab"]
    one.call(command_id="c", target=["a", "b"], by=caller())
    older = nodes.ledger._open["c"]
    copied = copy(older)
    copied.marks = dict(older.marks)
    succeed(one, agents[0], b'"a"')
    nodes.ledger._open["c"] = copied  # as after a failover to a replica that was behind
    one.link.epoch = "another"
    succeed(one, agents[1], b'"b"')
    nodes.settle()
    late = two.call(command_id="c", target=["a", "b"], by=caller())
    outcomes = late.values[-1].outcome
    assert isinstance(outcomes, list) and [each.code for each in outcomes] == [None, None]


def test_an_end_that_was_written_and_whose_answer_was_lost_is_not_refused_as_anothers(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _two = nodes.all.values()
    agent = one.agent("a")
    reply = one.call(command_id="c", target="a", by=caller())
    write = one.link.write

    def unheard(what: Any, done: Any) -> None:
        write(what, lambda _answer: done(NexusError("bus_unavailable", "The link is lost")))

    monkeypatch.setattr(one.link, "write", unheard)
    succeed(one, agent)
    assert reply.ends == 0
    monkeypatch.setattr(one.link, "write", write)
    one.renew("one.2")
    nodes.settle(AGAIN)
    assert outcome(reply) == "done" and (one.metrics.ledger_refused, one.metrics.ledger_waiting) == (0, 0)
