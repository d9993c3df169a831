"""A node with 10,000 clients goes away and comes back: how they return, by the cores alone."""

from __future__ import annotations

import pytest

from tests.clients.storm.counts import Counts, count
from tests.clients.storm.simulation import Storm

CLIENTS = 10_000
DELAY = 10.0  # s: what a node with that many clients tells them
WISH = CLIENTS / DELAY  # attempts a second


def storm(end: str, away: float, clients: int = CLIENTS) -> tuple[Counts, float]:
    """Return the attempts after the node's end, and how long after its return everybody was back."""
    one = Storm(clients, clients / WISH)
    one.start()
    one.wait(60)
    one.forget()
    getattr(one, end)()
    one.until(lambda: not one.here)
    one.wait(away)
    listening = one.now
    one.listen()
    one.until(one.back)
    return count(one.attempts), one.now - listening


@pytest.mark.parametrize("away", [pytest.param(0.5, marks=pytest.mark.long), 10, pytest.param(20, marks=pytest.mark.long)])
def test_after_a_kill_no_second_has_many_more_attempts_than_the_node_wishes(away: float) -> None:
    counts, back = storm("kill", away)
    assert counts.attempts > CLIENTS, "nobody was refused"
    assert counts.busiest < 1.1 * WISH
    assert counts.ratio < 1.2
    assert back < 11


@pytest.mark.parametrize("away", [0.5, 2, 10])
@pytest.mark.long
def test_after_a_drain_no_second_has_twice_the_mean(away: float) -> None:
    counts, back = storm("drain", away)
    assert counts.attempts > CLIENTS
    assert counts.ratio < 2
    assert back < 16


@pytest.mark.parametrize("away", [0.5, 2, 10])
def test_few_clients_that_a_drain_has_spread_do_not_meet_later(away: float) -> None:
    counts, back = storm("drain", away, 1000)
    assert counts.attempts > 1000
    assert counts.ratio < 1.5
    assert back < 6


def test_a_storm_would_be_found() -> None:
    one = Storm(1000, delay=0.05)
    one.start()
    one.wait(60)
    one.forget()
    one.kill()
    one.wait(10)
    one.listen()
    one.until(one.back)
    assert count(one.attempts).ratio > 2
