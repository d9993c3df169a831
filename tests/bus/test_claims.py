"""Claims: what every bus decides for all nodes about registrations."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.bus.memory_claims import Claims
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.bus.redis.claims import STEPS
from nexus_tw.bus.redis.scripts import CLAIM, SCRIPTS
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT, NexusError
from nexus_tw.model.names import Pattern
from tests.bus.nodes import Pair

DEPLOY = Pattern.parse("deploy")
GRANTED = "granted"


async def claim(bus: IBus, node: str, invoke: str, pattern: Pattern = DEPLOY) -> str:
    """Return `GRANTED`, or the URI of the error."""
    assert bus.claims is not None
    answer: Deferred[NexusError | None] = Deferred()
    bus.claims.claim(pattern, invoke, node, answer.callback)
    error = await answer
    return GRANTED if error is None else error.uri


async def release(bus: IBus, node: str, pattern: Pattern = DEPLOY) -> None:
    assert bus.claims is not None
    answer: Deferred[NexusError | None] = Deferred()
    bus.claims.release(pattern, node, answer.callback)
    assert await answer is None


async def forget(bus: IBus, node: str) -> None:
    assert bus.claims is not None
    answer: Deferred[NexusError | None] = Deferred()
    bus.claims.forget(node, answer.callback)
    assert await answer is None


@pytest_twisted.ensureDeferred
async def test_one_node_has_a_pattern_with_a_single_callee_until_it_gives_it_up(pair: Pair) -> None:
    here, there = pair[0].bus, pair[1].bus
    assert await claim(here, "one", "single") == GRANTED
    assert await claim(here, "one", "single") == GRANTED, "it has it"
    assert await claim(there, "two", "single") == ALREADY_REGISTERED.uri
    assert await claim(there, "two", "first") == POLICY_CONFLICT.uri
    assert await claim(there, "two", "single", Pattern.prefixed("deploy")) == GRANTED, "another pattern"
    await release(there, "two")
    assert await claim(there, "two", "single") == ALREADY_REGISTERED.uri, "it had nothing to give up"
    await release(here, "one")
    assert await claim(there, "two", "single") == GRANTED


@pytest_twisted.ensureDeferred
async def test_nodes_share_a_pattern_by_the_same_policy_and_the_last_one_may_change_it(pair: Pair) -> None:
    here, there = pair[0].bus, pair[1].bus
    nodes = ("a node", "node", "node.2", "2")
    for node in nodes:
        assert await claim(here, node, "roundrobin") == GRANTED
    assert await claim(there, "other", "last") == POLICY_CONFLICT.uri
    for node in nodes[:3]:
        assert await claim(here, node, "random") == POLICY_CONFLICT.uri
        await release(here, node)
    assert await claim(there, "2", "random") == GRANTED
    assert await claim(here, "node", "roundrobin") == POLICY_CONFLICT.uri
    assert await claim(here, "node", "random") == GRANTED


@pytest_twisted.ensureDeferred
async def test_of_a_node_that_is_gone_all_claims_are_given_up(pair: Pair) -> None:
    here, there = pair[0].bus, pair[1].bus
    patterns = [Pattern.parse(f"a.{number}") for number in range(STEPS + 10)]
    answers: list[NexusError | None] = []
    assert here.claims is not None
    for pattern in patterns:
        here.claims.claim(pattern, "single", "one", answers.append)
    assert await claim(here, "one", "first") == GRANTED
    assert answers == [None] * len(patterns)
    assert await claim(there, "two", "first") == GRANTED
    await forget(there, "one")
    await forget(there, "unheard-of")
    for pattern in (patterns[0], patterns[-1]):
        assert await claim(there, "two", "single", pattern) == GRANTED
    assert await claim(there, "two", "last") == GRANTED, "nobody else has it any more"


@pytest_twisted.ensureDeferred
async def test_what_a_node_asks_for_is_carried_out_in_order(pair: Pair) -> None:
    bus = pair[0].bus
    assert bus.claims is not None
    answers: list[NexusError | None] = []
    bus.claims.claim(DEPLOY, "single", "one", answers.append)
    bus.claims.release(DEPLOY, "one", answers.append)
    bus.claims.claim(DEPLOY, "first", "one", answers.append)
    assert await claim(bus, "two", "first") == GRANTED
    assert answers == [None] * 3


@pytest_twisted.ensureDeferred
async def test_how_many_patterns_are_claimed_is_bounded(pair: Pair) -> None:
    bus = pair[0].bus
    if isinstance(bus, RedisBus):
        bus._claims._most = 2
    else:
        assert isinstance(bus, MemoryBus)
        bus._broker.claims._most = 2
    for name, answer in (("a", GRANTED), ("b", GRANTED), ("c", "wamp.error.unavailable")):
        assert await claim(bus, "one", "first", Pattern.parse(name)) == answer
    assert await claim(bus, "two", "first", Pattern.parse("b")) == GRANTED, "it is there"
    await release(bus, "one", Pattern.parse("a"))
    assert await claim(bus, "one", "first", Pattern.parse("c")) == GRANTED


def test_while_the_bus_is_away_nothing_is_decided() -> None:
    bus = MemoryBus(MemoryBroker(Clock()), "one")
    assert bus.claims is not None
    errors: list[NexusError | None] = []
    bus.claims.claim(DEPLOY, "single", "one", errors.append)
    bus.claims.release(DEPLOY, "one", errors.append)
    bus.claims.forget("one", errors.append)
    assert [error and error.code for error in errors] == ["bus_unavailable"] * 3


def test_nothing_is_left_of_what_was_given_up() -> None:
    claims = Claims()
    for node in ("one", "two"):
        assert claims.claim(DEPLOY, "first", node) is None
    claims.release("deploy", "one")
    claims.forget("two")
    claims.release("deploy", "two")
    assert (claims._nodes, claims._policies, claims._texts) == ({}, {}, {})


def test_the_script_is_loaded_with_the_others() -> None:
    assert CLAIM in SCRIPTS


@pytest.mark.parametrize("make", ["redis"], indirect=True)
@pytest_twisted.ensureDeferred
async def test_redis_keeps_nothing_of_what_was_given_up(pair: Pair, redis_server: object) -> None:
    bus = pair[0].bus
    assert await claim(bus, "one", "first") == GRANTED
    assert await claim(bus, "two", "first") == GRANTED
    await release(bus, "one")
    await forget(bus, "two")
    assert redis_server.ask("KEYS", "*claims*") == []  # type: ignore[attr-defined]
