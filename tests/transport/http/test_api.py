"""The HTTP API over real sockets: publishing, idempotency, broadcasts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits, Role
from nexus_tw.runtime.spread import STEPS
from nexus_tw.transport.http.answers import Answer
from nexus_tw.transport.http.api import STEP, Api, NewEvent
from nexus_tw.transport.http.idempotency import KEY_AGE, Idempotency
from tests.client import Client, Response, handshake, request
from tests.node import TOKEN, Node, Nodes, clock, limited, with_roles
from tests.recording import principal
from tests.turns import Turns


async def publish(node: Node, events: Any, *headers: str, token: str | None = TOKEN) -> Response:
    return await node.http("POST", "/api/v1/events", token, json.dumps(events).encode(), headers)


def event(data: Any, event_type: str = "a.b") -> dict[str, Any]:
    return {"eventType": event_type, "data": data}


# --- publish


@pytest_twisted.ensureDeferred
async def test_one_event_is_published_and_answered_with_type_and_time(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.b")
    response = await publish(node, event({"x": [1, None]}))
    assert response.status == 200
    (published,) = response.json["published"]
    assert published.keys() == {"eventType", "timestamp", "position"}
    assert published["eventType"] == "a.b"
    await client.expect("event", eventType="a.b", data={"x": [1, None]}, position=published["position"])


@pytest_twisted.ensureDeferred
async def test_a_list_of_a_thousand_is_published_in_order_and_one_more_is_too_many(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.*")
    events = [event(number, f"a.{number % 7}") for number in range(1000)]
    response = await publish(node, events)
    assert [each["eventType"] for each in response.json["published"]] == [each["eventType"] for each in events]
    assert [(await client.expect("event"))["data"] for _ in range(1000)] == list(range(1000))
    response = await publish(node, [*events, event(1000)])
    assert (response.status, response.json["code"]) == (422, "limit_exceeded")
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_an_empty_list_publishes_nothing(nodes: Nodes) -> None:
    response = await publish(await nodes(), [])
    assert (response.status, response.json) == (200, {"published": []})


@pytest_twisted.ensureDeferred
async def test_where_one_event_of_a_list_may_not_be_published_none_is(nodes: Nodes) -> None:
    node = await nodes(with_roles(agent=Role(publish=("a.*",), subscribe=("**",))))
    client = await node.client("agent-token")
    await client.subscribe("**")
    for wrong, status, code in (
        (event(1, "b.c"), 403, "forbidden"),
        (event(1, "nexus.x"), 403, "forbidden"),
        (event(1, "wamp.x"), 403, "forbidden"),
        (event(1, "a..b"), 400, "invalid_message"),
        (event(1, "a.*"), 400, "invalid_message"),
        ({"eventType": "a.b"}, 400, "invalid_message"),
        ({"data": 1}, 400, "invalid_message"),
        ("a.b", 400, "invalid_message"),
    ):
        response = await publish(node, [event(0), wrong], token="agent-token")
        assert (response.status, response.json["code"]) == (status, code), wrong
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"eventType": "a.b", "data": ' + b"[" * 100000, b'{"eventType": "a.b", "data": 1} x'],
)
async def test_what_is_no_json_is_called_so(nodes: Nodes, body: bytes) -> None:
    response = await (await nodes()).http("POST", "/api/v1/events", TOKEN, body)
    assert (response.status, response.json["code"]) == (400, "invalid_json")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("target", "body", "detail"),
    [
        ("events", {"data": 1}, "eventType: is missing"),
        ("events", {"eventType": 5, "data": 1}, "eventType: expected str, got int"),
        ("events", {"eventType": "a..b", "data": 1}, "eventType: "),
        ("events", 5, "body: expected object | array, got int"),
        ("events", [event(0), {"eventType": "a.b"}], "[1].data: is missing"),
        ("events", [event(0), event(1), event(1, "a..b")], "[2].eventType: "),
        ("events", [event(0), event(json.loads("[" * 40 + "]" * 40))], "[1].data: nested deeper than 32"),
        ("broadcast", {}, "data: is missing"),
        ("broadcast", [], "body: expected object, got array"),
    ],
)
async def test_http_errors_name_the_member_and_why(nodes: Nodes, target: str, body: Any, detail: str) -> None:
    response = await (await nodes()).http("POST", f"/api/v1/{target}", TOKEN, json.dumps(body).encode())
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert response.json["detail"].startswith(f"Invalid message format: {detail}")


@pytest_twisted.ensureDeferred
async def test_http_errors_name_a_header_and_why(nodes: Nodes) -> None:
    response = await publish(await nodes(), event(1), f"Idempotency-Key: {'x' * 256}")
    assert response.json["detail"] == "Invalid message format: Idempotency-Key: must have 1 to 255 characters"


@pytest_twisted.ensureDeferred
async def test_data_is_bounded_in_size_and_depth_like_that_of_a_message(nodes: Nodes) -> None:
    node = await nodes(limited(message=1000, depth=3))
    assert (await publish(node, event("x" * 998))).status == 200
    response = await publish(node, event("x" * 999))
    assert (response.status, response.json["code"]) == (413, "too_large")
    assert (await publish(node, event([[[1]]]))).status == 200
    response = await publish(node, event([[[[1]]]]))
    assert (response.status, response.json["code"]) == (400, "invalid_message")


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_publishing_fails_and_can_be_tried_again(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    node = await nodes(bus=bus)
    bus.available = False
    for target, body in (("/api/v1/events", [event(1), event(2)]), ("/api/v1/broadcast", {"data": 1})):
        response = await node.http("POST", target, TOKEN, json.dumps(body).encode(), ["Idempotency-Key: k"])
        assert (response.status, response.json["code"], response.json["retryable"]) == (503, "bus_unavailable", True)
    bus.available = True
    assert (await publish(node, [event(1), event(2)], "Idempotency-Key: k")).status == 200


# --- Idempotency-Key


@pytest_twisted.ensureDeferred
async def test_the_same_key_publishes_once_and_is_answered_alike(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.b")
    first = await publish(node, event(1), "Idempotency-Key: one")
    again = await publish(node, event(1), "Idempotency-Key: one")
    other = await publish(node, event(1), "Idempotency-Key: two")
    assert first.body == again.body
    assert other.status == 200
    assert len(await client.heard()) == 2


@pytest_twisted.ensureDeferred
async def test_a_key_belongs_to_its_subject_and_to_one_body(nodes: Nodes) -> None:
    node = await nodes(with_roles(one=Role(publish=("**",)), two=Role(publish=("**",))))
    key = "Idempotency-Key: k"
    assert (await publish(node, event(1), key, token="one-token")).status == 200
    response = await publish(node, event(2), key, token="one-token")
    assert (response.status, response.json["code"]) == (422, "limit_exceeded")
    assert (await publish(node, event(2), key, token="two-token")).status == 200
    assert node.metrics.events_published == 2


@pytest_twisted.ensureDeferred
async def test_a_refused_request_leaves_its_key_unused(nodes: Nodes) -> None:
    node = await nodes()
    assert (await publish(node, {"eventType": "a.b"}, "Idempotency-Key: k")).status == 400
    assert (await publish(node, event(1), "Idempotency-Key: k")).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_1_to_255_characters(nodes: Nodes, key: str) -> None:
    response = await publish(await nodes(), event(1), f"Idempotency-Key: {key}")
    assert (response.status, response.json["code"]) == (400, "invalid_message")


def answered(deferred: Deferred[Answer]) -> Answer:
    results: list[Answer] = []
    deferred.addCallback(results.append)
    (result,) = results
    return result


def test_a_request_with_a_key_that_is_under_way_is_waited_for() -> None:
    """And where the first one fails, the next is tried."""
    idempotency = Idempotency(Clock().seconds, Metrics(), Limits(share=1))
    acts: list[Deferred[Answer]] = []

    def act() -> Deferred[Answer]:
        acts.append(Deferred())
        return acts[-1]

    first, second, third = (ensureDeferred(idempotency.once(principal("s"), "k", b"body", act)) for _ in range(3))
    assert len(acts) == 1
    failures: list[Any] = []
    first.addErrback(failures.append)
    acts[0].errback(NexusError("bus_unavailable", "away"))
    assert failures and len(acts) == 2
    acts[1].callback(Answer(200, b"done"))
    assert answered(second) == answered(third) == Answer(200, b"done")


def test_keys_are_forgotten_after_a_day_and_when_they_are_too_many_or_too_large() -> None:
    clock = Clock()
    idempotency = Idempotency(clock.seconds, Metrics(), Limits(share=1), most=3, most_bytes=100)
    acted: list[str] = []

    def once(key: str, body: bytes = b"") -> None:
        async def act() -> Answer:
            acted.append(key)
            return Answer(200, body)

        answered(ensureDeferred(idempotency.once(principal("s"), key, b"", act)))

    once("a")
    clock.advance(KEY_AGE - 1)
    once("a")
    assert acted == ["a"]
    clock.advance(1)
    once("a")
    assert acted == ["a", "a"]
    for key in "bcd":
        once(key)
    once("a")
    assert "".join(acted) == "aabcda"
    once("e", b"x" * 101)
    once("f")
    once("e")
    assert "".join(acted) == "aabcdaefe"


# --- broadcast


async def broadcast(node: Node, body: Any, token: str | None = TOKEN) -> Response:
    return await node.http("POST", "/api/v1/broadcast", token, json.dumps(body).encode())


@pytest_twisted.ensureDeferred
async def test_a_broadcast_reaches_everybody_on_every_node_and_is_counted(nodes: Nodes) -> None:
    broker = MemoryBroker(clock)
    here, there = [await nodes(bus=MemoryBus(broker, name)) for name in ("here", "there")]
    clients = [await here.client(), await here.client(), await there.client()]
    response = await broadcast(here, {"data": {"text": "hello"}, "unknown": 1})
    assert (response.status, response.json) == (200, {"recipients": 3})
    for client in clients:
        message = await client.expect("broadcast", data={"text": "hello"})
        assert message.keys() == {"type", "data", "timestamp"}


@pytest_twisted.ensureDeferred
async def test_a_broadcast_with_nobody_there_reaches_nobody(nodes: Nodes) -> None:
    assert (await broadcast(await nodes(), {"data": None})).json == {"recipients": 0}


@pytest_twisted.ensureDeferred
async def test_who_is_not_authorized_gets_no_broadcast(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token="wrong"))
    stranger = Client(wire, await wire.response())
    assert (await broadcast(node, {"data": 1})).json == {"recipients": 0}
    assert await stranger.closed() == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{}", 400, "invalid_message"),
        (b"[]", 400, "invalid_message"),
        (b"nonsense", 400, "invalid_json"),
        (b'{"data": "' + b"x" * 1000 + b'"}', 413, "too_large"),
        (b'{"data": [[[[[[[[[[[]]]]]]]]]]]}', 400, "invalid_message"),
    ],
)
async def test_a_wrong_broadcast_reaches_nobody(nodes: Nodes, body: bytes, status: int, code: str) -> None:
    node = await nodes(limited(message=1000, depth=10))
    client = await node.client()
    response = await node.http("POST", "/api/v1/broadcast", TOKEN, body)
    assert (response.status, response.json["code"]) == (status, code)
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_requests_after_each_other_on_one_connection_publish_in_order(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.b")
    bodies = [json.dumps(event(number)).encode() for number in range(20)]
    wire = await node.wire(b"".join(request("POST", "/api/v1/events", TOKEN, body) for body in bodies))
    assert [(await wire.response()).status for _ in bodies] == [200] * 20
    assert [(await client.expect("event"))["data"] for _ in bodies] == list(range(20))


def test_a_subject_with_too_many_idempotency_keys_forgets_its_own_and_nobody_elses() -> None:
    idempotency = Idempotency(Clock().seconds, Metrics(), Limits(share=0.25), most=40, most_bytes=4000)
    acted: list[str] = []

    def once(subject: str, key: str) -> None:
        async def act() -> Answer:
            acted.append(subject)
            return Answer(200, b"x" * 100)

        answered(ensureDeferred(idempotency.once(principal(subject), key, b"", act)))

    once("other", "kept")
    for number in range(100):
        once("greedy", str(number))
    assert len(idempotency) == 11
    once("other", "kept")
    assert acted.count("other") == 1


# --- many events in one request


class Recorder:
    """In the place of a realm: what is checked and what is published, each in its order."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.published: list[str] = []

    def check_publish(self, _principal: object, event_type: str, _member: str) -> None:
        self.checked.append(event_type)
        if event_type == "refused":
            raise NexusError("forbidden", "Not allowed")

    def publish(self, _principal: object, event_type: str, _payload: object, ok: Any, _fail: Any) -> None:
        self.published.append(event_type)
        ok(None)


class Posts:
    """Requests to publish, on a clock that tells turns apart."""

    def __init__(self) -> None:
        self.clock = Turns()
        self.realm = Recorder()
        verbs: Any = self.realm
        self.api = Api(verbs, Limits(), self.clock, Metrics())

    def post(self, names: list[str], size: int = 1) -> Deferred[Answer]:
        class Decoded:
            async def decode(self, _type: object) -> list[NewEvent]:
                return [NewEvent(name, msgspec.Raw(json.dumps("x" * size).encode())) for name in names]

        return ensureDeferred(self.api._publish_once(principal(), Decoded()))  # type: ignore[arg-type]

    def rest(self) -> int:
        """Let turns pass until nothing is left to be done, and return how many. In none too much is."""
        for count in range(10_000):
            if not len(self.api._spread):
                return count
            before = self.done
            self.clock.next()
            assert self.done - before <= STEPS
        raise AssertionError("it never ends")

    @property
    def done(self) -> int:
        return len(self.realm.checked) + len(self.realm.published)


def test_the_events_of_many_requests_are_handled_a_few_in_each_turn_and_published_in_their_order() -> None:
    posts = Posts()
    names = [[f"{place}.{number}" for number in range(200)] for place in range(4)]
    answers = [posts.post(each) for each in names]
    assert posts.done <= STEPS
    one = posts.post(["one"])
    posts.clock.next()
    posts.clock.next()
    assert "one" in posts.realm.published, "one event does not wait for all the others"
    assert posts.rest() >= 4 * 2 * 200 // STEPS - 3
    for place, answer in enumerate(answers):
        answered: Any = answer.result
        published = [each["eventType"] for each in json.loads(answered.body)["published"]]
        assert published == names[place]
        assert [name for name in posts.realm.published if name.startswith(f"{place}.")] == names[place]
    assert one.called


def test_nothing_is_published_of_a_request_one_of_whose_events_is_refused() -> None:
    posts = Posts()
    answer = posts.post([*(f"a{number}" for number in range(3 * STEPS)), "refused"])
    failed: list[Any] = []
    answer.addErrback(failed.append)
    posts.rest()
    assert failed[0].value.code == "forbidden" and posts.realm.published == []


def test_large_events_count_as_more() -> None:
    posts = Posts()
    answer = posts.post([f"{number}" for number in range(2 * STEPS)], 8 * STEP)
    assert posts.done <= STEPS // 8
    posts.rest()
    assert answer.called and len(posts.realm.published) == 2 * STEPS
