"""Which connection may take an agent from one on another node: one that may register all that this executes."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_tw.interfaces.fleet import PATIENCE
from nexus_tw.model.errors import REPLACED
from nexus_tw.model.settings import Role
from tests.protocols.wamp.rules.core import Agent
from tests.realm.test_nodes import Nodes, silence
from tests.wamp.peer import ERROR, REGISTER, REGISTERED

HARMLESS = Role(telemetry=("**",), register=("harmless",))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes(2)


def register(agent: Agent, *commands: str, agent_id: str | None = "a") -> None:
    agent.say(type="register", commands=list(commands), **({} if agent_id is None else {"agentId": agent_id}))


def replies(nodes: Nodes, agent: Agent) -> list[tuple[str, Any]]:
    nodes.run()
    return [(message["type"], message.get("code")) for message in agent.heard() if message["type"] != "connected"]


def represented(nodes: Nodes, number: int) -> list[str]:
    realm: Any = nodes.worlds[number].realms["nexus"]
    agents: list[str] = realm._presence.agents()
    return agents


def test_a_holder_that_executes_nothing_as_the_agent_is_seen_on_the_other_node(nodes: Nodes) -> None:
    holder, intruder = nodes.worlds[0].agent(), nodes.worlds[1].agent("intruder", HARMLESS)
    register(holder)
    register(holder, "deploy", agent_id=None)
    nodes.run()
    register(intruder, "harmless")
    assert replies(nodes, intruder) == [("error", "forbidden")]
    assert holder.line.closed is None and intruder.line.closed is None
    assert represented(nodes, 1) == [], "nothing has changed"
    newer = nodes.worlds[1].agent()
    register(newer, "harmless")
    assert replies(nodes, newer) == [("registered", None)]
    assert holder.line.closed == REPLACED


def test_what_was_registered_in_this_moment_counts(nodes: Nodes) -> None:
    holder, intruder = nodes.worlds[0].agent(), nodes.worlds[1].agent("intruder", HARMLESS)
    register(holder, "deploy")
    register(intruder, "harmless")  # in the same turn: no node has told another one anything
    assert replies(nodes, intruder) == [("error", "forbidden")]
    assert replies(nodes, holder) == [("registered", None)] and holder.line.closed is None
    register(intruder, "harmless")
    assert replies(nodes, intruder) == [("error", "forbidden")]


def test_the_agent_that_a_refused_connection_represented_before_stays(nodes: Nodes) -> None:
    holder, intruder = nodes.worlds[0].agent(), nodes.worlds[1].agent("intruder", HARMLESS)
    register(holder, "deploy")
    realm: Any = nodes.worlds[1].realms["nexus"]
    (peer,) = realm._roster
    realm._presence.acts(peer, "a")
    register(intruder, "harmless")
    assert replies(nodes, intruder) == [("error", "forbidden")]
    assert represented(nodes, 1) == ["a"]


def test_of_two_that_replace_it_at_once_the_later_one_is_looked_at_again(nodes: Nodes) -> None:
    nodes = Nodes(3)
    holder, first, second = (world.agent() for world in nodes.worlds)
    intruder = nodes.worlds[2].agent("intruder", Role(telemetry=("**",), register=("deploy",)))
    register(holder, "deploy")
    nodes.run()
    register(first, "deploy", "reset")
    register(intruder, "deploy")  # may replace the holder, but not whoever replaces it first
    assert replies(nodes, intruder) == [("error", "forbidden")]
    assert holder.line.closed == REPLACED and first.line.closed is None
    register(second, "deploy")
    assert replies(nodes, second) == [("registered", None)]
    assert first.line.closed == REPLACED


def test_of_a_node_that_does_not_answer_counts_what_it_has_told_before(nodes: Nodes) -> None:
    holder, intruder = nodes.worlds[0].agent(), nodes.worlds[1].agent("intruder", HARMLESS)
    newer = nodes.worlds[1].agent()
    register(holder, "deploy", agent_id=None)
    register(holder)
    nodes.run()
    silence(nodes, 0)
    register(intruder, "harmless")
    nodes.run(PATIENCE)
    assert replies(nodes, intruder) == [("error", "forbidden")]
    register(newer)
    nodes.run(PATIENCE)
    assert replies(nodes, newer) == [("registered", None)]


@pytest.mark.parametrize("invoke", ["single", "last"])
def test_a_session_replaces_that_of_its_agent_on_another_node_where_both_may_have_the_procedure(
    nodes: Nodes, invoke: str
) -> None:
    former, newer = (world.join("agent") for world in nodes.worlds)
    former.register("com.work", _agent="a", invoke=invoke)
    nodes.run()
    newer.say(REGISTER, 1, {"_agent": "a", "invoke": invoke}, "com.work")
    nodes.run()
    if invoke == "single":
        assert newer.now()[-1][:5] == [ERROR, REGISTER, 1, {}, "wamp.error.procedure_already_exists"]
        assert former.line.closed is None
    else:
        assert newer.now()[-1][:2] == [REGISTERED, 1]
        assert former.line.closed == REPLACED
