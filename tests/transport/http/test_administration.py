"""The HTTP API for administrators over two nodes: who is connected, disconnecting, and revocations."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.bus import open_bus
from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Auth, History, Jwt, Key, Role, Settings
from nexus_tw.model.times import parse_millis
from nexus_tw.store.sqlite.store import SqliteStore
from tests.auth.conftest import logged as logged
from tests.auth.tokens import SECRET, claims, sign
from tests.client import Client, Response, handshake, request
from tests.node import TOKEN, Node, Nodes, clock, until
from tests.redis_server import RedisServer

SETTINGS = Settings(
    roles={"agent": Role(subscribe=("**",), register=("*",), telemetry=("{subject}", "x.*"))},
    auth=Auth(
        keys=tuple(Key(name, "agent", f"sha256:{sha256(f'{name}-token'.encode()).hexdigest()}") for name in ("a", "b")),
        jwt=(Jwt("https://id.example/", "nexus", ("HS256",), secret=SECRET),),
    ),
)


def token(subject: str = "sally", **changes: Any) -> str:
    now = time.time()
    return sign(claims(sub=subject, exp=now + 300, iat=now - 100, **changes))


class Pair:
    """Two nodes that share a bus."""

    def __init__(self, nodes: Nodes, make: Any) -> None:
        self.nodes = nodes
        self.make = make
        self.one: Node
        self.two: Node

    async def start(self) -> None:
        self.one = await self.nodes(SETTINGS, bus=self.make("one"))
        self.two = await self.nodes(SETTINGS, bus=self.make("two"))
        await self.met(self.one, self.two)

    async def met(self, *nodes: Node) -> None:
        fleets: list[Any] = [node.server.realms["nexus"].fleet for node in nodes]
        await until(lambda: all(len(fleet.members) == len(nodes) - 1 for fleet in fleets))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest_twisted.async_yield_fixture(params=["memory", "redis"])
async def pair(request: pytest.FixtureRequest, nodes: Nodes) -> Any:
    broker = MemoryBroker(clock)
    if request.param == "redis":
        request.getfixturevalue("redis").ask("FLUSHALL")

    def make(name: str) -> IBus:
        if request.param == "memory":
            return MemoryBus(broker, name)
        url = request.getfixturevalue("redis").url
        return open_bus(url, clock, Metrics(), name, history=History())

    made = Pair(nodes, make)
    await made.start()
    yield made


async def ask(node: Node, method: str, target: str, body: Any = None, who: str | None = TOKEN) -> Response:
    return await node.http(method, f"/api/v1/{target}", who, None if body is None else json.dumps(body).encode())


async def listed(node: Node, query: str = "") -> list[dict[str, Any]]:
    answer = await ask(node, "GET", f"connections{query}")
    assert answer.status == 200, answer.body
    assert "missing" not in answer.json
    rows: list[dict[str, Any]] = answer.json["connections"]
    return rows


async def closed(client: Client) -> tuple[int, str]:
    return await client.closed()


async def refused(node: Node, who: str) -> tuple[int, str]:
    """How a WebSocket with this token is closed."""
    wire = await node.wire(handshake(token=who))
    client = Client(wire, await wire.response())
    return await client.closed()


# --- connections


@pytest_twisted.ensureDeferred
async def test_the_connections_of_all_nodes_are_listed(pair: Pair) -> None:
    here, there = await pair.one.client(), await pair.two.client("a-token")
    await there.subscribe("task.*", "b")
    there.send(type="register", commands=["deploy"], agentId="a")
    await there.expect("registered")
    stream = await pair.two.wire(
        request("GET", "/api/v1/events?events=x", TOKEN, None, ("Accept: text/event-stream",))
    )
    assert (await stream.response("HEAD")).status == 200
    for node in (pair.one, pair.two):
        rows = {row["clientId"]: row for row in await listed(node)}
        assert len(rows) == 3 and list(rows) == sorted(rows)
        row = rows[there.client_id]
        assert abs(time.time() - _seconds(row.pop("since"))) < 60
        assert row == {
            "clientId": there.client_id,
            "subject": "a",
            "address": "127.0.0.1",
            "protocol": "nexus.v1.json",
            "realm": "nexus",
            "node": "two",
            "agentIds": ["a"],
            "subscriptions": 2,
            "queued": 0,
        }
        assert rows[here.client_id]["node"] == "one"
        assert sorted(row["protocol"] for row in rows.values()) == ["nexus.v1.json", "nexus.v1.json", "nexus.v1.sse"]
    here.leave()
    await here.closed()
    await pair.one.connected(0)
    assert len(await listed(pair.two)) == 2
    there.drop()
    registry: Any = pair.one.server.realms["nexus"]._registry
    await until(lambda: not registry.remote)


def _seconds(text: str) -> float:
    return parse_millis(text, "since") / 1000


@pytest_twisted.ensureDeferred
async def test_the_list_comes_in_pages_that_miss_none_and_repeat_none(pair: Pair) -> None:
    clients = [await node.client() for node in (pair.one, pair.two) for _ in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await ask(pair.one, "GET", f"connections?limit=3{cursor}")
        rows = answer.json["connections"]
        seen += [row["clientId"] for row in rows]
        if answer.json["next"] is None:
            break
        assert len(rows) == 3
        cursor = f"&cursor={answer.json['next']}"
    assert seen == sorted(client.client_id for client in clients)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "member"), [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("cursor=%ff", "cursor")]
)
async def test_a_wrong_parameter_is_named(nodes: Nodes, query: str, member: str) -> None:
    answer = await ask(await nodes(), "GET", f"connections?{query}")
    assert (answer.status, answer.json["code"]) == (400, "invalid_message")
    assert member in answer.json["detail"]


@pytest_twisted.ensureDeferred
async def test_a_connection_is_closed_on_whatever_node(pair: Pair, logged: list[str]) -> None:
    here, there, stays = await pair.one.client(), await pair.two.client("a-token"), await pair.two.client("b-token")
    for client in (here, there):
        answer = await ask(pair.one, "DELETE", f"connections/{client.client_id}")
        assert (answer.status, answer.json) == (200, {"clientId": client.client_id})
        assert await closed(client) == (4502, "Disconnected by administrator")
        assert client.left[-1] | {"delay": 0} == {
            "type": "disconnect",
            "code": 4502,
            "reason": "Disconnected by administrator",
            "reconnect": False,
            "delay": 0,
        }
    again = await ask(pair.one, "DELETE", f"connections/{there.client_id}")
    assert (again.status, again.json["code"]) == (404, "not_found")
    assert [row["clientId"] for row in await listed(pair.one)] == [stays.client_id]
    assert any(f"admin disconnected {there.client_id}" in line for line in logged)
    returned = await pair.two.client("a-token")
    assert returned.client_id != there.client_id, "which may come back"


@pytest_twisted.ensureDeferred
async def test_all_of_it_is_for_administrators(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    client = await node.client()
    for method, target, body in (
        ("GET", "connections", None),
        ("DELETE", f"connections/{client.client_id}", None),
        ("GET", "revoke", None),
        ("POST", "revoke", {"subject": "b"}),
        ("DELETE", "revoke?subject=b", None),
    ):
        for who, status in ((None, 401), ("a-token", 403)):
            assert (await ask(node, method, target, body, who)).status == status
    assert (await client.ask(type="ping"))["type"] == "pong"
    assert (await ask(node, "GET", "revoke")).json == {"revocations": [], "next": None}


@pytest_twisted.ensureDeferred
async def test_a_node_that_does_not_answer_is_named(nodes: Nodes) -> None:
    broker = MemoryBroker(clock)
    one, two = await nodes(bus=MemoryBus(broker, "one")), await nodes(bus=MemoryBus(broker, "two"))
    fleet: Any = one.server.realms["nexus"].fleet
    await until(lambda: "two" in fleet.members)
    client, there = await one.client(), await two.client()
    put = fleet._put
    fleet._put = lambda node, letter: None if letter.part == "connections" else put(node, letter)
    answer = await ask(one, "GET", "connections")
    assert answer.json["missing"] == ["two"]
    assert [row["clientId"] for row in answer.json["connections"]] == [client.client_id]
    answer = await ask(one, "DELETE", f"connections/{there.client_id}")
    assert (answer.status, answer.json["code"]) == (503, "bus_unavailable")


# --- revocations


@pytest_twisted.ensureDeferred
async def test_a_subject_is_refused_everywhere_until_that_is_lifted(pair: Pair, logged: list[str]) -> None:
    clients = [await node.client("a-token") for node in (pair.one, pair.two)]
    other = await pair.two.client("b-token")
    answer = await ask(pair.one, "POST", "revoke", {"subject": "a"})
    assert (answer.status, answer.json) == (200, {"closed": 2})
    for client in clients:
        assert await closed(client) == (4501, "Revoked")
        assert (client.left[-1]["code"], client.left[-1]["reconnect"]) == (4501, False)
    for node in (pair.one, pair.two):
        assert await refused(node, "a-token") == (1008, "Unauthorized")
        assert (await node.http("POST", "/api/v1/events", "a-token", b"{}")).status == 401
        assert node.metrics.connections_closed[4501] == 1
    assert (await other.ask(type="ping"))["type"] == "pong"
    (told,) = (await ask(pair.two, "GET", "revoke")).json["revocations"]
    assert abs(time.time() - _seconds(told.pop("revokedAt"))) < 60
    assert told == {"subject": "a", "revokedBy": "admin"}
    assert (await ask(pair.two, "DELETE", "revoke?subject=a")).status == 204
    for node in (pair.one, pair.two):
        assert (await (await node.client("a-token")).ask(type="ping"))["type"] == "pong"
    assert (await ask(pair.two, "DELETE", "revoke?subject=a")).status == 404
    assert any("admin revoked subject a, which closed 2" in line for line in logged)
    assert any("admin lifted the revocation of subject a" in line for line in logged)


@pytest_twisted.ensureDeferred
async def test_a_token_is_refused_everywhere_by_its_id_and_others_of_the_subject_are_not(pair: Pair) -> None:
    stolen, own = token(jti="t-1"), token(jti="t-2")
    victim, stays = await pair.two.client(stolen), await pair.two.client(own)
    stream = await pair.two.wire(request("GET", "/api/v1/events?events=x", stolen, None, ("Accept: text/event-stream",)))
    assert (await stream.response("HEAD")).status == 200
    assert (await ask(pair.one, "POST", "revoke", {"jti": "t-1"})).json == {"closed": 2}
    assert await closed(victim) == (4501, "Revoked")
    assert b'"code":4501' in await stream.rest()
    for node in (pair.one, pair.two):
        assert await refused(node, stolen) == (1008, "Unauthorized")
        assert (await node.http("GET", "/api/v1/history?eventType=x", stolen)).status == 401
        assert (await (await node.client(own)).ask(type="ping"))["type"] == "pong"
    assert (await stays.ask(type="ping"))["type"] == "pong"


@pytest_twisted.ensureDeferred
async def test_tokens_issued_before_a_time_are_refused_and_later_ones_and_keys_are_not(pair: Pair) -> None:
    now = time.time()
    old, new = token(), sign(claims(sub="sally", exp=now + 300, iat=now - 1))
    clients = [await pair.two.client(who) for who in (old, new, "a-token")]
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 50))
    assert (await ask(pair.one, "POST", "revoke", {"issuedBefore": before})).json == {"closed": 1}
    assert await closed(clients[0]) == (4501, "Revoked")
    for client in clients[1:]:
        assert (await client.ask(type="ping"))["type"] == "pong"
    assert await refused(pair.one, old) == (1008, "Unauthorized")
    assert (await ask(pair.two, "DELETE", "revoke?issuedBefore=2020-01-01")).status == 404
    assert (await ask(pair.two, "DELETE", f"revoke?issuedBefore={before}")).status == 204
    assert (await (await pair.one.client(old)).ask(type="ping"))["type"] == "pong"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pair", ["redis"], indirect=True)
async def test_a_node_that_starts_later_refuses_what_was_revoked(pair: Pair) -> None:
    assert (await ask(pair.one, "POST", "revoke", {"subject": "a"})).status == 200
    late = await pair.nodes(SETTINGS, bus=pair.make("late"))
    assert await refused(late, "a-token") == (1008, "Unauthorized"), "from its first client on"


@pytest_twisted.ensureDeferred
async def test_where_there_is_no_redis_the_store_keeps_it_over_a_restart(nodes: Nodes, tmp_path: Path) -> None:
    first = await nodes(SETTINGS, store=SqliteStore(str(tmp_path / "kept.db"), clock))
    assert (await ask(first, "POST", "revoke", {"subject": "a"})).json == {"closed": 0}
    again = await nodes(SETTINGS, store=SqliteStore(str(tmp_path / "kept.db"), clock))
    assert await refused(again, "a-token") == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pair", ["redis"], indirect=True)
async def test_without_redis_nothing_is_revoked_and_what_was_stays_so(pair: Pair, redis: RedisServer) -> None:
    assert (await ask(pair.one, "POST", "revoke", {"subject": "a"})).status == 200
    client = await pair.one.client("b-token")
    redis.stop()
    await until(lambda: not pair.one.server.realms["nexus"].bus.available)
    answer = await ask(pair.one, "POST", "revoke", {"subject": "b"})
    assert (answer.status, answer.json["code"], answer.json["retryable"]) == (503, "bus_unavailable", True)
    assert (await client.ask(type="ping"))["type"] == "pong"
    assert await refused(pair.one, "a-token") == (1008, "Unauthorized")
    redis.start()  # without its data
    buses = [node.server.realms["nexus"].bus for node in (pair.one, pair.two)]
    await until(lambda: all(bus.available for bus in buses))
    await until(lambda: redis.ask("HLEN", "nexus:revocations") == 1)
    assert await refused(pair.two, "a-token") == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "exactly one of subject, jti, issuedBefore"),
        ({"subject": "a", "jti": "b"}, "exactly one"),
        ({"subject": ""}, "subject"),
        ({"subject": "a\n"}, "subject"),
        ({"subject": 5}, "subject"),
        ({"subject": "admin"}, "subject: is your own"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 256}, "jti"),
        ({"issuedBefore": "yesterday"}, "issuedBefore"),
        ({"issuedBefore": 1700000000}, "issuedBefore"),
        ({"issuedBefore": "2999-01-01"}, "issuedBefore: is in the future"),
        ({"subject": "a", "until": "2020-01-01"}, "until: is in the past"),
        ({"subject": "a", "until": 5}, "until"),
    ],
)
async def test_a_wrong_request_names_the_member_and_revokes_nothing(nodes: Nodes, body: Any, member: str) -> None:
    node = await nodes(SETTINGS)
    answer = await ask(node, "POST", "revoke", body)
    assert (answer.status, answer.json["code"]) == (400, "invalid_message")
    assert member in answer.json["detail"]
    assert (await ask(node, "GET", "revoke")).json["revocations"] == []
    assert (await ask(node, "DELETE", "revoke")).status == 400


@pytest_twisted.ensureDeferred
async def test_a_revocation_may_have_an_end(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    end = time.strftime("%Y-%m-%dT%H:%M:%S.250Z", time.gmtime(time.time() + 3600))
    assert (await ask(node, "POST", "revoke", {"subject": "a", "until": end})).status == 200
    (told,) = (await ask(node, "GET", "revoke")).json["revocations"]
    assert told["until"] == end
    exposition = (await node.http("GET", "/metrics")).body.decode()
    assert "nexus_revocations 1.0" in exposition
