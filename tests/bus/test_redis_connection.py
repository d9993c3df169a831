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

from nexus_tw.bus.redis_channels import EVENTS, Source, event_head, publish_command, source_of
from nexus_tw.bus.redis_connection import BATCH, MAX_UNACKED, Publisher, Subscriber, told
from nexus_tw.topics import parse_pattern


class Writes(StringTransport):
    """Counts the writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)  # type: ignore[no-untyped-call]


def commands(transport: StringTransport) -> Iterator[list[bytes]]:
    """What was written since the last time."""
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
            publish_command(event_head("a"), b"%d" % number), partial(lambda *answer: answers.append(answer), number)
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
    """What Redis does for one subscriber: carries out its commands one by one, and sends copies by subscription."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.heard: list[tuple[bytes, bytes]] = []
        self.subscriber = Subscriber(self.clock, lambda channel, payload: self.heard.append((channel, payload)), print)
        self.subscriber.makeConnection(self.transport)
        self.inbox: deque[tuple[bytes, bytes]] = deque()
        self.standing: dict[bytes, None] = {}
        self.outgoing: list[bytes] = []

    def take(self) -> None:
        """The subscriber's turn ends, and what it has written is on its way."""
        self.clock.advance(0)
        for verb, *names in commands(self.transport):
            self.inbox.extend((verb, name) for name in names)

    def carry_out(self) -> None:
        if self.inbox:
            verb, name = self.inbox.popleft()
            if b"UN" in verb:
                self.standing.pop(name, None)
            else:
                self.standing[name] = None
            self.outgoing.append(b"*3\r\n" + _bulks(verb.lower(), name) + b":%d\r\n" % len(self.standing))

    def serve(self) -> None:
        self.take()
        while self.inbox:
            self.carry_out()

    def publish(self, channel: bytes, payload: bytes) -> bool:
        """Whether anybody gets it. The exact subscription comes first, then the globs as they were made."""
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
PUBLISH = st.tuples(st.just("publish"), st.sampled_from(["a.b", "a.c"]))
# Redis is most often idle, so it carries out what it gets; that is the last of these, as it is the simplest.
SERVE = st.tuples(st.sampled_from(["arrive", "take", "carry_out", "serve"]), st.just(""))


@given(st.lists(st.one_of(CHANGES, PUBLISH, PUBLISH, SERVE, SERVE), min_size=30, max_size=60), st.integers(1, 200))
def test_each_message_is_handed_on_exactly_once_however_subscriptions_change(
    steps: list[tuple[str, str]], at_a_time: int
) -> None:
    """Overlapping subscriptions come and go between publishes; whatever Redis sends at all arrives once, in order."""
    model = Model()
    expected: list[tuple[bytes, bytes]] = []
    for number, (step, text) in enumerate(steps):
        if step == "subscribe":
            model.subscriber.subscribe(source_of(parse_pattern(text, "test")), lambda: None)
        elif step == "unsubscribe":
            model.subscriber.unsubscribe(source_of(parse_pattern(text, "test")))
        elif step == "publish":
            message = (EVENTS + text.encode(), b"%d" % number)
            if model.publish(*message):
                expected.append(message)
        elif step == "arrive":
            model.arrive(at_a_time)
        else:
            getattr(model, step)()
    model.arrive(at_a_time)
    assert model.heard == expected


def test_when_the_subscription_that_brought_a_channel_ends_another_takes_over() -> None:
    """Of two that match, the one that is left goes on without a gap, in either order."""
    for first, second in (("a.b", "a.*"), ("a.*", "a.b"), ("a.*", "**")):
        model = Model()
        for text in (first, second):
            model.subscriber.subscribe(source_of(parse_pattern(text, "test")), lambda: None)
        model.serve()
        model.publish(EVENTS + b"a.b", b"1")
        model.subscriber.unsubscribe(source_of(parse_pattern(first, "test")))
        model.take()
        model.publish(EVENTS + b"a.b", b"2")
        model.serve()
        model.publish(EVENTS + b"a.b", b"3")
        model.arrive(1000)
        assert [payload for _, payload in model.heard] == [b"1", b"2", b"3"]


def test_subscriptions_of_one_turn_travel_together_in_order() -> None:
    """Neighbours of one kind share a command, of bounded length; their order is kept; each is told of its own confirmation."""
    model = Model()
    stands: list[int] = []
    for number in range(BATCH + 1):
        model.subscriber.subscribe(Source(b"c%d" % number, False), lambda number=number: stands.append(number))  # type: ignore[misc]
    model.subscriber.unsubscribe(Source(b"c0", False))
    model.subscriber.subscribe(Source(b"c*", True), lambda: stands.append(-1))
    model.clock.advance(0)
    sent = list(commands(model.transport))
    assert [(words[0], len(words) - 1) for words in sent] == [
        (b"SUBSCRIBE", BATCH),
        (b"SUBSCRIBE", 1),
        (b"UNSUBSCRIBE", 1),
        (b"PSUBSCRIBE", 1),
    ]
    model.inbox.extend((words[0], name) for words in sent for name in words[1:])
    for _ in range(7):
        model.carry_out()
    model.arrive(10)
    assert stands == list(range(7))
    model.subscriber.release()
    assert stands == [*range(BATCH + 1), -1]
