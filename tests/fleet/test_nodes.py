"""Whole nodes of one process over a real Redis: they find each other, and one that is shut down is replaced at once."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from nexus_tw.bus import open_bus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import DEFAULT_REALM
from tests.fleet.world import Recording
from tests.node import Node, clock, nodes, until
from tests.redis_server import RedisServer, redis_server

__all__ = ["nodes", "redis_server"]


async def started(nodes: Any, url: str, name: str) -> Node:
    node: Node = await nodes(bus=open_bus(url, clock, Metrics(), name))
    return node


@pytest_twisted.ensureDeferred
async def test_nodes_know_each_other_and_who_is_shut_down_is_replaced_at_once(
    nodes: Any, redis_server: RedisServer
) -> None:
    one = await started(nodes, redis_server.url, "one")
    two = await started(nodes, redis_server.url, "two")
    fleets = [node.server.realms[DEFAULT_REALM].fleet for node in (one, two)]
    part = Recording(fleets[0])
    fleets[0].take_part("recording", part)
    await until(lambda: [list(fleet.members) for fleet in fleets] == [["two"], ["one"]])
    shown = (await one.http("GET", "/metrics")).body.decode()
    assert "\nnexus_fleet_members 1.0\n" in shown
    assert "\nnexus_fleet_fencings_total 0.0\n" in shown
    before = fleets[0]._membership._own
    await two.server.drain()
    assert list(fleets[0].members) == ["two"]  # as long as its clients may be there
    await two.server.stop()
    await until(lambda: ("left", "two", "heir") in part.calls)
    assert fleets[0]._membership._own - before < 4  # beats, too few for a silence
    assert (one.metrics.fleet_members, one.metrics.fleet_burials) == (0, 1)
