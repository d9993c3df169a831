"""The meta API over several nodes: each answers for the whole realm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.fleet import PATIENCE
from nexus_tw.model.times import format_millis
from nexus_tw.pubsub.watching import SETTLING
from tests.protocols.wamp.rules.core import Speaker, World
from tests.realm.asking import events
from tests.wamp.peer import CALL, ERROR, GOODBYE, REGISTER, RESULT, SUBSCRIBE, SUBSCRIBED, UNREGISTERED, UNSUBSCRIBED


class Nodes:
    """Nodes of one realm on one clock."""

    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000.5)
        broker = MemoryBroker(self.clock)
        self.worlds = [
            World(bus=lambda _clock, name=f"node-{number}": MemoryBus(broker, name), clock=self.clock)  # type: ignore[misc]
            for number in range(count)
        ]
        for world in self.worlds:
            world.realms["nexus"].start()
        self.run(SETTLING)

    def run(self, seconds: float = 0.0) -> None:
        for _ in range(8):
            self.clock.advance(seconds / 8)

    def ask(self, speaker: Speaker, procedure: str, *payload: Any) -> Any:
        """Return the answer of a procedure: its only positional result."""
        request = speaker.call(procedure, *payload)
        self.run()
        message = speaker.now()[-1]
        assert message[:2] == [RESULT, request], message
        return message[3][0] if len(message) > 3 else None

    def refused(self, speaker: Speaker, procedure: str, *payload: Any) -> str:
        """Return the URI of the error."""
        request = speaker.call(procedure, *payload)
        self.run()
        message = speaker.now()[-1]
        assert message[:3] == [ERROR, CALL, request], message
        uri: str = message[4]
        return uri


@pytest.fixture
def nodes() -> Nodes:
    return Nodes(3)


def test_sessions_of_all_nodes_are_counted_listed_and_described(nodes: Nodes) -> None:
    one, two, three = nodes.worlds
    here = one.join("here", role_name="a")
    there, further = two.join("there", role_name="b", codec="cbor"), three.join("further", role_name="b")
    assert nodes.ask(here, "wamp.session.count") == 3
    assert nodes.ask(here, "wamp.session.count", [["b"]]) == 2
    assert sorted(nodes.ask(there, "wamp.session.list")) == sorted([here.number, there.number, further.number])
    assert nodes.ask(there, "wamp.session.list", [["a"]]) == [here.number]
    assert nodes.ask(here, "wamp.session.get", [there.number]) == nodes.ask(there, "wamp.session.get", [there.number])
    assert nodes.ask(here, "wamp.session.get", [further.number])["authid"] == "further"
    assert nodes.refused(here, "wamp.session.get", [5]) == "wamp.error.no_such_session"
    further.lose()
    assert nodes.ask(here, "wamp.session.count") == 2


def test_sessions_are_ended_on_whatever_node(nodes: Nodes) -> None:
    one, two, three = nodes.worlds
    admin = one.join("ops", role_name="ops")
    victim, same, agent = two.join("victim"), three.join("ops", role_name="ops"), three.agent("json")
    guests = [world.join("guest", role_name="guest") for world in nodes.worlds]
    nodes.ask(admin, "wamp.session.kill", [victim.number], {"reason": "com.enough", "message": "go"})
    assert victim.heard() == [[GOODBYE, {"message": "go"}, "com.enough"]]
    assert nodes.refused(admin, "wamp.session.kill", [victim.number]) == "wamp.error.no_such_session"
    assert nodes.refused(admin, "wamp.session.kill", [admin.number]) == "wamp.error.no_such_session"
    assert nodes.ask(admin, "wamp.session.kill_by_authid", ["ops"]) == [same.number]
    assert nodes.ask(admin, "wamp.session.kill_by_authrole", ["guest"]) == 3
    assert all(one.over for one in (same, *guests))
    assert nodes.ask(admin, "wamp.session.kill_all") == 1
    assert agent.line.closed is not None and agent.line.closed.code == 4502
    assert not admin.over and nodes.ask(admin, "wamp.session.list") == [admin.number]


def test_a_subscription_is_one_on_all_nodes(nodes: Nodes) -> None:
    one, two, three = nodes.worlds
    first = two.join()
    exact = first.subscribe("a.b")
    created = nodes.clock.seconds()
    nodes.run(5)
    second, third, idle = three.join(), three.join(), one.join()
    assert second.subscribe("a.b") == third.subscribe("a.b") == exact
    prefix = second.subscribe("a", match="prefix")
    for asking in (first, second, idle):
        assert nodes.ask(asking, "wamp.subscription.list") == {"exact": [exact], "prefix": [prefix], "wildcard": []}
        told = nodes.ask(asking, "wamp.subscription.get", [exact])
        assert told == {"id": exact, "created": format_millis(int(created * 1000)), "uri": "a.b", "match": "exact"}
        assert sorted(nodes.ask(asking, "wamp.subscription.match", ["a.b"])) == sorted([exact, prefix])
        assert nodes.ask(asking, "wamp.subscription.match", ["x"]) is None
        assert nodes.ask(asking, "wamp.subscription.lookup", ["a", {"match": "prefix"}]) == prefix
        assert nodes.ask(asking, "wamp.subscription.lookup", ["a"]) is None
        subscribers = nodes.ask(asking, "wamp.subscription.list_subscribers", [exact])
        assert sorted(subscribers) == sorted([first.number, second.number, third.number])
        assert nodes.ask(asking, "wamp.subscription.count_subscribers", [exact]) == 3
        for name in ("get", "list_subscribers", "count_subscribers"):
            assert nodes.refused(asking, f"wamp.subscription.{name}", [5]) == "wamp.error.no_such_subscription"
    first.lose()
    later = nodes.ask(idle, "wamp.subscription.get", [exact])["created"]
    assert later == format_millis(int((created + 5) * 1000))


def test_a_subscriber_is_removed_on_whatever_node(nodes: Nodes) -> None:
    one, two, three = nodes.worlds
    admin, victim, other = one.join(), two.join(), three.join()
    number = victim.subscribe("a")
    remove = "wamp.subscription.remove_subscriber"
    assert nodes.refused(admin, remove, [number, other.number]) == "wamp.error.no_such_session"
    assert nodes.refused(admin, remove, [5, victim.number]) == "wamp.error.no_such_subscription"
    nodes.ask(admin, remove, [number, victim.number, "com.enough"])
    assert victim.heard() == [[UNSUBSCRIBED, 0, {"subscription": number, "reason": "com.enough"}]]
    assert nodes.ask(admin, "wamp.subscription.list") == {"exact": [], "prefix": [], "wildcard": []}


def silence(nodes: Nodes, number: int) -> Callable[[], None]:
    """Have a node stand still: it reads nothing of what it is told until the returned function is called."""
    realm: Any = nodes.worlds[number].realms["nexus"]
    read = realm.fleet._post.message
    unread: list[bytes] = []
    realm.fleet._post.message = unread.append

    def wake() -> None:
        realm.fleet._post.message = read
        for message in unread:
            read(message)

    return wake


def test_an_answer_tells_of_all_nodes_or_is_an_error(nodes: Nodes) -> None:
    one, two, _ = nodes.worlds
    here, there = one.join(), two.join()
    silence(nodes, 1)
    for procedure, payload in (("session.count", []), ("subscription.list", []), ("session.kill", [there.number])):
        request = here.call(f"wamp.{procedure}", payload)
        nodes.run(PATIENCE)
        assert here.now()[-1][:5] == [ERROR, CALL, request, {}, "wamp.error.unavailable"]
    assert nodes.ask(here, "wamp.session.get", [here.number])["session"] == here.number, "which this node knows alone"
    assert not there.over


def test_what_one_node_has_answered_needs_no_answer_of_another_that_is_silent(nodes: Nodes) -> None:
    here, silent, there = (world.join() for world in nodes.worlds)
    number = there.subscribe("a.b")
    there.say(REGISTER, there.next(), {}, "com.a")
    nodes.run()
    registration = there.heard()[-1][2]
    silence(nodes, 1)

    def patiently(procedure: str, *payload: Any) -> Any:
        request = here.call(f"wamp.{procedure}", *payload)
        nodes.run(PATIENCE)
        message = here.now()[-1]
        assert message[:2] == [RESULT, request], message
        return message[3][0] if len(message) > 3 else None

    assert patiently("session.get", [there.number])["session"] == there.number
    assert patiently("subscription.lookup", ["a.b"]) == number
    patiently("subscription.remove_subscriber", [number, there.number])
    patiently("registration.remove_callee", [registration, there.number])
    assert [message[:3] for message in there.heard()] == [
        [UNSUBSCRIBED, 0, {"subscription": number, "reason": ""}],
        [UNREGISTERED, 0, {"registration": registration, "reason": ""}],
    ]
    patiently("session.kill", [there.number])
    assert there.over and not silent.over


@pytest.mark.parametrize("by", ["kill_by_authid", "kill_by_authrole", "kill_all"])
def test_sessions_are_ended_on_all_nodes_that_answer_and_on_a_silent_one_later(nodes: Nodes, by: str) -> None:
    admin = nodes.worlds[0].join("ops", role_name="ops")
    near, silent, far = (world.join("victim", role_name="victims") for world in nodes.worlds)
    wake = silence(nodes, 1)
    whom = {"kill_by_authid": ["victim"], "kill_by_authrole": ["victims"], "kill_all": []}[by]
    request = admin.call(f"wamp.session.{by}", whom)
    nodes.run(PATIENCE)
    result = admin.now()[-1]
    assert result[:2] == [RESULT, request]
    assert result[3][0] == ([near.number, far.number] if by == "kill_by_authid" else 2), "those that are known to be over"
    assert near.over and far.over and not silent.over
    wake()
    nodes.run()
    assert silent.over


def test_meta_events_reach_subscribers_on_any_node_once(nodes: Nodes) -> None:
    watchers = [world.join(f"watcher-{number}") for number, world in enumerate(nodes.worlds)]
    for watcher in watchers:
        for name in ("session.on_join", "session.on_leave", "subscription.on_create", "subscription.on_delete"):
            watcher.say(SUBSCRIBE, watcher.next(), {}, f"wamp.{name}")
        nodes.run()
        assert [message[0] for message in watcher.now()] == [SUBSCRIBED] * 4
    guests = [world.join("guest", role_name="visitors") for world in nodes.worlds]
    (number,) = {guest.subscribe("a") for guest in guests}
    nodes.run()
    for guest in guests:
        guest.lose()
        nodes.run()
    for watcher in watchers:
        told = events(watcher)
        assert sorted(args[0]["session"] for args in told if isinstance(args[0], dict)) == sorted(
            guest.number for guest in guests
        )
        rest = [args for args in told if not isinstance(args[0], dict)]
        (created,) = [args for args in rest if isinstance(args[1], dict)]
        assert created[1]["id"] == number
        rest.remove(created)
        assert rest == [
            [guests[0].number, "guest", "visitors"],
            [guests[1].number, "guest", "visitors"],
            [guests[2].number, number],
            [guests[2].number, "guest", "visitors"],
        ]


def test_past_events_are_those_of_a_subscription_on_whatever_node(nodes: Nodes) -> None:
    one, two, _ = nodes.worlds
    subscriber, asking = two.join(), one.join()
    for pattern, match in (("a.b", "exact"), ("a.", "prefix"), ("a..c", "wildcard")):
        number = subscriber.subscribe(pattern, match=match)
        # There is no history here: what is asked for has been found.
        assert nodes.refused(asking, "wamp.subscription.get_events", [number]) == "wamp.error.history_unavailable"
        assert nodes.refused(asking, "wamp.subscription.get_events", [number, 0]) == "wamp.error.invalid_argument"
    assert nodes.refused(asking, "wamp.subscription.get_events", [5]) == "wamp.error.no_such_subscription"


def test_registrations_of_all_nodes_are_known_on_each(nodes: Nodes) -> None:
    one, two, three = nodes.worlds
    watcher, callee, admin = one.join(), two.join(), three.join()
    for name in ("on_create", "on_register", "on_unregister", "on_delete"):
        watcher.say(SUBSCRIBE, watcher.next(), {}, f"wamp.registration.{name}")
    watcher.heard()
    callee.say(REGISTER, callee.next(), {"invoke": "roundrobin"}, "com.a")
    nodes.run()
    number = callee.now()[-1][2]
    assert nodes.ask(admin, "wamp.registration.list") == {"exact": [number], "prefix": [], "wildcard": []}
    assert nodes.ask(admin, "wamp.registration.list_callees", [number]) == [callee.number]
    details = nodes.ask(admin, "wamp.registration.get", [number])
    assert details == nodes.ask(callee, "wamp.registration.get", [number])
    assert nodes.refused(admin, "wamp.registration.remove_callee", [number, admin.number]) == "wamp.error.no_such_session"
    nodes.ask(admin, "wamp.registration.remove_callee", [number, callee.number, "com.enough"])
    assert callee.heard() == [[UNREGISTERED, 0, {"registration": number, "reason": "com.enough"}]]
    assert nodes.ask(admin, "wamp.registration.list") == {"exact": [], "prefix": [], "wildcard": []}
    assert events(watcher) == [[callee.number, details], *[[callee.number, number]] * 3]
