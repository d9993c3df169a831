"""Single connections: few writes, answers in order, and each message once, against a Redis that is a few lines of model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from nexus_tw.bus.redis import connection
from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.bus.redis.channels import Channels, Source, publish_command
from nexus_tw.bus.redis.connection import BATCH, MAX_UNACKED, MAX_UNACKED_BYTES, Publisher, Subscriber, told
from nexus_tw.bus.redis.twins import alone, lengths
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import Position
from tests.bus.recording import Recorder, pattern

CHANNELS = Channels.of("nexus")


class Writes(StringTransport):
    """Counts the writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)  # type: ignore[no-untyped-call]


def commands(transport: StringTransport) -> Iterator[list[bytes]]:
    """Yield the commands written since the last call."""
    reader = hiredis.Reader()
    reader.feed(transport.value())
    transport.clear()
    while (words := reader.gets()) is not False:
        yield words


def publisher() -> tuple[Publisher, Writes, Clock, list[str]]:
    clock, transport, ended = Clock(), Writes(), list[str]()  # type: ignore[no-untyped-call]
    made = Publisher(clock, ended.append)
    made.makeConnection(transport)
    return made, transport, clock, ended


def test_publishes_of_one_turn_leave_in_one_write_and_answers_go_to_their_own() -> None:
    """Three publishes are one write; the second one's refusal reaches the second only."""
    connection, transport, clock, ended = publisher()
    answers: list[tuple[Any, ...]] = []
    for number in range(3):
        connection.put(
            publish_command(CHANNELS.event_head("a"), b"%d" % number), partial(lambda *answer: answers.append(answer), number)
        )
    assert transport.writes == 0
    clock.advance(0)
    assert transport.writes == 1
    assert [words[2] for words in commands(transport)] == [b"0", b"1", b"2"]
    connection.dataReceived(b":7\r\n-NOPERM no 'a' for you\r\n:0\r\n")
    assert [(number, getattr(reply, "code", reply)) for number, reply in answers] == [(0, 7), (1, "bus_unavailable"), (2, 0)]
    assert answers[1][1].message == "The event bus refused this: NOPERM no"
    assert not ended


def test_what_is_not_acknowledged_is_bounded_and_given_up_with_the_connection() -> None:
    """The publisher says when it has enough; each waiting publish fails once when it is released."""
    connection, transport, clock, _ = publisher()
    answers: list[Any] = []
    for _ in range(MAX_UNACKED):
        assert not connection.behind
        connection.put(b"x", answers.append)
    assert connection.behind
    connection.release()
    assert [answer.code for answer in answers] == ["bus_unavailable"] * MAX_UNACKED
    assert not clock.getDelayedCalls()
    assert transport.writes == 0


def test_what_is_put_together_is_one_transaction_and_its_answer_is_that_of_the_last() -> None:
    """Between MULTI and EXEC, in the turn's one write; what stands before and after gets answers of its own."""
    connection, transport, clock, ended = publisher()
    answers: list[tuple[str, Any]] = []
    commands_put = [publish_command(CHANNELS.metadata_head("a"), b"x"), publish_command(CHANNELS.event_head("a"), b"1")]
    connection.put(commands_put[1], lambda reply: answers.append(("before", reply)))
    connection.put_together(commands_put, lambda reply: answers.append(("together", reply)))
    connection.put(commands_put[1], lambda reply: answers.append(("after", reply)))
    clock.advance(0)
    assert transport.writes == 1
    metadata, event = [b"PUBLISH", b"nexus:about:a", b"x"], [b"PUBLISH", b"nexus:events:a", b"1"]
    assert list(commands(transport)) == [event, [b"MULTI"], metadata, event, [b"EXEC"], event]
    for data in (b":1\r\n", b"+OK\r\n", b"+QUEUED\r\n+QUE", b"UED\r\n*2\r\n:7\r\n"):
        connection.dataReceived(data)
        assert answers == [("before", 1)]
    connection.dataReceived(b":2\r\n:3\r\n")
    assert answers == [("before", 1), ("together", 2), ("after", 3)]
    assert not ended


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        (b"+OK\r\n-NOPERM no\r\n+QUEUED\r\n-EXECABORT Transaction discarded\r\n", "NOPERM no"),
        (b"+OK\r\n+QUEUED\r\n-OOM no memory\r\n-EXECABORT Transaction discarded\r\n", "OOM no memory"),
        (b"+OK\r\n+QUEUED\r\n+QUEUED\r\n-READONLY You can't\r\n", "READONLY You can"),
        (b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n-NOPERM changed\r\n:1\r\n", "NOPERM changed"),
        (b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n-NOPERM changed\r\n", "NOPERM changed"),
        (b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n", "None"),
    ],
)
def test_a_transaction_that_is_refused_fails_alone_with_the_first_reason(replies: bytes, why: str) -> None:
    """Wherever Redis refuses; what follows is answered as ever, and the connection goes on."""
    connection, transport, clock, _ = publisher()
    answers: list[Any] = []
    connection.put_together([b"x", b"y"], answers.append)
    connection.put(b"z", answers.append)
    clock.advance(0)
    connection.dataReceived(replies + b":5\r\n")
    assert answers[0].code == "bus_unavailable"
    assert answers[0].message == f"The event bus refused this: {why}"
    assert answers[1:] == [5]
    assert not transport.disconnecting
    assert not connection.behind


def test_where_a_transaction_cannot_begin_the_connection_ends() -> None:
    """Redis has carried out what was in it one by one; what follows must not be."""
    connection, transport, clock, ended = publisher()
    answers: list[Any] = []
    connection.put_together([b"x", b"y"], answers.append)
    clock.advance(0)
    connection.dataReceived(b"-NOPERM no permissions to run the 'multi' command\r\n:1\r\n:1\r\n-ERR EXEC without MULTI\r\n")
    assert [answer.message for answer in answers] == ["The event bus refused this: NOPERM no permissions to run the"]
    assert transport.disconnecting
    connection.connectionLost(Failure(ConnectionDone()))
    assert ended == ["a transaction was refused: NOPERM no permissions to run the"]


def test_transactions_count_by_their_bytes_and_are_given_up_like_the_rest() -> None:
    """Also where half the replies are there."""
    connection, _, clock, _ = publisher()
    answers: list[Any] = []
    connection.put_together([b"x" * MAX_UNACKED_BYTES], answers.append)
    assert connection.behind
    clock.advance(0)
    connection.dataReceived(b"+OK\r\n+QUEUED\r\n")
    connection.release()
    assert [answer.code for answer in answers] == ["bus_unavailable"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"-ERR max number of clients reached\r\n", "ERR max number of clients reached"),
        (b"HTTP/1.1 400 Bad Request\r\n", "it does not speak the Redis protocol"),
        (b"*0\r\n", "[]"),
    ],
)
def test_what_nobody_asked_for_ends_the_connection(data: bytes, why: str) -> None:
    """An error that comes by itself, and what is no Redis at all, drop the connection, and say why."""
    connection, transport, _, ended = publisher()
    connection.dataReceived(data)
    assert transport.disconnected or transport.disconnecting
    connection.connectionLost(Failure(ConnectionDone()))
    assert ended == [why]


def test_what_redis_quotes_is_not_told() -> None:
    """Whatever stands in quotes may be a secret."""
    assert told("ERR unknown command `AUTH`, with args beginning with: `secret`, ") == "ERR unknown command"
    assert told("ERR unknown command 'AUTH', with args beginning with: 'secret' ") == "ERR unknown command"
    assert len(told("x" * 1000)) == 200


class Model:
    """A model of Redis for one subscriber: executes its commands one by one, and sends copies by subscription."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.recorder = Recorder()
        self.bus = RedisBus(parse("redis://h"), self.clock, Metrics(), "one")
        self.bus._listener = self.recorder
        self.bus.subscribe(pattern("**"), lambda: None)  # it wants all that Redis sends
        self.subscriber = Subscriber(self.clock, self.bus._arrived, print)
        self.subscriber.makeConnection(self.transport)
        self.inbox: deque[tuple[bytes, list[bytes]]] = deque()
        self.standing: dict[bytes, None] = {}
        self.outgoing: list[bytes] = []

    @property
    def heard(self) -> list[tuple[str, bytes, bytes]]:
        """Type, data and what is said about it, of each event that was handed on."""
        return [(*event, metadata) for event, metadata in zip(self.recorder.events, self.recorder.metadata, strict=True)]

    def subscribe(self, text: str) -> None:
        self.subscriber.subscribe(CHANNELS.source_of(pattern(text)), lambda: None)

    def unsubscribe(self, text: str) -> None:
        self.subscriber.unsubscribe(CHANNELS.source_of(pattern(text)))

    def take(self) -> None:
        """The subscriber's turn ends, and what it has written is on its way."""
        self.clock.advance(0)
        self.inbox.extend((verb, names) for verb, *names in commands(self.transport))

    def carry_out(self) -> None:
        if self.inbox:
            verb, names = self.inbox.popleft()
            for name in names:
                if b"UN" in verb:
                    self.standing.pop(name, None)
                else:
                    self.standing[name] = None
                self.outgoing.append(b"*3\r\n" + _bulks(verb.lower(), name) + b":%d\r\n" % len(self.standing))

    def serve(self) -> None:
        self.take()
        while self.inbox:
            self.carry_out()

    def publish(self, text: str, data: bytes, about: bytes = b"") -> bool:
        """Publish a message. Return whether it has any recipient."""
        if about:
            self._publish(CHANNELS.metadata + text.encode(), alone(about))
        return self._publish(CHANNELS.events + text.encode(), data)

    def publish_run(self, text: str, first: int, data: list[bytes], said: list[bytes]) -> bool:
        """Publish events of one type, like the script."""
        head = b"T.b:%d %d" % (first, len(data)) + (b" " + lengths(said) if any(said) else b"")
        self._publish(CHANNELS.metadata + text.encode(), head)
        return sum(self._publish(CHANNELS.events + text.encode(), one) for one in data) > 0

    def _publish(self, channel: bytes, payload: bytes) -> bool:
        # The exact subscription comes first, then the globs as they were made.
        matching = [name for name in self.standing if name == channel or (name[-1:] == b"*" and channel.startswith(name[:-1]))]
        for name in sorted(matching, key=lambda name: name != channel):
            if name == channel:
                self.outgoing.append(b"*3\r\n" + _bulks(b"message", channel, payload))
            else:
                self.outgoing.append(b"*4\r\n" + _bulks(b"pmessage", name, channel, payload))
        return bool(matching)

    def arrive(self, at_a_time: int) -> None:
        data, self.outgoing = b"".join(self.outgoing), []
        for place in range(0, len(data), at_a_time):
            self.subscriber.dataReceived(data[place : place + at_a_time])


def _bulks(*texts: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts)


CHANGES = st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.sampled_from(["a.b", "a.*", "**"]))
WAYS = st.sampled_from(["publish", "publish_with_metadata", "run", "run_with_metadata"])
PUBLISH = st.tuples(WAYS, st.sampled_from(["a.b", "a.c"]))
# What no Nexus node does: saying something about an event that does not follow.
METADATA = st.tuples(st.just("metadata"), st.sampled_from(["a.b", "a.c"]))
# Redis is most often idle, so it carries out what it gets; that is the last of these, as it is the simplest.
SERVE = st.tuples(st.sampled_from(["arrive", "take", "carry_out", "serve"]), st.just(""))
STEPS = st.lists(st.one_of(CHANGES, METADATA, PUBLISH, PUBLISH, SERVE, SERVE), min_size=30, max_size=60)


@given(STEPS, st.integers(1, 200))
def test_each_event_is_handed_on_exactly_once_with_its_own_metadata_however_subscriptions_change(
    steps: list[tuple[str, str]], at_a_time: int
) -> None:
    """Overlapping subscriptions come and go between publishes; whatever Redis sends at all arrives once, in order."""
    model = Model()
    expected: list[tuple[str, bytes, bytes]] = []
    positions: dict[bytes, Position] = {}
    said: tuple[str, bytes] | None = None  # about the next event, by somebody who is trusted to publish there
    for number, (step, text) in enumerate(steps):
        if step == "subscribe":
            model.subscribe(text)
        elif step == "unsubscribe":
            model.unsubscribe(text)
        elif step == "metadata":
            if model._publish(CHANNELS.metadata + text.encode(), alone(b"stray %d" % number)):
                said = text, b"stray %d" % number
        elif step.startswith("run"):
            data = [b"%d.%d" % (number, place) for place in range(number % 3 + 1)]
            with_each = [b"x" * ((number + place) % 3) if "metadata" in step else b"" for place in range(len(data))]
            if model.publish_run(text, number + 1, data, with_each):
                expected += [(text, *pair) for pair in zip(data, with_each, strict=True)]
                positions |= {one: Position("T.b", number + 1 + place) for place, one in enumerate(data)}
                said = None
        elif step.startswith("publish"):
            metadata = b"about %d" % number if step == "publish_with_metadata" else b""
            if model.publish(text, b"%d" % number, metadata):
                foreign = said[1] if said is not None and said[0] == text else b""
                expected.append((text, b"%d" % number, metadata or foreign))
                said = None
        elif step == "arrive":
            model.arrive(at_a_time)
        else:
            getattr(model, step)()
    model.arrive(at_a_time)
    assert model.heard == expected
    assert model.recorder.positions == [positions.get(data) for _, data, _ in expected]


def test_when_the_subscription_that_brought_a_channel_ends_another_takes_over() -> None:
    """Of two that match, the one that is left goes on without a gap, in either order."""
    for first, second in (("a.b", "a.*"), ("a.*", "a.b"), ("a.*", "**")):
        model = Model()
        for text in (first, second):
            model.subscribe(text)
        model.serve()
        model.publish("a.b", b"1", b"x")
        model.unsubscribe(first)
        model.take()
        model.publish("a.b", b"2")
        model.serve()
        model.publish("a.b", b"3", b"z")
        model.arrive(1000)
        assert model.heard == [("a.b", b"1", b"x"), ("a.b", b"2", b""), ("a.b", b"3", b"z")]


def test_a_full_memory_of_channels_parts_no_event_from_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what subscription a channel's messages come is forgotten for want of room, also right between the two."""
    for room in (1, 2, 3):
        monkeypatch.setattr(connection, "SOURCES_KEPT", room)
        model = Model()
        for text in ("a.b", "a.*", "**"):
            model.subscribe(text)
        model.serve()
        expected = [(f"a.{name}", b"%d" % number, b"about %d" % number) for number, name in enumerate("bbcbcdb")]
        for event in expected:
            model.publish(*event)
        model.arrive(1000)
        assert model.heard == expected


def test_subscriptions_of_one_turn_travel_together_in_order() -> None:
    """Neighbours of one kind share a command, of bounded length; their order is kept; each is told of its own confirmation."""
    model = Model()
    stands: list[int] = []
    for number in range(BATCH + 1):
        source = Source((b"c%d" % number, b"d%d" % number), False)
        model.subscriber.subscribe(source, lambda number=number: stands.append(number))  # type: ignore[misc]
    model.subscriber.subscribe(Source((b"e",), False), lambda: stands.append(-1))
    model.subscriber.unsubscribe(Source((b"c0", b"d0"), False))
    model.subscriber.subscribe(Source((b"c*", b"d*"), True), lambda: stands.append(-2))
    model.clock.advance(0)
    sent = list(commands(model.transport))
    assert [(words[0], len(words) - 1) for words in sent] == [
        (b"SUBSCRIBE", BATCH),
        (b"SUBSCRIBE", BATCH),
        (b"SUBSCRIBE", 3),
        (b"UNSUBSCRIBE", 2),
        (b"PSUBSCRIBE", 2),
    ]
    model.inbox.extend((words[0], [name]) for words in sent for name in words[1:])
    for _ in range(13):
        model.carry_out()
    model.arrive(10)
    assert stands == list(range(6))  # of the seventh one name is confirmed
    model.subscriber.release()
    assert stands == [*range(BATCH + 1), -1, -2]


def test_the_names_of_a_source_are_never_parted() -> None:
    """Where only one more name would fit in a command, both go into the next one."""
    model = Model()
    model.subscriber.subscribe(Source((b"single",), False), lambda: None)
    for number in range(BATCH):
        model.subscriber.subscribe(Source((b"c%d" % number, b"d%d" % number), False), lambda: None)
    model.clock.advance(0)
    sent = [words[1:] for words in commands(model.transport)]
    assert [len(names) for names in sent] == [BATCH - 1, BATCH, 2]
    assert all(names[-1].startswith(b"d") for names in sent)
