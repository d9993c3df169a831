from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from nexus_tw.model.errors import HEARTBEAT_TIMEOUT, TOKEN_EXPIRED, Close
from nexus_tw.model.settings import Heartbeat
from nexus_tw.transport.heartbeat import Beating, Pulse


class Connection:
    """A connection that notes, with the time, what is done to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.heard = self.next_ping = self.expires = 0.0
        self.answers = True
        self.slot = -1
        self.pings: list[float] = []
        self.closed: list[tuple[float, Close]] = []

    def ping(self) -> None:
        self.pings.append(self.world.now)

    def close(self, close: Close) -> None:
        self.closed.append((self.world.now, close))
        self.world.pulse.remove(self)

    def expired(self) -> None:
        self.close(TOKEN_EXPIRED)


def _keeps_its_shape(connection: Connection) -> Beating:
    """Never called: here the type checker sees that the fake is what it stands for."""
    return connection


class World:
    def __init__(self, interval: float = 30, timeout: float = 60) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.began = self.clock.seconds()
        self.pulse = Pulse(self.clock, Heartbeat(interval, timeout), Random(7))
        self.pulse.start()

    @property
    def now(self) -> float:
        return self.clock.seconds() - self.began

    def connection(self, lifetime: float | None = None) -> Connection:
        connection = Connection(self)
        self.pulse.add(connection, lifetime)
        return connection

    def run(self, until: float, *hears: Connection, step: float = 0.25) -> None:
        """Time passes; from `hears` something comes at each step."""
        while self.now < until:
            self.clock.advance(step)
            for connection in hears:
                self.hear(connection)

    def hear(self, connection: Connection) -> None:
        connection.heard = self.pulse.now

    @property
    def placed(self) -> int:
        return sum(map(len, self.pulse._slots.values()))


@pytest.fixture
def world() -> World:
    return World()


def test_a_connection_is_pinged_once_in_each_interval(world: World) -> None:
    connection = world.connection()
    world.run(300, connection)
    first, *_ = connection.pings
    assert 15 <= first <= 31
    gaps = [later - earlier for earlier, later in zip(connection.pings, connection.pings[1:], strict=False)]
    assert gaps == [30] * 9
    assert not connection.closed


def test_those_who_come_together_are_not_pinged_together(world: World) -> None:
    connections = [world.connection() for _ in range(1000)]
    world.run(31, *connections)
    assert len({connection.pings[0] for connection in connections}) >= 15


@pytest.mark.parametrize("heard", [0, 0.25, 0.75, 10, 29.75, 33.5])
def test_a_silent_connection_is_closed_at_the_timeout_and_not_later_than_a_step_after(world: World, heard: float) -> None:
    world.run(5)
    connection = world.connection()
    world.run(5 + heard, connection)
    world.run(200)
    ((when, close),) = connection.closed
    assert close == HEARTBEAT_TIMEOUT
    assert 60 <= when - (5 + heard) <= 61
    assert world.placed == 0


def test_one_that_comes_between_two_sweeps_has_its_whole_patience_too(world: World) -> None:
    world.run(0.75)
    connection = world.connection()
    world.run(200)
    assert 60 <= connection.closed[0][0] - 0.75 <= 61


def test_anything_heard_in_time_keeps_it_open(world: World) -> None:
    connection = world.connection()
    for second in range(59, 1000, 59):
        world.run(second)
        world.hear(connection)
    assert not connection.closed
    world.run(1100)
    assert len(connection.closed) == 1


def test_one_that_does_not_answer_pings_gets_none_and_may_be_silent(world: World) -> None:
    connection = world.connection(lifetime=400)
    connection.answers = False
    world.run(300)
    assert not connection.pings and not connection.closed
    world.run(500)
    assert connection.closed == [(400, TOKEN_EXPIRED)], "its time has an end all the same"


def test_one_that_begins_to_answer_is_pinged_and_closed_from_then_on(world: World) -> None:
    connection = world.connection()
    connection.answers = False
    world.run(300)
    world.hear(connection)
    connection.answers = True
    world.run(600)
    assert connection.pings and connection.pings[0] <= 331
    ((when, close),) = connection.closed
    assert (close, 360 <= when <= 361) == (HEARTBEAT_TIMEOUT, True)


def test_the_end_of_a_token_closes_however_lively_the_connection_is(world: World) -> None:
    connection, forever = world.connection(lifetime=100.5), world.connection()
    world.run(200, connection, forever)
    assert connection.closed == [(101, TOKEN_EXPIRED)]
    assert not forever.closed


def test_a_token_that_is_over_already_closes_at_the_next_sweep(world: World) -> None:
    connection = world.connection(lifetime=0)
    world.run(2)
    assert connection.closed == [(1, TOKEN_EXPIRED)]


@pytest.mark.parametrize(("lifetime", "ends"), [(200, 205), (3, 8), (None, None)])
def test_the_time_that_a_connection_has_may_be_set_anew(world: World, lifetime: float | None, ends: float | None) -> None:
    connection = world.connection(lifetime=10)
    world.run(5, connection)
    heard, next_ping = connection.heard, connection.next_ping
    world.pulse.renew(connection, lifetime)
    assert (connection.heard, connection.next_ping) == (heard, next_ping)
    world.run(300, connection)
    assert connection.closed == ([] if ends is None else [(ends, TOKEN_EXPIRED)])
    assert world.placed == (1 if ends is None else 0), "it stood in one place only"


def test_nothing_is_kept_of_one_that_is_removed(world: World) -> None:
    connection = world.connection()
    world.pulse.remove(connection)
    assert world.placed == 0 and connection.slot == -1
    world.pulse.remove(connection)
    world.run(100)
    assert not connection.pings and not connection.closed


def test_one_that_is_removed_by_its_own_ping_is_not_kept(world: World) -> None:
    connection = world.connection()
    connection.ping = lambda: world.pulse.remove(connection)  # type: ignore[method-assign]
    world.run(31)
    assert world.placed == 0


def test_one_that_takes_another_along_does_not_bring_it_back(world: World) -> None:
    one, other = world.connection(), world.connection()
    for first, second in ((one, other), (other, one)):
        first.ping = lambda second=second: world.pulse.remove(second)  # type: ignore[method-assign,misc]
        first.next_ping = 20
        world.pulse.remove(first)
        world.pulse._place(first)
    world.run(20.5)
    assert world.placed == 1, "one was visited first and took the other along"


def test_a_connection_that_fails_does_not_stop_the_heart(world: World) -> None:
    def fail() -> None:
        raise RuntimeError("a fault of ours")

    broken, healthy = world.connection(), world.connection()
    broken.ping = fail  # type: ignore[method-assign]
    failures: list[dict[str, Any]] = []

    @provider(ILogObserver)
    def observer(event: dict[str, Any]) -> None:
        failures.append(event)

    globalLogPublisher.addObserver(observer)
    try:
        world.run(300, broken, healthy)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert len(failures) == 1
    assert len(healthy.pings) == 10


def test_a_process_that_stood_still_closes_nobody_whose_bytes_it_has_not_read_yet(world: World) -> None:
    alive, dead = world.connection(), world.connection()
    world.run(10, alive, dead)
    world.clock.advance(120)
    assert not alive.closed and not dead.closed
    world.hear(alive)
    world.clock.advance(1)
    assert not alive.closed
    assert [close for _, close in dead.closed] == [HEARTBEAT_TIMEOUT]
    world.run(400, alive)
    assert not alive.closed


def test_a_process_that_is_always_late_still_finds_the_silent_ones(world: World) -> None:
    silent, alive = world.connection(), world.connection()
    world.run(100, alive, step=2.5)
    assert not alive.closed
    assert 60 <= silent.closed[0][0] <= 67


def test_after_standing_still_there_is_one_ping_and_not_one_for_each_interval_missed(world: World) -> None:
    connection = world.connection()
    world.clock.advance(300)
    assert len(connection.pings) == 1


def test_a_clock_that_leaps_by_decades_costs_nothing(world: World) -> None:
    connection = world.connection()
    world.clock.advance(55 * 365 * 86400)
    world.hear(connection)
    world.run(world.now + 30, connection)
    assert not connection.closed


def test_a_short_interval_has_finer_steps() -> None:
    world = World(interval=0.2, timeout=0.4)
    connection = world.connection()
    world.run(5, step=0.01)
    assert len(connection.pings) == 2
    assert 0.4 <= connection.closed[0][0] <= 0.5


def test_ten_thousand_connections_cost_one_timer() -> None:
    world = World()
    connections = [world.connection(lifetime=1000 + number) for number in range(10_000)]
    assert len(world.clock.getDelayedCalls()) == 1
    world.run(40, step=1)
    assert all(connection.pings for connection in connections)
    assert len(world.clock.getDelayedCalls()) == 1
    assert len(world.pulse._slots) <= 62, "no slot beyond the next thing to do"
    for connection in connections:
        world.pulse.remove(connection)
    assert world.placed == 0
    world.run(110, step=1)
    assert not world.pulse._slots


def test_a_stopped_heart_leaves_no_timer(world: World) -> None:
    world.connection()
    world.pulse.stop()
    world.pulse.stop()
    assert not world.clock.getDelayedCalls()


def test_a_heart_that_never_began_can_be_stopped() -> None:
    Pulse(Clock(), Heartbeat(), Random(1)).stop()


@given(
    st.floats(0.1, 100),
    st.floats(0.1, 200),
    st.lists(st.tuples(st.floats(0.01, 3), st.booleans()), min_size=1, max_size=60),
)
def test_whatever_the_times_nobody_is_closed_early_and_nobody_forgotten(
    interval: float, timeout: float, steps: list[tuple[float, bool]]
) -> None:
    world = World(interval, timeout)
    connection = world.connection()
    heard = 0.0
    for step, hears in steps:
        world.clock.advance(step * timeout / 10)
        if connection.closed:
            break
        if hears:
            world.hear(connection)
            heard = world.now
    if connection.closed:
        assert connection.closed[0][0] - heard >= timeout * 0.999999
        assert world.placed == 0
    else:
        assert world.placed == 1
