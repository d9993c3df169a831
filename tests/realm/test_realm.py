from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.peers import Peer, Registration
from nexus_tw.interfaces.realm import AuthorizeRequest, CallRequest, SubscribeReply, SubscribeRequest, Verbs
from nexus_tw.model import payloads
from nexus_tw.model.commands import CommandRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import ADMIN, EVERYTHING, Principal
from nexus_tw.model.serializers import JSON
from nexus_tw.model.settings import History, Limits, Role
from nexus_tw.model.settings import Realm as Rules
from nexus_tw.protocols.native.messages import CommandCancel
from nexus_tw.realm.realm import Realm
from nexus_tw.runtime.turn import Turn
from tests.recording import RecordingCallReply, RecordingPeer, RecordingReply, principal


class World:
    """Realms on buses of their own, as a server has them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.said: list[Any] = []

    def realm(self, name: str = "one", limits: Limits | None = None, **rules: Any) -> Realm:
        realm = Realm(
            name,
            Rules(**rules),
            MemoryBus(MemoryBroker(self.clock), "node"),
            Turn(self.clock).add,
            self.clock,
            Random(1),
            limits or Limits(),
            Metrics(),
            {},
            tuple,
            History(),
        )
        bus: Any = realm.bus
        bus.start(realm.listener)
        return realm

    def join(self, realm: Realm, who: Principal | None = None) -> RecordingPeer:
        peer = RecordingPeer(who=who)
        realm.join(peer)
        return peer

    def subscribe(self, realm: Realm, peer: Peer, *events: str) -> None:
        realm.subscribe(peer, peer.principal, SubscribeRequest(events), SubscribeReply(lambda _placed: None, self.failed))

    def publish(self, realm: Realm, event_type: str, data: bytes = b"1") -> None:
        realm.publish(principal(), event_type, Payload.of_value(data), lambda _position: None, self.failed)

    def call(self, realm: Realm, peer: Peer, procedure: str) -> RecordingCallReply:
        reply = RecordingCallReply()
        request = CallRequest(procedure, Payload.of_value(b"{}"), 0, False, False, False, None)
        realm.call(peer, peer.principal, request, reply)
        return reply

    def register(self, realm: Realm, peer: Peer, commands: list[str], agent_id: str | None) -> None:
        realm.register(peer, commands, agent_id, lambda: None, self.raising)

    def procedure(self, realm: Realm, peer: Peer, pattern: Pattern) -> Registration:
        made: list[Registration] = []
        realm.register_procedure(peer, peer.principal, pattern, "single", None, made.append, self.raising)
        return made[0]

    def raising(self, error: NexusError) -> None:
        raise error

    def authorize(self, realm: Realm, peer: Peer, uri: str) -> None:
        request = AuthorizeRequest("publish", uri)
        realm.authorize(peer, request, self.said.append, lambda error: self.said.append(error.code))

    def never(self, _position: object = None) -> None:
        pytest.fail("it was allowed")

    def failed(self, error: NexusError) -> None:
        pytest.fail(str(error))

    def run(self) -> None:
        for _ in range(5):
            self.clock.advance(0)


@pytest.fixture
def world() -> World:
    return World()


def test_what_happens_in_one_realm_is_not_seen_in_another(world: World) -> None:
    one, other = world.realm("one"), world.realm("other")
    here, there = world.join(one), world.join(other)
    for realm, peer in ((one, here), (other, there)):
        world.subscribe(realm, peer, "**", "wamp.registration.**")
    world.register(one, here, ["deploy"], "a")
    world.publish(one, "a.b")
    world.run()
    told = b"".join(here.delivered)
    assert b"a.b 1" in told and b"wamp.registration.on_create" in told and b"agent.status" in told
    assert there.delivered == []
    with pytest.raises(NexusError, match="nobody executes deploy"):
        other.command(there, CommandRequest(command="deploy"), RecordingReply())
    with pytest.raises(NexusError, match="nobody executes deploy"):
        world.call(other, there, "deploy")
    assert world.call(other, there, "wamp.session.count").told == [("result", b'{"args":[1],"kwargs":{}}')]


def test_of_a_session_that_is_gone_nothing_is_left_and_it_goes_once(world: World) -> None:
    realm = world.realm()
    watcher, caller, peer = (world.join(realm) for _ in range(3))
    world.subscribe(realm, watcher, "wamp.session.on_leave")
    world.subscribe(realm, peer, "a", "b.*")
    world.register(realm, peer, ["deploy"], "a")
    world.procedure(realm, peer, Pattern.prefixed("x."))
    command, call = RecordingReply(), world.call(realm, caller, "x.y")
    realm.command(caller, CommandRequest(command="deploy"), command)
    assert len(peer.invocations) == 2
    realm.gone(peer)
    realm.gone(peer)
    assert command.code == "agent_lost" and call.told == [("error", "agent_lost")]
    assert peer.got(CommandCancel) == [], "nothing is said to those who are gone"
    world.run()
    assert b"".join(watcher.delivered).count(b"on_leave") == 1
    inside: Any = realm
    assert peer not in inside._roster._peers.values() and peer not in inside._subscriptions._clients
    assert not list(inside._registry) and not inside._presence.agents() and not inside._invocations._hands
    assert inside._subscriptions._interests.keys() == {"wamp.session.on_leave"}


def test_one_who_never_joined_may_go_and_nobody_is_told(world: World) -> None:
    realm = world.realm()
    watcher = world.join(realm)
    world.subscribe(realm, watcher, "wamp.session.*")
    realm.gone(RecordingPeer())
    world.run()
    assert watcher.delivered == []


def test_subscriptions_and_registrations_are_found_by_their_numbers_by_who_has_them(world: World) -> None:
    realm = world.realm()
    peer, other = world.join(realm), world.join(realm)
    world.subscribe(realm, peer, "a.*")
    number = realm.subscription(Pattern.parse("a.*")).number
    assert realm.subscribed(peer, number) == Pattern.parse("a.*") and realm.subscribed(other, number) is None
    registration = world.procedure(realm, peer, Pattern.wildcard("a..b"))
    assert realm.registered(peer, registration.number) == Pattern.wildcard("a..b")
    assert realm.registered(other, registration.number) is None and realm.registered(peer, registration.number + 1) is None
    world.call(realm, other, "a.x.b")
    assert realm.invocation(peer, 1) is peer.invocations[0] and realm.invocation(other, 1) is None


def test_what_is_checked_before_it_is_published_is_refused_by_the_same_rules(world: World) -> None:
    realm = world.realm()
    who = principal("sally", Role(publish=("a.*",)))
    realm.check_publish(who, "a.b", "eventType")
    for event_type, code in (("b.c", "forbidden"), ("nexus.x", "forbidden"), ("a..b", "invalid_message")):
        with pytest.raises(NexusError) as refused:
            realm.check_publish(who, event_type, "[1].eventType")
        assert refused.value.code == code
        realm.publish(who, event_type, Payload.of_value(b"1"), world.never, lambda error: world.said.append(error.code))
        assert world.said.pop() == code


def test_only_an_administrator_broadcasts(world: World) -> None:
    realm = world.realm()
    watcher = world.join(realm)
    world.subscribe(realm, watcher, "nexus.broadcast")
    told = world.said.append
    realm.broadcast(principal("sally", Role(publish=("**",))), b"1", told, lambda error: told(error.code))
    world.run()
    assert world.said == ["forbidden"] and watcher.delivered == []
    realm.broadcast(principal("root", ADMIN), b"1", told, world.failed)
    world.run()
    assert world.said == ["forbidden", 1] and watcher.delivered == [b"nexus.broadcast 1\n"]


def test_an_event_is_decoded_once_for_all_filters_and_not_kept_decoded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    decode = payloads._decode

    def counting(data: bytes) -> Any:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(payloads, "_decode", counting)
    realm = world.realm()
    peers = [world.join(realm) for _ in range(3)]
    for peer, env in zip(peers, ("prod", "prod", "test"), strict=True):
        request = SubscribeRequest(("a.b", "a.*"), {"env": env})
        realm.subscribe(peer, peer.principal, request, SubscribeReply(lambda _placed: None, world.failed))
    sent = [
        Payload.of_json(b'{"env":"prod"}', "data", 32),
        Payload.of_arguments(JSON, b'[{"env":"test"}]', None, 32),
        Payload.of_arguments(JSON, None, b'{"env":"prod"}', 32),
    ]
    counted = len(decoded)
    for payload in sent:
        realm.publish(principal(), "a.b", payload, lambda _position: None, world.failed)
    world.run()
    assert counted == len(decoded) == 3
    assert [b"".join(peer.delivered) for peer in peers] == [b'a.b {"env":"prod"}\n' * 2] * 2 + [b'a.b {"env":"test"}\n']
    assert not sent[0].decoded


@pytest.mark.parametrize("wamp", [False, True])
@pytest.mark.parametrize(("subscriptions", "registrations"), [(1, 2), (2, 1)])
def test_subscriptions_and_registrations_are_bounded_apart(
    world: World, subscriptions: int, registrations: int, wamp: bool
) -> None:
    realm = world.realm(limits=Limits(subscriptions=subscriptions, registrations=registrations))
    peer = world.join(realm)
    reply = SubscribeReply(lambda _placed: world.said.append("ok"), lambda error: world.said.append(error.message))

    def subscribe(name: str) -> None:
        request = SubscribeRequest((Pattern.parse(name) if wamp else name,))
        realm.subscribe(peer, peer.principal, request, reply)

    def register(name: str) -> None:
        if wamp:
            world.procedure(realm, peer, Pattern.parse(name))
        else:
            world.register(realm, peer, [name], None)

    for number in range(subscriptions + 1):
        subscribe(f"x{number}")
    assert world.said == ["ok"] * subscriptions + [f"More than {subscriptions} subscriptions"]
    for number in range(registrations):
        register(f"y{number}")
    with pytest.raises(NexusError, match=f"cannot register more than {registrations} commands") as refused:
        register("z")
    assert refused.value.code == "limit_exceeded"


def test_without_an_authorizer_a_clients_own_rights_are_all_it_has(world: World) -> None:
    realm = world.realm()
    peer = world.join(realm, principal(role=Role()))
    world.authorize(realm, peer, "a")
    assert world.said == [peer.principal]


def test_a_procedure_of_the_realm_may_allow_what_the_grants_do_not(world: World) -> None:
    realm = world.realm(authorizer="procedure:com.authorize")
    authorizer, peer = world.join(realm), world.join(realm, principal("sally", Role(publish=("granted",))))
    world.procedure(realm, authorizer, Pattern.parse("com.authorize"))
    for uri, answer in (("yes", b"true"), ("no", b"false"), ("map", b'{"args":[{"allow":true}],"kwargs":{}}')):
        world.authorize(realm, peer, uri)
        asked = authorizer.invocations[-1]
        who = {"realm": "one", "authid": "sally", "authrole": "test"}
        assert authorizer.payloads[-1].value == {"args": [who, uri, "publish", {"match": "exact"}], "kwargs": {}}
        assert asked.caller == (0, "", "") and not asked.progressive
        asked.result(Payload.of_value(answer, "pair" if answer.startswith(b"{") else "natural"))
    assert world.said == [EVERYTHING, "forbidden", EVERYTHING]


def test_an_authorizer_that_is_not_there_or_fails_allows_nothing(world: World) -> None:
    realm = world.realm(authorizer="procedure:com.authorize")
    peer = world.join(realm, principal(role=Role()))
    world.authorize(realm, peer, "a")
    authorizer = world.join(realm)
    world.procedure(realm, authorizer, Pattern.parse("com.authorize"))
    world.authorize(realm, peer, "b")
    authorizer.invocations[-1].error(NexusError("failed", "it did"))
    world.authorize(realm, peer, "c")
    realm.gone(authorizer)
    assert world.said == ["internal"] * 3


def _keeps_its_shape(realm: Realm) -> Verbs:
    """Never called: here the type checker sees that sessions are given what they ask for."""
    return realm
