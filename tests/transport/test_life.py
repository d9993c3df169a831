from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.errors import HEARTBEAT_TIMEOUT, UNAUTHORIZED, Close
from nexus_tw.transport.life import Life, new_life

INPUTS: dict[str, Callable[[Life], None]] = {
    "upgraded": lambda life: life.upgraded(),
    "accepted": lambda life: life.accepted(),
    "close": lambda life: life.close(HEARTBEAT_TIMEOUT),
    "closing": lambda life: life.closing(),
    "lost": lambda life: life.lost(),
}
WAYS = {
    "new": (),
    "authenticating": ("upgraded",),
    "open": ("upgraded", "accepted"),
    "closing": ("upgraded", "accepted", "close"),
    "closed": ("upgraded", "accepted", "lost"),
}


class Owner:
    def __init__(self) -> None:
        self.done: list[str | Close] = []

    def begin(self) -> None:
        self.done.append("begin")

    def farewell(self, close: Close) -> None:
        self.done.append(close)

    def end(self) -> None:
        self.done.append("end")


def lived(*inputs: str) -> tuple[Life, Owner]:
    owner = Owner()
    life = new_life(owner)
    for name in inputs:
        INPUTS[name](life)
    return life, owner


@pytest.mark.parametrize(
    ("state", "event", "done", "then"),
    [
        ("new", "upgraded", [], "authenticating"),
        ("new", "close", [], "new"),
        ("new", "closing", [], "new"),
        ("new", "lost", [], "closed"),
        ("authenticating", "accepted", ["begin"], "open"),
        ("authenticating", "close", [HEARTBEAT_TIMEOUT], "closing"),
        ("authenticating", "closing", [], "closing"),
        ("authenticating", "lost", [], "closed"),
        ("open", "close", [HEARTBEAT_TIMEOUT, "end"], "closing"),
        ("open", "closing", ["end"], "closing"),
        ("open", "lost", ["end"], "closed"),
        ("closing", "close", [], "closing"),
        ("closing", "closing", [], "closing"),
        ("closing", "lost", [], "closed"),
        ("closed", "close", [], "closed"),
        ("closed", "closing", [], "closed"),
        ("closed", "lost", [], "closed"),
    ],
)
def test_each_thing_that_happens_is_answered_as_the_state_asks(
    state: str, event: str, done: list[str | Close], then: str
) -> None:
    life, owner = lived(*WAYS[state])
    before = list(owner.done)
    INPUTS[event](life)
    assert owner.done == before + done
    assert answers(lived(*WAYS[state], event)[0]) == answers(lived(*WAYS[then])[0]), "and then it is in that state"


def answers(life: Life) -> tuple[bool, bool]:
    """Return the possible transitions: whether it can be upgraded, whether it can be accepted."""
    possible = []
    for name in ("upgraded", "accepted"):
        try:
            INPUTS[name](life)
            possible.append(True)
            break
        except Exception:
            possible.append(False)
    return possible[0], len(possible) == 2 and possible[1]


@given(st.lists(st.sampled_from(["upgraded", "accepted", "close", "closing", "lost"]), max_size=12))
def test_whatever_happens_it_begins_and_ends_at_most_once_and_ends_if_it_began(events: list[str]) -> None:
    owner = Owner()
    life = new_life(owner)
    upgraded = accepted = over = False
    for name in events:
        # A connection is upgraded once, before anything else, and accepted at most once after that.
        if (name == "upgraded" and (upgraded or over)) or (name == "accepted" and (accepted or over or not upgraded)):
            continue
        upgraded |= name == "upgraded"
        accepted |= name == "accepted"
        over |= name == "lost" or (upgraded and name in ("close", "closing"))
        INPUTS[name](life)
    life.lost()
    assert owner.done.count("begin") == owner.done.count("end") <= 1
    assert sum(isinstance(done, Close) for done in owner.done) <= 1, "one farewell"


def test_a_session_may_close_while_it_begins() -> None:
    class Refusing(Owner):
        def begin(self) -> None:
            super().begin()
            life.close(UNAUTHORIZED)

    owner = Refusing()
    life = new_life(owner)
    life.upgraded()
    life.accepted()
    life.lost()
    assert owner.done == ["begin", UNAUTHORIZED, "end"]


def test_a_farewell_that_reports_the_closing_of_the_connection_ends_it_once() -> None:
    class Reporting(Owner):
        def farewell(self, close: Close) -> None:
            super().farewell(close)
            life.closing()

    owner = Reporting()
    life = new_life(owner)
    life.upgraded()
    life.accepted()
    life.close(UNAUTHORIZED)
    assert owner.done == ["begin", UNAUTHORIZED, "end"]
