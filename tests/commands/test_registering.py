from __future__ import annotations

import pytest

from nexus_tw.model.errors import REPLACED, NexusError
from nexus_tw.model.settings import Limits, Role
from nexus_tw.protocols.native.messages import CommandInvocation
from tests.commands.world import World, refusal, succeed
from tests.recording import RecordingPeer, principal


@pytest.fixture
def world() -> World:
    return World()


def test_without_an_agent_id_a_connection_is_the_agent_of_its_client_id(world: World) -> None:
    peer = world.agent()
    world.call(target=peer.client_id)
    assert len(peer.got(CommandInvocation)) == 1
    assert world.presence.agents() == [peer.client_id]


@pytest.mark.parametrize("register", [(), ("harmless",)])
def test_an_empty_list_of_commands_or_a_harmless_one_takes_no_agent_id_from_its_holder(
    world: World, register: tuple[str, ...]
) -> None:
    """The right to register was checked for each command of a list that has none."""
    real = world.agent("agent-1")
    reply = world.call(target="agent-1")
    intruder = RecordingPeer(who=principal("intruder", Role(telemetry=("**",), register=register)))
    for commands in ([], ["harmless"], ["deploy"]):
        with refusal("forbidden"):
            world.register(intruder, commands, "agent-1")
    assert real.closed == [] and world.presence.peers("agent-1") == [real]
    succeed(world, real)
    assert reply.answer["status"] == "success"
    newer = world.agent("agent-1", "restart")
    assert real.closed == [REPLACED], "who may register its commands takes the id"
    world.register(newer, [], "agent-1")
    assert newer.closed == []


def test_who_may_not_register_a_command_registers_none_of_them(world: World) -> None:
    peer = RecordingPeer(who=principal("a", Role(register=("deploy",))))
    with refusal("forbidden"):
        world.register(peer, ["deploy", "stop"], None)
    with refusal("no_such_command"):
        world.call()
    assert world.presence.agents() == []


def test_to_register_as_an_agent_takes_the_right_to_send_its_telemetry(world: World) -> None:
    peer = RecordingPeer(who=principal("a", Role(register=("**",), telemetry=("{subject}",))))
    world.register(peer, ["deploy"], "a")
    with refusal("forbidden"):
        world.register(peer, ["deploy"], "b")
    assert world.presence.agents() == ["a"]


@pytest.mark.parametrize(
    ("name", "agent_id", "code"),
    [
        ("de ploy", None, "invalid_message"),
        ("*", None, "invalid_message"),
        ("nexus.deploy", None, "forbidden"),
        ("wamp.deploy", None, "forbidden"),
        ("deploy", "a b", "invalid_message"),
        ("deploy", "", "invalid_message"),
    ],
)
def test_names_that_cannot_be_registered(world: World, name: str, agent_id: str | None, code: str) -> None:
    with refusal(code):
        world.register(RecordingPeer(), ["fine", name], agent_id)
    with refusal("no_such_command"):
        world.call("fine")


def test_what_the_server_executes_nobody_else_can() -> None:
    world = World({"deploy": lambda call: None})
    with pytest.raises(NexusError, match="executed by the server itself") as caught:
        world.register(RecordingPeer(), ["deploy"], None)
    assert caught.value.code == "forbidden"


def test_the_registrations_of_one_connection_are_bounded() -> None:
    world = World(limits=Limits(subscriptions=1, registrations=2))
    peer = world.agent("a", "one", "two")
    world.register(peer, ["one", "two", "one"], "a")
    with refusal("limit_exceeded"):
        world.register(peer, ["one"], "b")
    world.registrar.unregister(peer, ["two"])
    world.register(peer, ["one"], "b")


def test_registering_nothing_leaves_nothing_behind(world: World) -> None:
    peer = RecordingPeer()
    world.register(peer, [], None)
    assert not world.registry.held(peer) and not list(world.registry)


def test_an_unregistered_command_is_executed_no_more_but_what_is_in_hand_may_be_finished(world: World) -> None:
    peer = world.agent()
    reply = world.call()
    world.registrar.unregister(peer, ["deploy", "unheard-of"])
    with refusal("no_such_command"):
        world.call()
    succeed(world, peer)
    assert reply.answer["data"]["result"] == "done"


def test_a_second_connection_of_an_agent_replaces_the_first_and_what_that_had_in_hand_is_lost(world: World) -> None:
    older = world.agent("a")
    reply = world.call(target="a")
    newer = world.agent("a")
    assert older.closed == [REPLACED]
    assert reply.code == "agent_lost"
    world.call(target="a")
    assert len(older.got(CommandInvocation)) == 1 and len(newer.got(CommandInvocation)) == 1


def test_what_the_replaced_connection_had_in_hand_is_tried_again_by_the_new_one_if_the_caller_allows(
    world: World,
) -> None:
    older = world.agent("a")
    reply = world.call(target="a", retries=1)
    newer = world.agent("a")
    assert [invocation.attempt for invocation in newer.got(CommandInvocation)] == [2]
    succeed(world, older)
    assert reply.ends == 0 and world.metrics.commands_late == 1
    succeed(world, newer)
    assert reply.ends == 1
