from __future__ import annotations

from typing import Any, NoReturn

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import provider

from nexus_tw.runtime.turn import Turn


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turn(clock: Clock) -> Turn:
    return Turn(clock)


def test_nothing_is_called_before_the_turn_ends_and_then_all_in_order(clock: Clock, turn: Turn) -> None:
    called: list[int] = []
    for number in range(3):
        turn.add(lambda number=number: called.append(number))  # type: ignore[misc]
    assert not called
    assert len(clock.getDelayedCalls()) == 1, "one wake-up for all of them"
    clock.advance(0)
    assert called == [0, 1, 2]
    clock.advance(10)
    assert called == [0, 1, 2], "each once"


def test_what_is_added_while_the_turn_ends_still_belongs_to_it(clock: Clock, turn: Turn) -> None:
    called: list[str] = []

    def first() -> None:
        called.append("first")
        turn.add(lambda: called.append("added"))

    turn.add(first)
    turn.add(lambda: called.append("second"))
    clock.advance(0)
    assert called == ["first", "second", "added"]
    assert not clock.getDelayedCalls()


def test_each_turn_ends_anew(clock: Clock, turn: Turn) -> None:
    called: list[int] = []
    for number in range(3):
        turn.add(lambda number=number: called.append(number))  # type: ignore[misc]
        clock.advance(0)
    assert called == [0, 1, 2]


def test_one_that_fails_is_logged_and_keeps_neither_the_others_nor_later_turns_from_ending(clock: Clock, turn: Turn) -> None:
    logged: list[dict[str, Any]] = []
    called: list[str] = []

    @provider(ILogObserver)
    def observer(event: dict[str, Any]) -> None:
        logged.append(event)

    def fail() -> NoReturn:
        raise IndexError("a fault of ours")

    globalLogPublisher.addObserver(observer)
    try:
        turn.add(fail)
        turn.add(lambda: called.append("other"))
        clock.advance(0)
    finally:
        globalLogPublisher.removeObserver(observer)
    assert [event["log_failure"].type for event in logged] == [IndexError]
    turn.add(lambda: called.append("later"))
    clock.advance(0)
    assert called == ["other", "later"]
