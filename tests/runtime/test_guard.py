"""One that raises costs its neighbours nothing, wherever a list of peers, waiters or callbacks is walked."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.interfaces.realm import AuthorizeRequest, SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import INTERNAL, SHUTTING_DOWN, NexusError
from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.notices import Notice
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits, Role
from nexus_tw.pubsub.cluster import Nodes as Between
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.hub import Hub
from nexus_tw.realm.authorization import Authorization
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.connections import Connections
from tests.commands.test_invocations import World as Executing
from tests.fakes import HandBus
from tests.node import Nodes
from tests.node import nodes as nodes
from tests.pubsub.world import World
from tests.recording import RecordingEncoding, RecordingPeer


class Fault(Exception):
    pass


def fails(*_arguments: Any) -> Any:
    raise Fault("a fault of ours")


@pytest.fixture
def logged() -> Any:
    """The exceptions logged during the test."""
    failures: list[Any] = []

    @provider(ILogObserver)
    def observer(event: dict[str, Any]) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"].type)

    globalLogPublisher.addObserver(observer)
    yield failures
    globalLogPublisher.removeObserver(observer)


def test_a_guard_calls_logs_what_is_raised_and_says_whether_it_went_well(logged: list[Any]) -> None:
    heard: list[Any] = []
    guarded = Guard(__name__, "It failed")
    assert guarded(heard.append, 1) and not guarded(fails, 2)
    assert (heard, logged) == ([1], [Fault])


@pytest_twisted.ensureDeferred
async def test_one_peer_that_raises_during_a_fan_out_is_closed_and_leaves_its_neighbours_everything(
    nodes: Nodes, logged: list[Any]
) -> None:
    node = await nodes()
    clients = [await node.client() for _ in range(3)]
    for client in clients:
        await client.ask(type="subscribe", events=["a"])
    _, broken, _ = list(node.server.realms["nexus"]._roster)
    broken.deliver = fails
    publisher = await node.client()
    for number in range(3):
        publisher.send(type="publish", eventType="a", data=number)
    for client in (clients[0], clients[2]):
        assert [(await client.expect("event"))["data"] for _ in range(3)] == [0, 1, 2]
    assert (await clients[1].closed())[0] == INTERNAL.code, "what it lost is told by the close"
    assert set(logged) == {Fault}


class Fragile(RecordingEncoding):
    def event(self, _event: Event, _subscription: Subscription) -> bytes:
        raise Fault

    def notice(self, _notice: Notice) -> bytes:
        raise Fault


def test_an_encoding_that_raises_keeps_an_event_from_its_own_peers_only(logged: list[Any]) -> None:
    clock = Clock()
    hub = Hub(Turn(clock).add, Metrics(), clock.seconds)
    fragile, healthy = RecordingPeer(encoding=Fragile("fragile")), RecordingPeer()
    for peer in (fragile, healthy):
        hub.subscribe(Subscriber(peer), [(Pattern.parse("a"), None)])
    arrivals = World().arrivals
    arrivals._hub = hub
    arrivals.event("a", b"1", b"", None)
    arrivals.gap("a")
    clock.advance(0)
    assert b"".join(healthy.delivered).startswith(b"a 1\n{") and fragile.delivered == []
    assert logged == [Fault, Fault, Fault]


def test_those_whose_event_could_not_be_encoded_are_told_of_the_gap() -> None:
    class Half(RecordingEncoding):
        def event(self, _event: Event, _subscription: Subscription) -> bytes:
            raise Fault

    clock = Clock()
    hub = Hub(Turn(clock).add, Metrics(), clock.seconds)
    peer = RecordingPeer(encoding=Half("half"))
    hub.subscribe(Subscriber(peer), [(Pattern.parse("a"), None)])
    hub.event(Event("a", Payload.of_value(b"1")))
    clock.advance(0)
    (told,) = peer.delivered
    assert msgspec.json.decode(told) == {"type": "continuity", "eventType": "a", "recovered": False}


def test_a_subscriber_that_raises_when_its_interest_stands_on_the_bus_holds_up_no_other(logged: list[Any]) -> None:
    world = World()
    world.bus.confirms = False
    world.subscriptions.subscribe(
        one := RecordingPeer(), one.principal, SubscribeRequest(["a"]), SubscribeReply(fails, fails)
    )
    world.subscribe(RecordingPeer(), "a", name="other")
    world.bus.confirm()
    assert (world.said, logged) == (["other"], [Fault])


@pytest.mark.parametrize("yes", [True, False])
def test_a_waiter_of_an_authorizer_that_raises_keeps_the_answer_from_no_other(yes: bool, logged: list[Any]) -> None:
    answer: Deferred[Any] = Deferred()
    authorization = Authorization("realm1", lambda _question: answer, Clock(), Limits(authorizer=5.0), Metrics())
    heard: list[Any] = []
    who = Principal("ann", "user", Role())
    for allowed, denied in ((fails, fails), (lambda: heard.append("yes"), lambda _error: heard.append("no"))):
        authorization.ask(who, AuthorizeRequest("publish", "a"), allowed, denied)
    answer.callback(yes)
    assert (heard, logged) == (["yes" if yes else "no"], [Fault])


def test_a_waiter_of_an_authorizer_that_fails_and_raises_keeps_the_failure_from_no_other(logged: list[Any]) -> None:
    answer: Deferred[Any] = Deferred()
    authorization = Authorization("realm1", lambda _question: answer, Clock(), Limits(authorizer=5.0), Metrics())
    heard: list[NexusError] = []
    for denied in (fails, heard.append):
        authorization.ask(Principal("ann", "user", Role()), AuthorizeRequest("publish", "a"), fails, denied)
    answer.errback(RuntimeError("away"))
    assert [error.code for error in heard] == ["internal"] and logged[-1] is Fault


def test_a_caller_that_raises_when_its_executor_is_lost_keeps_it_from_no_other_caller(logged: list[Any]) -> None:
    executing = Executing()
    peer = RecordingPeer()
    _, half = executing.start(peer)
    half.lost = fails  # type: ignore[method-assign]
    _, other = executing.start(peer)
    list(executing.table.lost(peer))
    assert (other.heard, logged) == (["lost"], [Fault])


def test_a_client_that_raises_at_a_broadcast_keeps_it_from_no_other(logged: list[Any]) -> None:
    broken, healthy = RecordingPeer(), RecordingPeer()
    broken.deliver = fails
    world = World()
    between = Between(HandBus(), Clock(), lambda: [broken, healthy], world.arrivals, world.cursors.gap)
    between.message(msgspec.json.encode({"type": "broadcast", "origin": "n", "number": 1, "data": {}, "timestamp": "t"}))
    assert len(healthy.delivered) == 1 and logged == [Fault]


@pytest_twisted.ensureDeferred
async def test_a_session_is_forgotten_everywhere_although_one_table_raises(nodes: Nodes, logged: list[Any]) -> None:
    node = await nodes()
    watcher, client = await node.client(), await node.client()
    await watcher.ask(type="subscribe", events=["agent.status"])
    await client.ask(type="register", commands=["x"], agentId="a-1")
    await watcher.expect("event")
    subscriptions: Any = node.server.realms["nexus"]._subscriptions
    gone = subscriptions.gone

    def fragile(peer: Any) -> None:
        gone(peer)
        raise Fault

    subscriptions.gone = fragile
    client.drop()
    assert (await watcher.expect("event"))["data"]["status"] == "offline"
    subscriptions.gone = gone
    assert logged == [Fault]


class _Connection:
    identity = address = ""
    audience = None

    def __init__(self, connections: Connections, breaks: bool) -> None:
        self.connections = connections
        self.breaks = breaks
        self.closed: list[Any] = []

    def close(self, close: Any) -> None:
        self.connections.remove(self)
        self.closed.append(close)
        if self.breaks:
            raise Fault

    drop = fails


def test_a_connection_that_raises_when_it_is_let_go_does_not_end_the_drain(logged: list[Any]) -> None:
    connections = Connections(Clock(), Limits(), 10, random.Random(1))

    async def settled() -> None:
        pass

    fleet = [_Connection(connections, breaks) for breaks in (True, False, True)]
    for connection in fleet:
        connections.add(connection)
    drained = Deferred.fromCoroutine(connections.drain(1, settled))
    assert drained.called and [connection.closed for connection in fleet] == [[SHUTTING_DOWN]] * 3
    assert logged == [Fault, Fault]
