from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nexus_tw.model.settings import Limits
from nexus_tw.transport.backlog import GRACE, HARD, LOOK, Backlog, Holder

SECOND = GRACE * LOOK


class Client:
    """An outbox whose client takes what the test lets it take."""

    def __init__(self, world: World, subject: str) -> None:
        self._world = world
        self._queue = 0
        self.account = subject
        self.counted = self.looks = 0
        self.limit: int = world.limits.send_queue
        self.holder: Holder | None = None
        self.closed = self.dropped = False
        self.asked = 0

    def waiting(self) -> int:
        self.asked += 1
        return self._queue

    def write(self, size: int) -> None:
        if not self.closed:
            self._queue += size
            self._world.backlog.count(self)

    def take(self, size: int) -> None:
        self._queue = max(0, self._queue - size)

    def slow(self) -> None:
        self.closed = True

    def overrun(self) -> None:
        assert self.holder is None, "it is forgotten first"
        self.closed = self.dropped = True
        self._queue = 0


class World:
    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.limits = Limits(**{"send_queue": 100, "send_queues": 0, "share": 1.0, **limits})
        self.backlog = Backlog(self.clock, self.limits)
        self.clients: list[Client] = []

    def client(self, subject: str = "somebody") -> Client:
        self.clients.append(Client(self, subject))
        return self.clients[-1]

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK)):
            self.clock.advance(LOOK)


def test_a_burst_that_the_reader_takes_within_a_second_closes_nobody() -> None:
    world = World()
    client = world.client()
    for _ in range(20):
        client.write(100 * HARD - 50)
        world.wait(SECOND - LOOK)
        client.take(100 * (HARD - 1))
        world.wait(2 * LOOK)
        client.take(50)
    assert not client.closed


def test_who_is_past_the_limit_for_a_second_is_too_slow_though_it_reads() -> None:
    world = World()
    client = world.client()
    client.write(200)
    for _ in range(GRACE):
        client.take(10)
        client.write(10)
        world.wait(LOOK)
        assert not client.closed
    world.wait(LOOK)
    assert client.closed and not client.dropped


def test_a_server_that_stood_still_judges_nobody_by_that() -> None:
    world = World()
    client = world.client()
    client.write(200)
    world.clock.advance(60)
    assert not client.closed, "it could not send meanwhile"


def test_past_many_times_the_limit_there_is_no_grace() -> None:
    world = World()
    client = world.client()
    client.write(100 * HARD)
    assert not client.closed
    client.write(1)
    assert client.closed


def test_who_takes_everything_at_once_costs_no_entry_and_no_timer() -> None:
    world = World()
    client = world.client()
    world.backlog.count(client)
    assert not world.clock.getDelayedCalls() and client.holder is None
    client.write(50)
    client.take(50)
    world.wait(LOOK)
    assert not world.clock.getDelayedCalls() and world.backlog.bytes == 0


def test_all_together_are_bounded_and_those_of_whom_most_waits_go_first() -> None:
    world = World(send_queues=1000)
    small = [world.client(f"s{number}") for number in range(5)]
    for client in small:
        client.write(40)
    hostile = [world.client("hostile") for _ in range(100)]
    for client in hostile:
        client.write(50)
        assert world.backlog.bytes <= 1000
    assert not any(client.closed for client in small)
    assert any(client.dropped for client in hostile)


def test_one_subject_has_no_more_than_its_share() -> None:
    world = World(send_queues=1000, share=0.25)
    other = world.client("other")
    other.write(90)
    for _ in range(100):
        world.client("hostile").write(50)
        assert world.backlog.bytes <= 250 + 90
    assert not other.closed and sum(client.dropped for client in world.clients) > 50


def test_nobody_is_dropped_for_what_was_taken_since() -> None:
    world = World(send_queues=1000, share=0.5)
    for _ in range(50):
        for subject in "abcd":
            client = world.client(subject)
            client.write(90)
            client.take(90)
    assert not any(client.closed for client in world.clients)


def test_of_who_is_gone_nothing_is_counted() -> None:
    world = World()
    client = world.client()
    client.write(60)
    world.backlog.forget(client)
    assert world.backlog.bytes == 0 and not world.clock.getDelayedCalls()
    world.backlog.forget(client)


def test_looking_at_all_of_them_is_paid_for_by_what_is_written() -> None:
    world = World(send_queue=1000, send_queues=100_000)
    for number in range(2000):
        world.client(f"s{number % 50}").write(100)
    assert sum(client.asked for client in world.clients) < 20 * len(world.clients)


STEPS = st.tuples(st.integers(0, 9), st.sampled_from(("write", "take", "wait", "gone")), st.integers(1, 1000))


@given(st.lists(STEPS, max_size=120))
def test_whatever_is_written_and_taken_the_bounds_hold_and_nothing_is_left(steps: list[tuple[int, str, int]]) -> None:
    world = World(send_queues=1500, share=0.5)
    clients = [world.client("abc"[number % 3]) for number in range(10)]
    for number, what, size in steps:
        client = clients[number]
        if what == "write":
            client.write(size)
        elif what == "take":
            client.take(size)
        elif what == "wait":
            world.clock.advance(LOOK)
        else:
            client.take(1 << 30)
            world.backlog.forget(client)
        of = {subject: sum(c.counted for c in clients if c.account == subject) for subject in "abc"}
        assert world.backlog.bytes == sum(of.values()) <= 1500
        assert all(held <= 750 for held in of.values())
        assert all(c.counted <= 100 * HARD for c in clients if not c.closed)
    for client in clients:
        client.take(1 << 30)
    world.wait(LOOK)
    assert world.backlog.bytes == 0 and not world.clock.getDelayedCalls()
