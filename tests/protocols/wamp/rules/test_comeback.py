"""Clients that come back and register while the server has not heard that their old connection is gone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.model.errors import REPLACED
from nexus_tw.model.settings import Heartbeat, Settings
from nexus_tw.transport.conversation import ASKERS
from tests.client import PING, PONG, Wire, frame
from tests.dead import die
from tests.node import TOKEN, until
from tests.protocols.wamp.rules.conftest import Places
from tests.protocols.wamp.rules.core import World
from tests.protocols.wamp.rules.test_endings import raw, raw_receive, raw_send
from tests.wamp.peer import AUTHENTICATE, CHALLENGE, ERROR, HELLO, REGISTER, REGISTERED, ROLES, WELCOME, Refused

EXISTS = "wamp.error.procedure_already_exists"


# --- in the core: who is asked


def test_register_waits_until_it_is_known_whether_the_subjects_old_connection_is_there() -> None:
    world = World()
    old, new = world.join("agent"), world.join("agent")
    old.register("com.work")
    old.line.answers = False
    new.say(REGISTER, 1, {}, "com.work")
    assert new.heard() == []
    (probe,) = old.line.probes
    old.lose()
    probe()
    assert new.one()[:2] == [REGISTERED, 1]


def test_a_second_instance_that_lives_keeps_its_procedure() -> None:
    world = World()
    one, other = world.join("agent"), world.join("agent")
    one.register("com.work")
    one.line.answers = False
    other.say(REGISTER, 1, {}, "com.work")
    one.line.probes.pop()()
    assert other.one()[:5] == [ERROR, REGISTER, 1, {}, EXISTS]


def test_somebody_elses_connection_is_not_asked() -> None:
    world = World()
    one, other = world.join("agent"), world.join("stranger")
    one.register("com.work")
    one.line.answers = False
    other.say(REGISTER, 1, {}, "com.work")
    assert other.one()[:5] == [ERROR, REGISTER, 1, {}, EXISTS]
    assert not one.line.probes


def test_of_one_who_leaves_meanwhile_nothing_is_registered() -> None:
    world = World()
    old, new = world.join("agent"), world.join("agent")
    old.register("com.work")
    old.line.answers = False
    new.say(REGISTER, 1, {}, "com.work")
    new.lose()
    old.lose()
    old.line.probes.pop()()
    realm: Any = world.realms["nexus"]
    assert not list(realm._registry)


def test_who_shares_a_procedure_with_its_old_connection_has_that_looked_after_too() -> None:
    world = World()
    old, new, agent = world.join("agent"), world.join("agent"), world.agent()
    old.line.answers = False
    old.register("com.work", invoke="roundrobin")
    new.register("com.work", invoke="roundrobin")
    assert len(old.line.probes) == 1, "and nobody waits for it"
    agent.say(type="register", commands=["com.work"])
    assert agent.one()["type"] == "registered"


def test_a_wamp_agent_that_registers_with_its_agent_id_replaces_its_old_connection_at_once_as_json_agents_do() -> None:
    """`invoke` is `single`, the default."""
    world = World()
    old, new = world.join("agent"), world.join("agent")
    old.register("com.work", _agent="a-1")
    new.register("com.work", _agent="a-1")
    assert not old.line.probes
    assert old.line.closed == REPLACED


def test_an_agent_id_takes_over_nothing_that_another_connection_holds() -> None:
    world = World()
    one, other = world.join("agent"), world.join("stranger")
    one.register("com.work", _agent="a-1")
    one.register("com.rest", _agent="a-1")
    other.say(REGISTER, 1, {"_agent": "a-2"}, "com.work")
    assert other.one()[:5] == [ERROR, REGISTER, 1, {}, EXISTS]
    assert one.line.closed is None


# --- over real sockets

PLACE = Settings(heartbeat=Heartbeat(interval=5, timeout=30))


@pytest_twisted.ensureDeferred
async def test_a_wamp_agent_that_comes_back_while_its_old_connection_is_half_open_replaces_it(places: Places) -> None:
    """It takes the 3 s that a client has to show that it is there."""
    place = await places(PLACE)
    old, new = await place.join(), await place.join()
    await old.register("com.work")
    die(old._client.wire.transport.socket)
    await new.register("com.work")
    request = new.begin("com.work")
    new.give(await new.invocation(), ["done"])
    assert (await new.outcome(request)).args == ["done"]


async def raw_agent(places: Any) -> Wire:
    """A RawSocket client of the same subject, that knows no pings and has registered."""
    wire = await raw(places.node)
    raw_send(wire, HELLO, "nexus", {"roles": ROLES, "authmethods": ["ticket"]})
    assert (await raw_receive(wire))[0] == CHALLENGE
    raw_send(wire, AUTHENTICATE, TOKEN, {})
    assert (await raw_receive(wire))[0] == WELCOME
    raw_send(wire, REGISTER, 1, {}, "com.work")
    assert (await raw_receive(wire))[0] == REGISTERED
    return wire


@pytest_twisted.ensureDeferred
async def test_the_same_over_rawsocket_where_the_kernel_is_asked(places: Places) -> None:
    place = await places(PLACE)
    wire = await raw_agent(place)
    new = await place.join()
    with pytest.raises(Refused, match=EXISTS):
        await new.register("com.work")
    die(wire.transport.socket)
    await new.register("com.work")
    await until(lambda: len(place.node.server.connections) == 1)


@pytest_twisted.ensureDeferred
async def test_a_live_second_instance_is_told_that_the_procedure_exists_as_soon_as_the_first_answers(places: Places) -> None:
    place = await places(PLACE)
    one, other = await place.join(), await place.join()
    await one.register("com.work")
    other.send(REGISTER, 1, {}, "com.work")
    received = await one._client.frame()
    assert received.opcode == PING, "it is asked at once, not at the next heartbeat"
    one._client.write(frame(PONG, b""))
    assert (await other.receive())[:5] == [ERROR, REGISTER, 1, {}, EXISTS]
    assert len(place.node.server.connections) == 2


@pytest_twisted.ensureDeferred
async def test_however_many_ask_one_client_is_asked_once_and_few_wait(places: Places) -> None:
    place = await places(PLACE)
    one = await place.join()
    connection: Any = next(iter(place.node.server.connections))
    answered: list[int] = []
    for number in range(ASKERS + 10):
        connection.probe(partial(answered.append, number))
    assert answered == list(range(ASKERS, ASKERS + 10))
    assert place.node.metrics.probes_skipped == 10
    assert (await one._client.frame()).opcode == PING
    one._client.write(frame(PONG, b""))
    await until(lambda: len(answered) == ASKERS + 10)
    assert answered[10:] == list(range(ASKERS))
    assert not connection.askers


@pytest_twisted.ensureDeferred
async def test_what_is_asked_for_while_a_register_waits_takes_effect_after_it(places: Places) -> None:
    place = await places(PLACE)
    old, new = await place.join(), await place.join()
    await old.register("com.work")
    die(old._client.wire.transport.socket)
    new.send(REGISTER, 1, {}, "com.work")
    new.send(REGISTER, 2, {}, "com.other")
    assert [(await new.receive())[:2] for _ in range(2)] == [[REGISTERED, 1], [REGISTERED, 2]]
