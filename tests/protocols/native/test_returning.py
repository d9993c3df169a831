"""The delay that clients are told for a return: in `connected`, and in pings after it has changed."""

from __future__ import annotations

import json

from nexus_tw.protocols.native.returning import Returning


class World:
    def __init__(self, delay: int = 1000) -> None:
        self.delay = delay
        self.now = 0.0
        self.returning = Returning(lambda: self.delay, 30, lambda: self.now)

    def ping(self) -> dict[str, object]:
        frames = self.returning.ping
        assert frames[-2:] == b"\x89\0"
        told: dict[str, object] = json.loads(frames[2:-2])
        return told


def test_a_ping_says_nothing_while_the_delay_is_what_was_told() -> None:
    world = World()
    assert world.ping() == {"type": "ping"} and world.returning.delay == 1000
    world.delay = 1250
    assert world.ping() == {"type": "ping"} and world.returning.delay == 1000


def test_pings_tell_a_delay_that_has_changed_by_more_than_a_quarter_until_all_know_it() -> None:
    world = World(4000)
    world.delay = 5001
    for world.now in (0.0, 30.0, 45.0):
        assert world.ping() == {"type": "ping", "delay": 5001}
    assert world.returning.delay == 5001
    world.now = 45.1
    assert world.ping() == {"type": "ping"}
    world.delay = 3000
    assert world.ping() == {"type": "ping", "delay": 3000}, "it may become shorter, too"


def test_a_change_that_a_new_connection_was_told_first_reaches_the_others_by_ping() -> None:
    world = World()
    world.delay = 2000
    assert world.returning.delay == 2000
    assert world.ping() == {"type": "ping", "delay": 2000}


def test_a_further_change_is_told_for_as_long_again() -> None:
    world = World()
    world.delay = 2000
    assert world.ping()["delay"] == 2000
    world.now, world.delay = 40.0, 4000
    assert world.ping()["delay"] == 4000
    world.now = 80.0
    assert world.ping()["delay"] == 4000
    world.now = 90.0
    assert "delay" not in world.ping()


def test_the_ping_is_encoded_once_for_all() -> None:
    world = World()
    world.delay = 2000
    assert world.returning.ping is world.returning.ping


def test_a_wall_clock_that_is_set_back_does_not_keep_it_up_for_ever() -> None:
    world = World()
    world.now, world.delay = 1000.0, 2000
    assert world.ping()["delay"] == 2000
    world.now = 10.0
    assert world.ping()["delay"] == 2000
    world.now = 56.0
    assert "delay" not in world.ping()
