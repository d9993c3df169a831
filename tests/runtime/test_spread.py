from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from nexus_tw.runtime.spread import STEPS, Spread


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.spread = Spread(self.clock)
        self.done: list[tuple[str, int]] = []

    def steps(self, name: str, count: int) -> Iterator[None]:
        for number in range(count):
            self.done.append((name, number))
            yield

    def turn(self) -> None:
        """One turn; a `Clock` would take all that are due."""
        if self.spread._turn is not None:
            self.spread._turn.cancel()
            self.spread._next()


def test_short_work_is_done_at_once_and_costs_no_turn_where_there_is_none() -> None:
    world = World()
    world.spread.work(world.steps("a", 0))
    assert not world.clock.getDelayedCalls()
    world.spread.work(world.steps("a", 3))
    assert len(world.done) == 3 and len(world.spread) == 0


def test_long_work_takes_so_many_steps_in_a_turn_with_all_others_together() -> None:
    world = World()
    world.spread.work(world.steps("a", 10 * STEPS))
    world.spread.work(world.steps("b", 3))
    assert world.done == [("a", number) for number in range(STEPS)]
    world.turn()
    assert len(world.done) == 2 * STEPS - 1 and ("b", 2) in world.done, "a short one does not wait for the end of a long one"
    world.clock.advance(0)
    assert [number for name, number in world.done if name == "a"] == list(range(10 * STEPS))
    assert not world.clock.getDelayedCalls()


def test_many_short_ones_in_one_turn_count_together() -> None:
    world = World()
    for number in range(2 * STEPS):
        world.spread.call(world.done.append, ("one", number))
    assert len(world.done) == STEPS
    world.turn()
    assert len(world.done) < 2 * STEPS, "to find out that one is over counts, too"
    world.turn()
    assert world.done == [("one", number) for number in range(2 * STEPS)]


def test_a_step_that_raises_ends_its_work_and_no_other() -> None:
    world = World()

    def failing() -> Iterator[None]:
        yield
        raise ValueError("a fault")

    with capturedLogs() as logs:
        world.spread.work(failing())
        world.spread.work(world.steps("a", STEPS))
        world.clock.advance(0)
    assert len(world.done) == STEPS
    assert ["a fault" in event["log_failure"].getErrorMessage() for event in logs] == [True]


def test_a_step_may_begin_other_work() -> None:
    world = World()

    def outer() -> Iterator[None]:
        for number in range(2 * STEPS):
            world.spread.work(world.steps(f"inner {number}", 2))
            yield

    world.spread.work(outer())
    assert len(world.done) <= STEPS + 1
    world.clock.advance(0)
    assert len(world.done) == 4 * STEPS


def test_at_the_end_all_is_done_at_once() -> None:
    world = World()
    world.spread.work(world.steps("a", 10 * STEPS))
    world.spread.finish()
    assert len(world.done) == 10 * STEPS and not world.clock.getDelayedCalls()
    world.spread.finish()


@given(st.lists(st.tuples(st.integers(0, 3 * STEPS), st.booleans()), max_size=20))
def test_no_turn_takes_more_and_each_work_keeps_its_order(works: list[tuple[int, bool]]) -> None:
    world = World()
    before = 0
    for place, (count, turn) in enumerate(works):
        world.spread.work(world.steps(str(place), count))
        assert len(world.done) - before <= STEPS
        if turn:
            world.turn()
            before = len(world.done) - STEPS + world.spread._left
    world.clock.advance(0)
    for place, (count, _) in enumerate(works):
        assert [number for name, number in world.done if name == str(place)] == list(range(count))
    assert len(world.spread) == 0
