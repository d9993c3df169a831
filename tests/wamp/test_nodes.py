"""Two nodes on one Redis: what a session publishes on one of them, sessions on the other get as if it were their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.client import Client, dial, greeted, handshake, request
from tests.e2e.foreign import join as join_redis
from tests.e2e.server import NexusServer, until
from tests.redis_server import RedisServer
from tests.wamp.peer import ABORT, AUTHENTICATE, CHALLENGE, INTERRUPT, UNREGISTERED, Peer, Refused, clock, connect
from tests.wamp.router import server

TOPIC = "com.example.nodes"


@dataclass
class Nodes:
    redis: RedisServer
    servers: list[NexusServer]
    made: list[Peer | Client] = field(default_factory=list)

    async def peer(self, node: int, serializer: str = "json", realm: str = "realm1", user: str = "") -> Peer:
        """A session on that node: anonymous, or of a user with a ticket."""
        peer = await connect(self.servers[node].port, serializer)
        self.made.append(peer)
        ticket = {"ticket-user": "ticket-pass", "admin": self.servers[node].token}.get(user)
        return await peer.join(realm, ticket, **({"authid": user} if user else {}))

    async def json(self, node: int) -> Client:
        wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", self.servers[node].port))
        wire.write(handshake(token=self.servers[node].token))
        client = await greeted(wire)
        self.made.append(client)
        return client

    async def http(self, node: int, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer over HTTP, to an administrator."""
        wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", self.servers[node].port))
        data = None if body is None else json.dumps(body).encode()
        wire.write(request(method, target, self.servers[node].token, data, ("Connection: close",)))
        response = await wire.response(method)
        await wire.rest()
        return response.status, response.json if response.body else None


async def ready(node: NexusServer) -> None:
    """Wait until it answers, and each of its four realms has its bus."""
    await node.ready()
    await until(lambda: node.output.count("The bus is connected") == 4, what=f"for the bus:\n{node.output}")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    directory: Path = tmp_path_factory.mktemp("nodes")
    redis = RedisServer()
    redis.start()
    servers = [server(directory, name, "--bus", redis.url) for name in ("one", "two")]
    try:
        for node in servers:
            node.launch()
        for node in servers:
            pytest_twisted.blockon(ensureDeferred(ready(node)))
        yield Nodes(redis, servers)
    finally:
        for node in servers:
            node.discard()
        redis.close()


@pytest.fixture
def nodes(started: Nodes) -> Iterator[Nodes]:
    yield started
    for one in started.made:
        one.drop()
    started.made.clear()


CARRIED: list[tuple[list[Any], dict[str, Any]]] = [
    ([1, "ä", None, b"\0\xff"], {"more": {"data": b""}}),
    ([{"one": "object"}], {}),
    ([], {"keywords": "only"}),
    ([b"\1"], {}),
    ([], {}),
]


@pytest_twisted.ensureDeferred
async def test_an_event_is_the_same_on_each_node(nodes: Nodes) -> None:
    publisher = await nodes.peer(0, "msgpack")
    places = [(node, serializer) for node in (0, 1) for serializer in ("json", "msgpack", "cbor")]
    subscribers = [await nodes.peer(*place) for place in places]
    for subscriber in subscribers:
        await subscriber.subscribe(TOPIC)
        await subscriber.subscribe("com.example.nod", match="prefix")
    for args, kwargs in CARRIED:
        publication = await publisher.publish(TOPIC, args, kwargs)
        for place, subscriber in zip(places, subscribers, strict=True):
            for event in [await subscriber.event() for _ in range(2)]:
                assert (event.args, event.kwargs, event.publication) == (args, kwargs, publication), place


@pytest.mark.parametrize("node", [0, 1])
@pytest_twisted.ensureDeferred
async def test_publishers_say_who_hears_it_on_each_node(nodes: Nodes, node: int) -> None:
    publisher, one, other = await nodes.peer(0), await nodes.peer(node, user="ticket-user"), await nodes.peer(node)
    for peer in (one, other, publisher):
        await peer.subscribe(TOPIC)
    chosen: list[dict[str, Any]] = [
        {"exclude": [one.session]},
        {"exclude_authid": ["ticket-user"]},
        {"exclude_authrole": ["user"]},
        {"eligible": [one.session]},
        {"eligible_authid": ["ticket-user"]},
        {"eligible_authrole": ["user"]},
        {"exclude_me": False},
    ]
    for number, options in enumerate(chosen):
        await publisher.publish(TOPIC, [number], **options)
    await publisher.publish(TOPIC, ["last"], exclude_me=False)

    async def heard(peer: Peer) -> list[Any]:
        found: list[Any] = []
        while found[-1:] != ["last"]:
            found += (await peer.event()).args
        return found

    assert await heard(one) == [3, 4, 5, 6, "last"]
    assert await heard(other) == [0, 1, 2, 6, "last"]
    assert await heard(publisher) == [6, "last"]


@pytest_twisted.ensureDeferred
async def test_who_discloses_itself_is_known_on_each_node(nodes: Nodes) -> None:
    publisher = await nodes.peer(0, user="ticket-user")
    subscribers = [await nodes.peer(node) for node in (0, 1)]
    for subscriber in subscribers:
        await subscriber.subscribe(TOPIC)
    await publisher.publish(TOPIC, disclose_me=True)
    await publisher.publish(TOPIC)
    disclosed = {"publisher": publisher.session, "publisher_authid": "ticket-user", "publisher_authrole": "user"}
    for subscriber in subscribers:
        assert [(await subscriber.event()).details for _ in range(2)] == [disclosed, {}]


@pytest_twisted.ensureDeferred
async def test_a_retained_event_is_the_same_on_each_node(nodes: Nodes) -> None:
    publisher = await nodes.peer(0, "msgpack", user="ticket-user")
    topic = f"{TOPIC}.retained"
    await publisher.publish(topic, ["before"], retain=True)
    publication = await publisher.publish(topic, [1, b"\0"], {"three": 3}, retain=True, disclose_me=True)
    await publisher.publish(topic, ["not retained"])
    await publisher.publish(f"{topic}.secret", ["secret"], retain=True, eligible_authrole=["nobody"])
    for node in (0, 1):
        for match, asked in (("exact", topic), ("prefix", f"{topic}")):
            subscriber = await nodes.peer(node, "cbor")
            await subscriber.subscribe(asked, match=match, get_retained=True)
            event = await subscriber.event()
            assert (event.args, event.kwargs, event.publication) == ([1, b"\0"], {"three": 3}, publication)
            assert event.details["retained"] is True and event.details["publisher_authid"] == "ticket-user"
            live = await publisher.publish(topic, ["live"])
            event = await subscriber.event()
            assert (event.args, event.publication) == (["live"], live)
            assert "retained" not in event.details


@pytest_twisted.ensureDeferred
async def test_event_retention_is_announced(nodes: Nodes) -> None:
    for node in (0, 1):
        peer = await connect(nodes.servers[node].port)
        nodes.made.append(peer)
        welcome = await peer.hello("realm1")
        assert welcome[2]["roles"]["broker"]["features"]["event_retention"] is True


@pytest_twisted.ensureDeferred
async def test_json_clients_and_other_programs_get_the_value_and_nothing_else(nodes: Nodes) -> None:
    publisher = await nodes.peer(0, realm="nexus", user="admin")
    subscriber = await nodes.peer(1, "cbor", realm="nexus", user="admin")
    await subscriber.subscribe(TOPIC)
    watcher = await nodes.json(1)
    await watcher.subscribe(TOPIC)
    foreign = await join_redis(nodes.redis.port)
    await foreign.subscribe(TOPIC)
    await publisher.publish(TOPIC, [1, b"\0"], {"three": 3}, disclose_me=True)
    value = {"args": [1, "\0AA=="], "kwargs": {"three": 3}}
    assert (await watcher.expect("event", eventType=TOPIC))["data"] == value
    await until(lambda: foreign.heard, what="for what another program hears")
    assert foreign.heard == [(TOPIC, value)]
    assert (await subscriber.event()).args == [1, b"\0"]
    # What a program like that publishes is nobody's in particular.
    await foreign.publish(TOPIC, {"four": [4]})
    event = await subscriber.event()
    assert (event.args, event.kwargs, event.details) == ([], {"four": [4]}, {})
    foreign.leave()


@pytest_twisted.ensureDeferred
async def test_realms_stay_apart_on_the_bus(nodes: Nodes) -> None:
    realms = ("realm1", "crossbardemo", "disclosing")
    publishers = [await nodes.peer(0, realm=realm) for realm in realms]
    subscribers = [await nodes.peer(1, realm=realm) for realm in realms]
    for subscriber in subscribers:
        await subscriber.subscribe("", match="prefix")
    for _ in range(2):
        for realm, publisher in zip(realms, publishers, strict=True):
            await publisher.publish(TOPIC, [realm])
    for realm, subscriber in zip(realms, subscribers, strict=True):
        assert [(await subscriber.event()).args for _ in range(2)] == [[realm], [realm]]


# --- the realm as a whole


@pytest_twisted.ensureDeferred
async def test_the_meta_api_answers_for_both_nodes(nodes: Nodes) -> None:
    here, there = await nodes.peer(0, realm="nexus", user="admin"), await nodes.peer(1, "cbor", realm="nexus", user="admin")
    agent = await nodes.json(1)
    for peer in (here, there):
        sessions = (await peer.call("wamp.session.list")).args[0]
        assert {here.session, there.session} <= set(sessions) and len(sessions) == 3
        assert (await peer.call("wamp.session.get", [here.session])).args[0]["session"] == here.session
        assert (await peer.call("wamp.session.get", [there.session])).args[0]["authid"] == "admin"
    number = await here.subscribe(TOPIC)
    assert await there.subscribe(TOPIC) == number
    assert sorted((await there.call("wamp.subscription.list_subscribers", [number])).args[0]) == sorted(
        (here.session, there.session)
    )
    await here.call("wamp.session.kill_all")
    assert (await agent.closed())[0] == 4502
    await there.ended()
    assert (await here.call("wamp.session.list")).args[0] == [here.session]


@pytest_twisted.ensureDeferred
async def test_meta_events_come_once_from_whatever_node(nodes: Nodes) -> None:
    watchers = [await nodes.peer(node, realm="nexus", user="admin") for node in (0, 1)]
    for watcher in watchers:
        for name in ("session.on_join", "session.on_leave", "subscription.on_create", "subscription.on_delete"):
            await watcher.subscribe(f"wamp.{name}")
    guests = [await nodes.peer(node, realm="nexus", user="admin") for node in (0, 1)]
    for watcher in watchers:
        joined = [(await watcher.event()).args[0]["session"] for _ in guests]
        assert sorted(joined) == sorted(guest.session for guest in guests)
    topic = f"{TOPIC}.watched"
    number = await guests[0].subscribe(topic)
    for watcher in watchers:
        session, created = (await watcher.event()).args
        assert (session, created["id"], created["uri"]) == (guests[0].session, number, topic)
    await guests[1].subscribe(topic)
    # The answer of the other node comes after all that it has told.
    assert (await watchers[0].call("wamp.subscription.count_subscribers", [number])).args == [2]
    for guest in guests:
        await guest.leave()
    for watcher in watchers:
        # A session that leaves is told of after its subscriptions; the two are on different nodes.
        told = [(await watcher.event()).args for _ in range(3)]
        assert sorted(args[0] for args in told if len(args) == 3) == sorted(guest.session for guest in guests)
        assert [args[1] for args in told if len(args) == 2] == [number]


@pytest_twisted.ensureDeferred
async def test_an_administrator_revokes_on_both_nodes_by_http(nodes: Nodes) -> None:
    victims = [await nodes.peer(node, user="ticket-user") for node in (0, 1)]
    assert await nodes.http(0, "POST", "/api/v1/revoke", {"subject": "ticket-user"}) == (200, {"closed": 2})
    for victim in victims:
        await victim.ended()
    for node in (0, 1):
        late = await connect(nodes.servers[node].port)
        nodes.made.append(late)
        hello = await late.hello("realm1", authmethods=["ticket"], authid="ticket-user")
        assert hello[0] == CHALLENGE
        late.send(AUTHENTICATE, "ticket-pass", {})
        assert (await late.receive())[0] == ABORT
    assert (await nodes.http(1, "DELETE", "/api/v1/revoke?subject=ticket-user"))[0] == 204
    for node in (0, 1):
        assert (await nodes.peer(node, user="ticket-user")).session


# --- calls and commands from node to node


async def known(peer: Peer, procedure: str, callees: int = 1) -> Peer:
    """Wait until the node of this peer knows so many callees of the procedure."""
    while True:
        (number,) = (await peer.call("wamp.registration.match", [procedure])).args
        if number is not None:
            (count,) = (await peer.call("wamp.registration.count_callees", [number])).args
            if count == callees:
                return peer


async def freed(peer: Peer, procedure: str) -> int:
    """Register a procedure that another node is giving up, which Redis knows a moment after its client."""
    while True:
        try:
            return await peer.register(procedure)
        except Refused as refused:
            if refused.uri != "wamp.error.procedure_already_exists":
                raise


async def gone(peer: Peer, procedure: str) -> None:
    """Wait until the node of this peer knows no callee of it."""
    while (await peer.call("wamp.registration.match", [procedure])).args != [None]:
        pass


@pytest_twisted.ensureDeferred
async def test_a_callee_is_removed_from_the_other_node(nodes: Nodes) -> None:
    callee, admin = await nodes.peer(1, realm="nexus", user="admin"), await nodes.peer(0, realm="nexus", user="admin")
    number = await callee.register("com.nodes.removed")
    await known(admin, "com.nodes.removed")
    await admin.call("wamp.registration.remove_callee", [number, callee.session, "com.nodes.enough"])
    assert (await callee.expect(UNREGISTERED)) == [0, {"registration": number, "reason": "com.nodes.enough"}]
    await gone(admin, "com.nodes.removed")


@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
@pytest_twisted.ensureDeferred
async def test_a_call_reaches_a_callee_on_the_other_node(nodes: Nodes, serializer: str) -> None:
    callee, caller = await nodes.peer(1, "msgpack"), await nodes.peer(0, serializer, user="ticket-user")
    number = await callee.register("com.nodes.echo", disclose_caller=True)
    await known(caller, "com.nodes.echo")
    for args, kwargs in CARRIED:
        request = caller.begin("com.nodes.echo", args, kwargs, receive_progress=True)
        invocation = await callee.invocation()
        assert (invocation.registration, invocation.args, invocation.kwargs) == (number, args, kwargs)
        assert invocation.details["caller"] == caller.session and invocation.details["caller_authid"] == "ticket-user"
        callee.give(invocation, ["half"], progress=True)
        callee.give(invocation, args, kwargs)
        outcome = await caller.outcome(request)
        assert (outcome.args, outcome.kwargs, outcome.progress) == (args, kwargs, [(["half"], {})])
    request = caller.begin("com.nodes.echo")
    callee.fail(await callee.invocation(), "com.nodes.error", [b"\0"], {"k": 1})
    with pytest.raises(Refused) as refused:
        await caller.outcome(request)
    assert (refused.value.uri, refused.value.args_, refused.value.kwargs) == ("com.nodes.error", [b"\0"], {"k": 1})


@pytest_twisted.ensureDeferred
async def test_a_call_over_nodes_can_be_cancelled_and_is_lost_with_its_callee(nodes: Nodes) -> None:
    callee, caller = await nodes.peer(1), await nodes.peer(0)
    await callee.register("com.nodes.slow")
    await known(caller, "com.nodes.slow")
    for mode, uri in (("kill", "com.nodes.stopped"), ("killnowait", "wamp.error.canceled"), ("skip", "wamp.error.canceled")):
        request = caller.begin("com.nodes.slow")
        invocation = await callee.invocation()
        caller.cancel(request, mode)
        if mode != "skip":
            assert (await callee.expect(INTERRUPT))[0] == invocation.request
        if mode == "kill":
            callee.fail(invocation, "com.nodes.stopped")
        with pytest.raises(Refused) as refused:
            await caller.outcome(request)
        assert refused.value.uri == uri
    late = caller.begin("com.nodes.slow", timeout=1)
    invocation = await callee.invocation()
    with pytest.raises(Refused, match=r"wamp\.error\.timeout"):
        await caller.outcome(late)
    assert (await callee.expect(INTERRUPT))[0] == invocation.request
    lost = caller.begin("com.nodes.slow")
    await callee.invocation()
    callee.drop()
    with pytest.raises(Refused, match=r"wamp\.error\.canceled"):
        await caller.outcome(lost)
    await gone(caller, "com.nodes.slow")


@pytest_twisted.ensureDeferred
async def test_invocation_policies_hold_for_both_nodes(nodes: Nodes) -> None:
    first, second, caller = await nodes.peer(0), await nodes.peer(1), await nodes.peer(0)
    number = await first.register("com.nodes.single")
    with pytest.raises(Refused, match="procedure_already_exists"):
        await second.register("com.nodes.single")
    with pytest.raises(Refused, match="different_invocation_policy"):
        await second.register("com.nodes.single", invoke="last")
    await first.unregister(number)
    assert await freed(second, "com.nodes.single") == number
    for peer in (first, second):
        await peer.register("com.nodes.shared", invoke="roundrobin")
    await known(caller, "com.nodes.shared", 2)
    requests = [caller.begin("com.nodes.shared") for _ in range(4)]
    for peer, name in ((first, "first"), (second, "second")):
        for _ in range(2):
            peer.give(await peer.invocation(), [name])
    assert sorted([(await caller.outcome(request)).args[0] for request in requests]) == [*["first"] * 2, *["second"] * 2]


@pytest_twisted.ensureDeferred
async def test_a_json_agent_is_commanded_and_called_from_the_other_node(nodes: Nodes) -> None:
    agent, commander = await nodes.json(0), await nodes.json(1)
    caller, callee = await nodes.peer(1, realm="nexus", user="admin"), await nodes.peer(0, realm="nexus", user="admin")
    await agent.ask(type="register", commands=["nodes.deploy"], agentId="agent-1")
    await callee.register("nodes.other")
    await known(caller, "nodes.deploy")
    await known(caller, "nodes.other")
    commander.send(type="command", command="nodes.deploy", parameters={"a": 1}, target="agent-1", commandId="n-1")
    command = await agent.expect("command")
    assert (command["parameters"], command["caller"], command["attempt"]) == ({"a": 1}, "admin", 1)
    agent.send(type="command_progress", commandId="n-1", data=50)
    agent.send(type="command_result", commandId="n-1", status="success", data={"done": True})
    assert (await commander.expect("command_progress"))["data"] == 50
    assert (await commander.expect("command_result"))["data"]["result"] == {"done": True}
    request = caller.begin("nexus.agent.agent-1.nodes.deploy", [], {"b": 2})
    command = await agent.expect("command")
    assert command["parameters"] == {"b": 2}
    agent.send(type="command_result", commandId=command["commandId"], status="success", data=3)
    assert (await caller.outcome(request)).args == [3]
    commander.send(type="command", command="nodes.other", parameters={"c": 3})
    invocation = await callee.invocation()
    assert invocation.kwargs == {"c": 3}
    callee.give(invocation, [4])
    assert (await commander.expect("command_result"))["data"]["result"] == 4
    commander.send(type="command", command="nodes.deploy", target="agent-1", commandId="n-2")
    await agent.expect("command")
    await commander.ask(type="cancel", commandId="n-2")
    assert (await agent.expect("command_cancel"))["commandId"] == "n-2"
