from __future__ import annotations

from collections.abc import Awaitable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import SHUTTING_DOWN, Close
from nexus_tw.model.settings import Limits
from nexus_tw.transport.connections import Connections, Full, Open
from tests.recording import RecordingPeer


class Connection:
    """A connection that notes when it is closed and dropped; one that is not `stubborn` goes when it is closed."""

    def __init__(self, world: World, address: str = "10.0.0.1", subject: str = "agent", stubborn: bool = False) -> None:
        self.world = world
        self.address = address
        self.identity = subject
        self.stubborn = stubborn
        self.audience: Peer | None = None
        self.closed: list[float] = []
        self.delay = 0  # ms, that it was closed with
        self.dropped: list[float] = []

    def close(self, close: Close) -> None:
        assert close._replace(delay=SHUTTING_DOWN.delay) == SHUTTING_DOWN
        self.delay = close.delay
        self.closed.append(self.world.clock.seconds())
        if not self.stubborn:
            self.world.connections.remove(self)

    def drop(self) -> None:
        self.dropped.append(self.world.clock.seconds())
        self.world.connections.remove(self)


def _keeps_its_shape(connection: Connection) -> Open:
    """Never called: here the type checker sees that the fake is what it stands for."""
    return connection


class World:
    def __init__(self, descriptors: int = 100_000, seed: int = 1, **limits: int) -> None:
        self.clock = Clock()
        self.connections = Connections(self.clock, Limits(**limits), descriptors, Random(seed))
        self.settled: list[float] = []

    def open(self, address: str = "10.0.0.1", subject: str = "agent", stubborn: bool = False) -> Connection:
        connection = Connection(self, address, subject, stubborn)
        self.connections.add(connection)
        return connection

    def settle(self) -> Awaitable[None]:
        self.settled.append(self.clock.seconds())
        return succeed(None)

    def drain(self, seconds: float) -> Deferred[None]:
        return ensureDeferred(self.connections.drain(seconds, self.settle))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)


def refusal(world: World, address: str = "10.0.0.1", subject: str | None = "agent") -> tuple[str, int, str] | None:
    try:
        world.connections.room(address, subject)
    except Full as full:
        return full.reason, full.status, full.code
    return None


# --- limits


def test_connections_are_counted_against_what_the_descriptors_allow() -> None:
    world = World(descriptors=2)
    first = world.open()
    assert refusal(world) is None
    world.open("10.0.0.2", "other")
    assert refusal(world, "10.0.0.3", None) == ("connections", 503, "rate_limited")
    world.connections.remove(first)
    assert refusal(world, "10.0.0.3") is None


@pytest.mark.parametrize(("limit", "descriptors"), [(2, 100), (100, 2)])
def test_the_smaller_of_setting_and_descriptors_counts(limit: int, descriptors: int) -> None:
    world = World(descriptors, connections=limit)
    for _ in range(2):
        assert refusal(world) is None
        world.open()
    assert refusal(world) == ("connections", 503, "rate_limited")


def test_one_address_may_have_so_many_and_others_are_not_touched() -> None:
    world = World(connections_per_address=2)
    first, _ = world.open(subject="a"), world.open(subject="b")
    assert refusal(world, subject="c") == ("connections_per_address", 429, "rate_limited")
    assert refusal(world, subject=None) == ("connections_per_address", 429, "rate_limited")
    assert refusal(world, "10.0.0.2") is None
    world.connections.remove(first)
    assert refusal(world, subject="c") is None


def test_one_subject_may_have_so_many_and_others_are_not_touched() -> None:
    world = World(connections_per_subject=1)
    world.open("10.0.0.1", "a")
    assert refusal(world, "10.0.0.2", "a") == ("connections_per_subject", 429, "rate_limited")
    assert refusal(world, "10.0.0.2", "b") is None
    assert refusal(world, "10.0.0.2", None) is None, "not known yet"


def test_who_turns_out_to_be_a_subject_is_counted_for_it_from_then_on() -> None:
    world = World(connections_per_subject=1)
    first, second = world.open(subject=""), world.open(subject="")
    world.connections.identify(first, "a")
    first.identity = "a"
    assert refusal(world, subject="a") == ("connections_per_subject", 429, "rate_limited")
    with pytest.raises(Full) as caught:
        world.connections.identify(second, "a")
    assert caught.value.reason == "connections_per_subject"
    world.connections.identify(first, "a")  # it is already
    world.connections.identify(second, "b")
    second.identity = "b"
    for connection in (first, second):
        world.connections.remove(connection)
    assert not world.connections._by_subject


def test_without_limits_there_are_none() -> None:
    world = World()
    for _ in range(1000):
        world.connections.arrive()
        assert refusal(world) is None
        world.open()
    assert len(world.connections) == 1000


def test_new_connections_come_no_faster_than_allowed() -> None:
    world = World(connect_rate=10)
    for _ in range(10):
        world.connections.arrive()
    for _ in range(100):
        with pytest.raises(Full) as caught:
            world.connections.arrive()
    assert (caught.value.reason, caught.value.status, caught.value.retry_after) == ("connect_rate", 503, 1)
    world.clock.advance(0.2)
    world.connections.arrive()
    world.connections.arrive()
    with pytest.raises(Full):
        world.connections.arrive()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=30), st.randoms(use_true_random=False))
def test_nothing_is_kept_of_those_who_left(who: list[tuple[str, str]], order: Random) -> None:
    world = World()
    connections = [world.open(address, subject) for address, subject in who]
    assert list(world.connections) == connections
    order.shuffle(connections)
    for connection in connections:
        world.connections.remove(connection)
        world.connections.remove(connection)
    assert len(world.connections) == 0
    assert not world.connections._by_address and not world.connections._by_subject


def test_those_whom_broadcasts_are_for_are_given_also_while_they_leave() -> None:
    world = World()
    one, two, _nobody = world.open(), world.open(), world.open()
    one.audience, two.audience = RecordingPeer(), RecordingPeer()
    peers = world.connections.peers()
    assert next(peers) is one.audience
    world.connections.remove(one)
    assert list(peers) == [two.audience]


# --- drain


def test_a_node_without_connections_is_drained_at_once() -> None:
    world = World()
    drained = world.drain(10)
    assert drained.called and not world.clock.getDelayedCalls()


def test_nobody_comes_in_once_it_drains() -> None:
    world = World()
    world.open()
    world.drain(10)
    assert refusal(world) == ("draining", 503, "shutting_down")


def test_a_small_fleet_is_let_go_at_once() -> None:
    world = World()
    connections = [world.open() for _ in range(100)]
    drained = world.drain(10)
    assert drained.called
    assert all(connection.closed == [0] for connection in connections)
    assert not world.clock.getDelayedCalls()


def test_a_large_fleet_is_let_go_in_batches_of_random_order() -> None:
    orders = []
    for seed in (1, 2):
        world = World(seed=seed)
        connections = [world.open() for _ in range(1050)]
        drained = world.drain(10)
        world.run(1.5)
        assert drained.called
        sizes: dict[float, int] = {}
        for connection in connections:
            (when,) = connection.closed
            sizes[round(when, 2)] = sizes.get(round(when, 2), 0) + 1
        assert sorted(sizes) == pytest.approx([batch / 10 for batch in range(11)], abs=0.05)
        assert max(sizes.values()) <= 100
        orders.append([connection.closed[0] for connection in connections])
    assert orders[0] != orders[1] != sorted(orders[1])


def test_a_fleet_too_large_for_the_pace_is_let_go_in_time() -> None:
    world = World()
    connections = [world.open() for _ in range(5000)]
    drained = world.drain(1)
    world.run(0.8)
    assert drained.called
    assert max(connection.closed[0] for connection in connections) < 0.75


@pytest.mark.parametrize(
    ("connections", "limits", "window"),
    [(0, {}, 1000), (500, {}, 1000), (3000, {}, 6000), (300, {"connect_rate": 100}, 3000), (900, {"connect_rate": 9000}, 1800)],
)
def test_clients_return_within_a_time_that_grows_with_their_number(
    connections: int, limits: dict[str, int], window: int
) -> None:
    world = World(**limits)
    for _ in range(connections):
        world.open()
    assert world.connections.return_window() == window


@pytest.mark.parametrize(("connections", "delay"), [(10, SHUTTING_DOWN.delay), (5000, 10_000)])
def test_all_that_are_drained_are_told_the_window_of_the_whole_fleet(connections: int, delay: int) -> None:
    world = World()
    told = [world.open() for _ in range(connections)]
    world.drain(10)
    world.run(10)
    assert {connection.delay for connection in told} == {delay}


def test_each_batch_waits_until_what_its_clients_sent_is_answered() -> None:
    world = World()
    for _ in range(250):
        world.open()
    answered: Deferred[None] = Deferred()
    settled = [answered, succeed(None), succeed(None)]
    drained = ensureDeferred(world.connections.drain(10, lambda: settled.pop(0)))
    world.run(1)
    assert len(world.connections) == 250
    answered.callback(None)
    assert len(world.connections) == 250 - 84
    world.run(0.3)
    assert drained.called and not settled


def test_those_who_do_not_leave_are_dropped_at_the_deadline_and_no_earlier() -> None:
    world = World()
    polite, stubborn = world.open(), world.open(stubborn=True)
    drained = world.drain(10)
    world.clock.advance(9.99)
    assert not stubborn.dropped and not drained.called
    world.clock.advance(0.01)
    assert stubborn.dropped == [10] and not polite.dropped
    assert drained.called


def test_the_deadline_holds_though_what_was_sent_is_never_answered() -> None:
    world = World()
    connection = world.open()
    never: Deferred[None] = Deferred()
    ensureDeferred(world.connections.drain(10, lambda: never))
    world.clock.advance(10)
    assert connection.dropped == [10]


def test_one_that_leaves_late_ends_the_drain() -> None:
    world = World()
    connection = world.open(stubborn=True)
    drained = world.drain(10)
    world.clock.advance(3)
    world.connections.remove(connection)
    assert drained.called and not world.clock.getDelayedCalls()


def test_no_time_to_drain_means_now() -> None:
    world = World()
    connections = [world.open(stubborn=True) for _ in range(300)]
    drained = world.drain(0)
    world.clock.advance(0)
    assert all(connection.closed and connection.dropped for connection in connections)
    assert drained.called
