"""The Redis bus: what comes from and goes to programs that are not Nexus, and what happens when Redis goes away."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import pytest_twisted
import txredisapi
from twisted.internet.task import deferLater

from nexus_tw.bus.redis import connection, link
from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import Position
from tests.bus.gate import Gate, pass_on
from tests.bus.recording import Recorder, pattern, published, reactor, sent, subscribed, until
from tests.certificates import authority, issue
from tests.redis_server import RedisServer, running


class Node:
    """A bus with what it is given, and with what it hears and counts."""

    def __init__(self, url: str, name: str = "one", realm: str = "nexus") -> None:
        self.metrics = Metrics()
        self.heard = Recorder()
        self.bus = RedisBus(parse(url), reactor, self.metrics, name, realm, random.Random(1))

    async def start(self) -> None:
        await self.bus.start(self.heard)

    async def works(self, event_type: str = "works") -> None:
        """Fails unless an event goes round."""
        seen = len(self.heard.events)
        assert await published(self.bus, event_type, b"1") is None
        await until(lambda: (event_type, b"1") in self.heard.events[seen:])


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


@pytest.fixture
def secured() -> Iterator[RedisServer]:
    yield from running(password="p@ss/w:rd")


@pytest.fixture
def node() -> Iterator[Callable[..., Node]]:
    """Makes nodes that are stopped after the test."""
    made: list[Node] = []

    def make(*arguments: str) -> Node:
        made.append(Node(*arguments))
        return made[-1]

    yield make
    for one in made:
        pytest_twisted.blockon(one.bus.stop())


def url_of(server: RedisServer) -> str:
    assert server.password
    return f"redis://:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}/3"


# --- other programs


@pytest_twisted.ensureDeferred
async def test_a_foreign_publish_arrives_once_as_it_was(redis: RedisServer, node: Callable[..., Node]) -> None:
    """What another program publishes on `nexus:events:TYPE` reaches the listener once, byte for byte."""
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "task.updated", "task.*", "**")
    assert redis.ask("PUBLISH", "nexus:events:task.updated", '{ "a" :\n[1.0, null]}') == 3
    await until(lambda: one.heard.events)
    await one.works()
    assert one.heard.events == [("task.updated", b'{ "a" :\n[1.0, null]}'), ("works", b"1")]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("metadata", [b"", b"for nodes only"])
async def test_another_program_gets_the_bare_data(redis: RedisServer, node: Callable[..., Node], metadata: bytes) -> None:
    """What Nexus publishes is on `nexus:events:TYPE`, and is the event's data with nothing around it, whatever goes with it."""
    one = node(redis.url)
    await one.start()
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as other, other.makefile("rb") as answers:
        other.sendall(b"SUBSCRIBE nexus:events:a.b\r\n")
        confirmation = [answers.readline() for _ in range(6)]
        assert confirmation[-1] == b":1\r\n"
        assert await published(one.bus, "a.b", b'{"x":1}', metadata) is None
        lines = [answers.readline().strip() for _ in range(7)]
        assert (lines[4], lines[6]) == (b"nexus:events:a.b", b'{"x":1}')


@pytest_twisted.ensureDeferred
async def test_events_of_other_programs_never_get_what_goes_with_ours(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Another program publishes under the same types as fast as it can while two nodes do; everybody hears the same."""
    nodes = [node(redis.url, name) for name in ("one", "two")]
    for one in nodes:
        await one.start()
        await subscribed(one.bus, "a.x", "a.*", "**")
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as other, other.makefile("rb") as answers:
        for number in range(300):
            foreign = b"".join(b"PUBLISH nexus:events:a.%b 0\r\n" % text for text in (b"x", b"y", b"x"))
            other.sendall(foreign)
            for one in nodes:
                for event_type in ("a.x", "a.y"):
                    metadata = f"{one.bus.node} {event_type} {number}".encode()
                    one.bus.publish(event_type, b'"%b"' % metadata, lambda _: None, metadata)
            other.sendall(foreign)
            await deferLater(reactor, 0)
        for _ in range(1800):
            assert answers.readline().startswith(b":")
    for one in nodes:
        assert await sent(one.bus, None, b"that was all") == 2
    for one in nodes:
        await until(lambda one=one: len(one.heard.messages) == 2)  # type: ignore[misc]
        assert len(one.heard.events) == 3000
        for (_, data), metadata in zip(one.heard.events, one.heard.metadata, strict=True):
            assert metadata == (b"" if data == b"0" else data.strip(b'"'))
        # Theirs stand between ours.
        kinds = [data == b"0" for _, data in one.heard.events]
        assert sum(kind != after for kind, after in pairwise(kinds)) > 10


@pytest_twisted.ensureDeferred
async def test_what_is_said_about_an_event_that_does_not_follow_is_dropped(
    redis: RedisServer, node: Callable[..., Node]
) -> None:
    """Only the very next message is meant, and only if it is an event of that type; also where the connection was another."""
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "a", "b", "*")
    between: list[tuple[str, ...]] = [("nexus:events:b", "1"), ("nexus:nodes", "1"), ("nexus:canary:one", "1")]
    for words in between:
        redis.ask("PUBLISH", "nexus:about:a", "lost")
        redis.ask("PUBLISH", *words)
        redis.ask("PUBLISH", "nexus:events:a", "1")
    redis.ask("PUBLISH", "nexus:about:a", "lost")
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: one.heard.changes == ["lost", "restored"])
    redis.ask("PUBLISH", "nexus:events:a", "2")
    await until(lambda: len(one.heard.events) == 5)
    assert [data for _, data in one.heard.events] == [b"1"] * 4 + [b"2"]
    assert one.heard.metadata == [b""] * 5


@pytest_twisted.ensureDeferred
async def test_what_is_said_in_one_realm_is_nothing_in_another(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Other programs find the default realm where they always did, and others under their quoted names."""
    one, other = node(redis.url), node(redis.url, "one", "my:realm*")
    for each in (one, other):
        await each.start()
        await subscribed(each.bus, "**")
    assert redis.ask("PUBLISH", "nexus:events:a", "1") == 1
    assert redis.ask("PUBLISH", "nexus:realm:my%3Arealm%2A:events:a", "2") == 1
    assert await published(other.bus, "a", b"3") is None
    await until(lambda: len(other.heard.events) == 2)
    await one.works()
    assert one.heard.events == [("a", b"1"), ("works", b"1")]
    assert other.heard.events == [("a", b"2"), ("a", b"3")]
    for each in (one, other):
        assert each.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_what_is_no_json_or_no_name_is_counted_and_logged_once(
    redis: RedisServer, node: Callable[..., Node], logged: list[str]
) -> None:
    """Foreign payloads that are not JSON in UTF-8, or too deep, and channels that are no names, are dropped."""
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "**")
    bad = [b"", b"{", b"[1,]", b'"\xff"', b"NaN", b"[" * 200 + b"]" * 200, b"[" * 100000, b"\xef\xbb\xbf{}"]
    for payload in bad:
        redis.ask("PUBLISH", "nexus:events:bad", payload)
    for channel in (b"nexus:events:", b"nexus:events:a..b", b"nexus:events:a b", b"nexus:events:\xff", b"nexus:events:*"):
        redis.ask("PUBLISH", channel, "{}")
    await one.works()
    assert one.heard.events == [("works", b"1")]
    assert one.metrics.bus_invalid == len(bad) + 5
    assert sum("nexus:events:bad" in line for line in logged) == 1
    assert len([line for line in logged if "Dropped" in line]) == 6


@pytest_twisted.ensureDeferred
async def test_only_the_name_of_the_timeline_is_kept_in_redis(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Without history the bus leaves the keys that name this Redis, and one subscription for each channel however many patterns
    need it."""
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "a.*", "a.**", "a.b")
    assert sorted(redis.ask("KEYS", "*")) == [b"nexus:run", b"nexus:timeline", b"nexus:types"]
    assert redis.ask("PUBSUB", "NUMPAT") == 2  # events, and what is said about them
    assert len(redis.ask("PUBSUB", "CHANNELS")) == 5  # a.b likewise, the node's own two and the canary
    for text in ("a.*", "a.**", "a.b"):
        one.bus.unsubscribe(pattern(text))
    await subscribed(one.bus, "b")
    assert redis.ask("PUBSUB", "NUMPAT") == 0
    assert len(redis.ask("PUBSUB", "CHANNELS")) == 5


@pytest_twisted.ensureDeferred
async def test_small_commands_are_not_held_back(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Both connections send what they have at once (TCP_NODELAY), and are parsed by hiredis."""
    one = node(redis.url)
    await one.start()
    link = one.bus._link
    assert link is not None
    for each in (link.publisher, link.subscriber):
        assert each.transport.getTcpNoDelay()
        assert isinstance(each, txredisapi.HiredisProtocol)


@pytest_twisted.ensureDeferred
async def test_two_processes_with_one_node_name_by_mistake_both_work(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Each tells its own canaries from the other's."""
    nodes = [node(redis.url, "same"), node(redis.url, "same")]
    for one in nodes:
        await one.start()
        await subscribed(one.bus, "works")
    for one in nodes:
        await one.works()
        assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_a_refused_event_fails_alone(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Where Redis refuses one channel to this user, publishing there fails and everything else goes on."""
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "+@all", "resetchannels", "&nexus:node*", "&nexus:canary:*")
    redis.ask("ACL", "SETUSER", "nexus", "&nexus:events:works", "&nexus:about:works")
    one = node(f"redis://nexus:secret@127.0.0.1:{redis.port}")
    await one.start()
    assert one.bus.available
    await subscribed(one.bus, "works")
    error = await published(one.bus, "other")
    assert error is not None
    assert error.code == "bus_unavailable"
    assert "NOPERM" in error.message
    await one.works()
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_an_event_is_published_with_what_goes_with_it_or_not_at_all(
    redis: RedisServer, node: Callable[..., Node]
) -> None:
    """Where Redis refuses the one channel, nothing goes out on the other."""
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "+@all", "resetchannels", "&nexus:node*", "&nexus:canary:*")
    redis.ask("ACL", "SETUSER", "nexus", "&nexus:events:*", "&nexus:about:works")
    one, other = node(f"redis://nexus:secret@127.0.0.1:{redis.port}"), node(redis.url, "other")
    for each in (one, other):
        await each.start()
    await subscribed(one.bus, "works")
    await subscribed(other.bus, "**")
    error = await published(one.bus, "a", b"1", b"about")
    assert error is not None
    assert (error.code, error.message.partition(": ")[2][:6]) == ("bus_unavailable", "NOPERM")
    assert await published(one.bus, "works", b"2", b"about") is None
    await one.works()
    await until(lambda: len(other.heard.events) == 2)
    assert other.heard.events == [("works", b"2"), ("works", b"1")]
    assert one.heard.metadata == other.heard.metadata == [b"about", b""]
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_a_user_who_may_not_have_transactions_is_refused_at_the_start(
    redis: RedisServer, node: Callable[..., Node], logged: list[str]
) -> None:
    """Not only at the first event that needs one; and works once he may, as with the rights that the manual names."""
    rights = ["+publish", "+subscribe", "+unsubscribe", "+psubscribe", "+punsubscribe", "+select"]
    redis.ask("ACL", "SETUSER", "nexus", "on", ">secret", "allchannels", *rights)
    one = node(f"redis://nexus:secret@127.0.0.1:{redis.port}/0")
    await one.start()
    assert not one.bus.available
    assert len(logged) == 1 and "NOPERM" in logged[0]
    redis.ask("ACL", "SETUSER", "nexus", "+multi", "+exec")
    await until(lambda: one.bus.available)
    await subscribed(one.bus, "*")
    assert await published(one.bus, "a", b"1", b"about") is None
    await until(lambda: one.heard.events)
    assert one.heard.metadata == [b"about"]


@pytest_twisted.ensureDeferred
async def test_a_user_who_may_have_no_more_transactions_loses_the_bus(gate: Gate, node: Callable[..., Node]) -> None:
    """What Redis carries out without them can be parted from what belongs to it, so no more of it is sent."""
    one = node(gate.url)
    await one.start()
    gate.answer = lambda command: b"-NOPERM no\r\n" if command[0] == b"MULTI" else None
    error = await published(one.bus, "a", b"1", b"about")
    assert error is not None
    assert error.code == "bus_unavailable"
    await until(lambda: one.heard.changes == ["lost"])
    gate.answer = pass_on
    await until(lambda: one.bus.available)
    assert await published(one.bus, "a", b"1", b"about") is None


# --- losing it


@pytest_twisted.ensureDeferred
async def test_after_a_crash_of_redis_everything_stands_again(
    secured: RedisServer, node: Callable[..., Node], logged: list[str]
) -> None:
    """Killed and restarted three times, with a password: told once each way, refused in between, subscribed afterwards."""
    one = node(url_of(secured))
    await one.start()
    assert one.bus.available
    await subscribed(one.bus, "works", "a.*")
    for number in range(1, 4):
        secured.kill()
        await until(lambda: not one.bus.available)
        answers: list[Any] = []
        one.bus.publish("works", b"1", answers.append)
        one.bus.send("one", b"1", answers.append)
        one.bus.subscribe(pattern(f"new.x{number}"), lambda answers=answers: answers.append("done"))  # type: ignore[misc]
        assert [getattr(answer, "code", answer) for answer in answers] == ["bus_unavailable", "bus_unavailable", "done"]
        secured.start()
        answering = time.monotonic()
        await until(lambda: one.bus.available)
        assert time.monotonic() - answering < 4  # 1 on a machine that has time
        await one.works()
        await one.works("a.b")
        await one.works(f"new.x{number}")
        assert await sent(one.bus, "one", b"") == 1
        assert one.heard.changes == ["lost", "restored"] * number
        assert one.metrics.bus_reconnects == number
    assert len(logged) == 7
    assert not any("p@ss" in line or "p%40ss" in line for line in logged)


@pytest_twisted.ensureDeferred
async def test_thousands_of_subscriptions_stand_again(redis: RedisServer, node: Callable[..., Node]) -> None:
    """They are asked for in batches; those given up in the meantime stay given up, new ones are there too."""
    one = node(redis.url)
    for number in range(2500):
        one.bus.subscribe(pattern(f"t.x{number}"), lambda: None)
    await one.start()
    assert one.bus.available
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: one.heard.changes)
    one.bus.unsubscribe(pattern("t.x7"))
    one.bus.subscribe(pattern("u"), lambda: None)
    await until(lambda: one.bus.available)
    for event_type in ("t.x0", "t.x1234", "t.x2499", "u"):
        await one.works(event_type)
    assert len(redis.ask("PUBSUB", "CHANNELS", "nexus:events:*")) == 2500


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_losing_either_connection_rebuilds_both(redis: RedisServer, node: Callable[..., Node], kind: str) -> None:
    """`CLIENT KILL` of the one or the other, again and again: `lost` and `restored` alternate."""
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "works")
    for number in range(1, 6):
        redis.ask("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await until(lambda number=number: one.heard.changes == ["lost", "restored"] * number)  # type: ignore[misc]
        await one.works()


@pytest_twisted.ensureDeferred
async def test_a_frozen_redis_is_noticed_and_left(redis: RedisServer, node: Callable[..., Node]) -> None:
    """A server that keeps its connections and does not answer is away within a few seconds, and back soon after its return.

    What it has not acknowledged fails, and so does what would make more of it than the node should keep.
    """
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "works")
    redis.pause()
    frozen = time.monotonic()
    answers: list[Position | NexusError | None] = []
    waiting: list[str] = []
    one.bus.subscribe(pattern("later.*"), lambda: waiting.append("stands"))
    size = 1048576
    fitting = connection.MAX_UNACKED_BYTES // size
    for _ in range(fitting + 3):
        one.bus.publish("works", b"1" * size, answers.append)
    assert 1 <= len(answers) <= 3
    await until(lambda: one.heard.changes == ["lost"])
    assert time.monotonic() - frozen < 8  # 4 on a machine that has time
    await until(lambda: len(answers) == fitting + 3)
    assert {error.code if isinstance(error, NexusError) else None for error in answers} == {"bus_unavailable"}
    assert waiting == ["stands"]
    redis.resume()
    thawed = time.monotonic()
    await until(lambda: one.bus.available)
    assert time.monotonic() - thawed < 4  # 2 likewise
    await one.works("later.x")
    assert one.heard.changes == ["lost", "restored"]


@pytest_twisted.ensureDeferred
async def test_a_network_that_swallows_everything_does_not_hold_up_the_start(gate: Gate, node: Callable[..., Node]) -> None:
    """Connected, but never answered: the start is over after 3 s, and the bus comes up when the network does."""
    gate.silent = True
    one = node(gate.url)
    began = time.monotonic()
    await one.start()
    assert 2.5 < time.monotonic() - began < 4.5
    assert not one.bus.available
    assert one.heard.changes == ["lost"]
    gate.silent = False
    await until(lambda: one.bus.available)
    assert one.heard.changes == ["lost", "restored"]


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_that_is_put_right_is_enough(
    secured: RedisServer, node: Callable[..., Node], logged: list[str]
) -> None:
    """The node tries on and connects as soon as Redis accepts its password; neither password is logged."""
    secured.ask("CONFIG", "SET", "requirepass", "another")
    one = node(url_of(secured))
    await one.start()
    assert not one.bus.available
    assert one.heard.changes == ["lost"]
    assert len(logged) == 1 and "WRONGPASS" in logged[0]
    secured.password = "another"
    secured.ask("CONFIG", "SET", "requirepass", "p@ss/w:rd")
    secured.password = "p@ss/w:rd"
    await until(lambda: one.bus.available)
    assert one.heard.changes == ["lost", "restored"]
    assert not any("p@ss" in line or "another" in line for line in logged)


@pytest_twisted.ensureDeferred
async def test_a_redis_with_too_many_clients_is_tried_again(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Refused for too many clients, the node tries on until there is room."""
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as holder, holder.makefile("rb") as answers:
        holder.sendall(b"CONFIG SET maxclients 1\r\n")
        assert answers.readline() == b"+OK\r\n"
        one = node(redis.url)
        await one.start()
        assert not one.bus.available
        holder.sendall(b"CONFIG SET maxclients 100\r\n")
        assert answers.readline() == b"+OK\r\n"
        await until(lambda: one.bus.available)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        (b"AUTH", "drop"),
        (b"AUTH", b"-ERR max number of clients reached\r\n"),
        (b"SELECT", "drop"),
        (b"SELECT", b"-LOADING Redis is loading the dataset in memory\r\n"),
        (b"MULTI", b"-NOPERM this user has no permissions to run the 'multi' command\r\n"),
        (b"EXEC", "drop"),
        (b"SUBSCRIBE", b"-NOPERM this user has no permissions to access one of the channels\r\n"),
        (b"EVALSHA", b"-READONLY You can't write against a read only replica.\r\n"),
        (b"EVALSHA", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        (b"SUBSCRIBE", "drop"),
    ],
)
async def test_no_answer_of_redis_ends_the_attempts(
    gate: Gate, node: Callable[..., Node], verb: bytes, answer: bytes | str
) -> None:
    """Whatever is refused at the start, it is tried again and again, and works once it is not refused."""
    gate.answer = lambda command: answer if command[0] == verb else (b"+OK\r\n" if command[0] in (b"AUTH", b"SELECT") else None)
    one = node(f"redis://:secret@127.0.0.1:{gate.port}/0")
    await one.start()
    assert not one.bus.available
    await until(lambda: gate.connections >= 5)
    assert one.heard.changes == ["lost"]
    gate.answer = lambda command: b"+OK\r\n" if command[0] == b"AUTH" else None
    await until(lambda: one.bus.available)
    assert one.heard.changes == ["lost", "restored"]


@pytest_twisted.ensureDeferred
async def test_an_echoed_password_is_not_logged(gate: Gate, node: Callable[..., Node], logged: list[str]) -> None:
    """Redis quotes the arguments of commands that it does not know, as where AUTH was renamed."""
    gate.answer = lambda command: b"-ERR unknown command 'AUTH', with args beginning with: 'secret' \r\n"
    one = node(f"redis://:secret@127.0.0.1:{gate.port}/0")
    await one.start()
    assert len(logged) == 1 and "unknown command" in logged[0]
    assert "secret" not in logged[0]


@pytest_twisted.ensureDeferred
async def test_a_canary_that_is_refused_ends_the_link(gate: Gate, node: Callable[..., Node]) -> None:
    """Where a server that was master comes to refuse, the node leaves it for a new connection."""
    one = node(gate.url)
    await one.start()
    assert one.bus.available
    gate.answer = lambda command: b"-READONLY You can't write\r\n" if any(b"canary" in word for word in command) else None
    await until(lambda: one.heard.changes == ["lost"])
    gate.answer = pass_on
    await until(lambda: one.bus.available)


@pytest_twisted.ensureDeferred
async def test_attempts_are_spread_and_go_on(node: Callable[..., Node]) -> None:
    """With nobody there, the start is over at once, attempts go on, and stopping takes no time."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        one = node(f"redis://127.0.0.1:{nobody.getsockname()[1]}")
        began = time.monotonic()
        await one.start()
        assert one.heard.changes == ["lost"]
        await one.bus.stop()
        assert time.monotonic() - began < 2
    assert one.heard.changes == ["lost"]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("when", ["connecting", "frozen"])
async def test_stopping_ends_in_time_whatever_redis_does(
    redis: RedisServer, gate: Gate, node: Callable[..., Node], when: str
) -> None:
    """A bus that waits for an answer is stopped within a few seconds, and its listener hears nothing of it."""
    one = node(gate.url)
    gate.silent = when == "connecting"
    started = one.bus.start(one.heard)
    if when == "frozen":
        await started
        gate.silent = True
        one.bus.publish("a", b"1", lambda _: None)
    else:
        await until(lambda: gate.commands)
    began = time.monotonic()
    await one.bus.stop()
    await started
    assert time.monotonic() - began < link.PATIENCE + 1
    assert one.heard.changes == []


# --- TLS


@pytest.fixture
def tls(tmp_path: Any) -> Iterator[RedisServer]:
    certificate, key = issue("localhost").write(tmp_path, "redis")
    trusted, _ = authority().write(tmp_path, "authority")
    yield from running(tls=(certificate, key, trusted), password="secret")


@pytest_twisted.ensureDeferred
async def test_redis_over_tls_with_an_own_authority(tls: RedisServer, node: Callable[..., Node]) -> None:
    """`rediss:` with `?ca=` connects, and connects again."""
    one = node(tls.url)
    await one.start()
    assert one.bus.available
    await subscribed(one.bus, "works")
    await one.works()
    tls.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: one.heard.changes == ["lost", "restored"])
    await one.works()


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_a_strange_authority_is_refused(
    tls: RedisServer, node: Callable[..., Node], tmp_path: Any, logged: list[str]
) -> None:
    """Without a trusted signature nothing is sent, least of all the password."""
    strange, _ = authority("another").write(tmp_path, "another")
    one = node(f"rediss://:secret@localhost:{tls.port}/0?ca={strange}")
    await one.start()
    assert not one.bus.available
    assert "certificate verify failed" in logged[0]


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_names_nobody_is_refused(node: Callable[..., Node], tmp_path: Any, logged: list[str]) -> None:
    """A trusted signature is not enough: Twisted's own client would believe such a certificate under every name."""
    certificate, key = authority("localhost").write(tmp_path, "nameless")
    for server in running(tls=(certificate, key, certificate), password="secret"):
        one = node(f"rediss://:secret@localhost:{server.port}/0?ca={certificate}")
        await one.start()
        assert not one.bus.available
        assert "certificate verify failed" in logged[0]
        await one.bus.stop()


@pytest_twisted.ensureDeferred
async def test_redis_on_a_unix_socket(node: Callable[..., Node], tmp_path: Any) -> None:
    """`unix:///PATH` connects."""
    path = tmp_path / "redis.sock"
    for server in running(options=("--unixsocket", str(path))):
        one = node(f"unix://{path}?db=1")
        await one.start()
        await subscribed(one.bus, "works")
        await one.works()
        await one.bus.stop()
        assert server.ask("PING") == b"PONG"


@pytest_twisted.ensureDeferred
async def test_a_flushed_redis_loses_nothing_of_ours(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Pub/Sub keeps nothing, so FLUSHALL takes nothing away: no subscription, no event, no link."""
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "works", "a.*")
    redis.ask("FLUSHALL")
    await one.works()
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_a_redis_without_memory_to_spare_still_carries_events(redis: RedisServer, node: Callable[..., Node]) -> None:
    """Where Redis refuses whatever would take memory, events pass all the same: publishing keeps nothing.

    It does not queue the commands of a transaction then, so an event with something for nodes fails, and it alone.
    """
    redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    one = node(redis.url)
    await one.start()
    await subscribed(one.bus, "works")
    await one.works()
    error = await published(one.bus, "works", b"2", b"about")
    assert error is not None
    assert (error.code, error.message.partition(": ")[2][:3]) == ("bus_unavailable", "OOM")
    await one.works()
    assert [data for _, data in one.heard.events] == [b"1", b"1"]
    assert one.heard.changes == []
