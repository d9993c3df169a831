"""Events that the ledger publishes: of all that is written of commands, each once and in order, whoever dies."""

from __future__ import annotations

import pytest
from msgspec import Raw

from nexus_tw.commands.pen import AGAIN
from nexus_tw.model.commands import ProgressReport
from tests.commands.telling import Announced, mishear, telling
from tests.commands.test_fleet import Nodes, caller, outcome
from tests.commands.world import succeed
from tests.recording import RecordingReply


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("one", "two", "three")


@pytest.fixture
def announced(nodes: Nodes) -> Announced:
    return telling(nodes)


def test_each_state_is_told_by_the_write_that_has_it(nodes: Nodes, announced: Announced) -> None:
    one = nodes.all["one"]
    agent = one.agent("a")
    one.call(command_id="c", by=caller())
    assert announced.statuses("c") == [("a", "sent")]
    one.answers.progress(agent, ProgressReport("c", Raw(b"1")))
    assert announced.statuses("c") == [("a", "sent"), ("a", "running")]
    succeed(one, agent)
    assert announced.statuses("c") == [("a", "sent"), ("a", "running"), ("a", "completed")]
    one.call(command_id="q", target="b", ttl=60.0, by=caller())
    succeed(one, one.agent("b"))
    assert announced.statuses("q") == [("b", "queued"), ("b", "sent"), ("b", "completed")]
    assert one.statuses() == [], "nothing is announced beside that"


@pytest.mark.parametrize("targets", [1, 3])
def test_a_cancelled_command_is_told_of_each_agent_and_of_the_whole_in_one_step(
    nodes: Nodes, announced: Announced, targets: int
) -> None:
    one = nodes.all["one"]
    names = ["a", "b", "c"][:targets]
    agents = [one.agent(name) for name in names]
    one.call(command_id="c", target=names if targets > 1 else "a", by=caller())
    nodes.settle()
    if targets > 1:
        succeed(one, agents[1])
        nodes.settle()
    before = announced.statuses("c")
    one.commands.cancel(caller().principal, "c", RecordingReply())
    told = announced.statuses("c")[len(before) :]
    assert told == ([("a", "cancelled"), ("c", "cancelled"), (None, "cancelled")] if targets > 1 else [("a", "cancelled")])
    nodes.settle()
    announced.check("c", targets > 1)
    assert len(announced.statuses("c")) == len(before) + len(told) and one.statuses() == []


@pytest.mark.parametrize("deaf", [False, True])
def test_what_was_written_is_told_once_though_the_answer_or_the_driver_is_lost(
    nodes: Nodes, announced: Announced, deaf: bool
) -> None:
    one, two, three = nodes.all.values()
    agent = three.agent("a")
    nodes.settle()
    one.call(command_id="c", target="a", ttl=60.0, retries=1, by=caller())
    follower = three.call(command_id="c", target="a", ttl=60.0, retries=1, by=caller())
    nodes.settle()
    mishear(one, deaf)
    three.answers.progress(agent, ProgressReport("c", Raw(b"1")))
    nodes.settle(AGAIN)
    three.lose(agent)
    nodes.settle(AGAIN)
    nodes.kill("one", heir="two")
    # A driver that hears it first gives it to the agent again, before it knows that the agent is gone.
    before = ["sent", "running", "queued"] if deaf else ["sent", "running", "sent", "queued"]
    assert [status for _, status in announced.statuses("c")] == before
    agent = two.agent("a")
    nodes.settle()
    succeed(two, agent)
    nodes.settle(1.0)
    assert outcome(follower) == "done"
    announced.check("c", False)
    assert [status for _, status in announced.statuses("c")] == [*before, "sent", "completed"]


def test_a_node_that_was_given_up_tells_nothing_again_under_its_new_name(nodes: Nodes, announced: Announced) -> None:
    one = nodes.all["one"]
    agent = one.agent("a")
    reply = one.call(command_id="c", by=caller())
    mishear(one)
    one.answers.progress(agent, ProgressReport("c", Raw(b"1")))
    one.renew("one.2")  # nobody had inherited it yet
    mishear(one, False)
    succeed(one, agent)
    nodes.settle(AGAIN)
    assert outcome(reply) == "done"
    assert [status for _, status in announced.statuses("c")] == ["sent", "running", "completed"]


def test_nothing_is_told_of_what_is_not_taken(nodes: Nodes, announced: Announced) -> None:
    one, two, _ = nodes.all.values()
    agent = one.agent("a")
    two.agent("b")
    one.call(command_id="c", by=caller())
    again = two.call(command_id="c", by=caller())
    nodes.settle()
    one.linked = False
    assert outcome(one.call(command_id="d", by=caller())) == "bus_unavailable"
    one.linked = True
    succeed(one, agent)
    nodes.settle()
    assert outcome(again) == "done"
    assert [status for _, status in announced.statuses("c")] == ["sent", "completed"] and announced.statuses("d") == []
