"""Retention: old telemetry is removed."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_tw.model.errors import NexusError
from tests.telemetry.world import NOW, World


def test_every_minute_what_is_older_than_the_retention_is_removed() -> None:
    world = World(retention=3600)
    world.telemetry.start()
    assert world.store.pruned == []
    world.clock.advance(60)
    world.clock.advance(60)
    assert world.store.pruned == [int((NOW + passed - 3600) * 1000) for passed in (60, 120)]


def test_without_a_retention_nothing_is_ever_removed(world: World) -> None:
    world.telemetry.start()
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("error", [NexusError("store_unavailable", "locked"), ZeroDivisionError()])
def test_a_removal_that_fails_is_tried_again_and_logged_once(error: Exception, logged: list[Any]) -> None:
    world = World(retention=3600)
    world.telemetry.start()
    world.store.prune_answer = error
    for _ in range(3):
        world.clock.advance(60)
    assert len(logged) == 1
    world.store.prune_answer = 0
    world.clock.advance(60)
    world.store.prune_answer = error
    world.clock.advance(60)
    assert len(world.store.pruned) == 5
    assert len(logged) == 2
