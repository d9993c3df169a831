"""The contract of the roll: beats, burials and legacies, over each of the built-in buses."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nexus_tw.bus.bounds import MAX_BURIED, MAX_NODES
from nexus_tw.interfaces.plugins import LEFT, Beats, Burial, IBus, IRoll
from nexus_tw.model.errors import NexusError
from tests.bus.nodes import Faults, Pair


def roll_of(bus: IBus) -> IRoll:
    assert bus.roll is not None
    return bus.roll


async def asked(call: Any, *arguments: Any) -> Any:
    """Return the answer of a method of the roll."""
    done: Deferred[Any] = Deferred()
    call(*arguments, done.callback)
    return await done


async def beat(bus: IBus, node: str, *known: str) -> Beats:
    answer = await asked(roll_of(bus).beat, node, known)
    assert isinstance(answer, Beats)
    return answer


async def bury(bus: IBus, node: str, beats: int | None, heir: str) -> Burial:
    answer = await asked(roll_of(bus).bury, node, beats, heir)
    assert isinstance(answer, Burial)
    return answer


@pytest_twisted.ensureDeferred
async def test_beats_rise_and_are_the_same_for_all(pair: Pair) -> None:
    one, two = (node.bus for node in pair)
    assert verifyObject(IRoll, one.roll)
    first = await beat(one, "one", "x")
    assert (first.beats, first.buried, list(first.legacy)) == ({"one": 1}, frozenset(), [])
    second = await beat(two, "two.2 ä")
    assert (second.beats, second.epoch) == ({"one": 1, "two.2 ä": 1}, first.epoch)
    assert (await beat(one, "one")).beats == {"one": 2, "two.2 ä": 1}


@pytest_twisted.ensureDeferred
async def test_one_of_all_buries_a_node_with_the_beats_it_has(pair: Pair) -> None:
    """Other beats than those observed mean that it lives. A buried node is told just that, and stays so."""
    one, two = (node.bus for node in pair)
    for name in ("a", "b", "c"):
        await beat(one, name)
    assert await bury(one, "c", 2, "a") is Burial.REFUSED
    assert await bury(one, "c", 0, "a") is Burial.REFUSED
    assert await bury(two, "c", 1, "b") is Burial.MINE
    assert await bury(one, "c", 1, "a") is Burial.ANOTHERS
    answer = await beat(one, "c", "b")
    assert (answer.beats, set(answer.buried)) == ({}, {"c"})
    answer = await beat(one, "a", "b", "c")
    assert (answer.beats, set(answer.buried), list(answer.legacy)) == ({"a": 2, "b": 1}, {"c"}, [])
    assert list((await beat(two, "b")).legacy) == ["c"]
    assert await bury(two, "a", None, "c") is Burial.REFUSED  # the dead inherit nothing


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_not_in_the_roll_can_be_buried(pair: Pair) -> None:
    one, two = (node.bus for node in pair)
    await beat(one, "a")
    assert await bury(one, "x", 3, "a") is Burial.REFUSED
    assert await bury(one, "x", 0, "a") is Burial.MINE
    assert (await beat(two, "x")).buried == {"x"}


@pytest_twisted.ensureDeferred
async def test_a_legacy_passes_on_until_it_is_settled(pair: Pair) -> None:
    one, two = (node.bus for node in pair)
    for name in ("a", "b", "c", "d"):
        await beat(one, name)
    assert await bury(one, "a", None, "b") is Burial.MINE
    assert await bury(one, "b", None, "c") is Burial.MINE
    assert sorted((await beat(one, "c")).legacy) == ["a", "b"]
    assert await asked(roll_of(two).settle, "a", "b") is None  # a former heir's word counts for nothing
    assert sorted((await beat(one, "c")).legacy) == ["a", "b"]
    assert await asked(roll_of(two).settle, "a", "c") is None
    assert await bury(one, "c", None, "d") is Burial.MINE
    assert sorted((await beat(one, "d")).legacy) == ["b", "c"]


@pytest_twisted.ensureDeferred
async def test_who_leaves_says_so_in_the_roll(pair: Pair) -> None:
    one, two = (node.bus for node in pair)
    await beat(one, "a")
    await beat(one, "b")
    assert await asked(roll_of(one).leave, "a") is None
    assert await asked(roll_of(one).leave, "x") is None  # is not there
    assert (await beat(two, "b")).beats == {"a": LEFT, "b": 2}
    assert await bury(two, "a", LEFT, "b") is Burial.MINE


@pytest_twisted.ensureDeferred
async def test_the_roll_is_bounded(pair: Pair) -> None:
    """Further nodes are refused; of those that were buried the oldest are forgotten, with their legacy."""
    one, _ = (node.bus for node in pair)
    roll = roll_of(one)
    answers: list[Any] = []
    for number in range(MAX_NODES):
        roll.beat(f"n{number}", (), answers.append)
    refused = await asked(roll.beat, "one more", ())
    assert isinstance(refused, NexusError) and refused.code == "limit_exceeded"
    assert len((await beat(one, "n0")).beats) == MAX_NODES
    for number in range(MAX_BURIED + 5):
        roll.bury(f"x{number}", 0, "n0", answers.append)
    answer = await beat(one, "n0", *(f"x{number}" for number in range(MAX_BURIED + 5)))
    assert answer.buried == set(answer.legacy)
    assert len(answer.buried) == MAX_BURIED
    assert await bury(one, "the last", 0, "n0") is Burial.MINE
    assert (await beat(one, "n0", "the last")).buried == {"the last"}


@pytest_twisted.ensureDeferred
async def test_realms_have_rolls_of_their_own(pair: Pair, make: Any) -> None:
    one, _ = (node.bus for node in pair)
    other = make("other", "realm1")
    await other.start(pair[0].heard)
    await beat(one, "a")
    assert (await beat(other, "b")).beats == {"b": 1}
    await other.stop()


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_every_call_fails(pair: Pair, faults: Faults) -> None:
    one, _ = pair
    await faults.cut(one)
    roll = roll_of(one.bus)
    for call, arguments in (
        *((roll.beat, ("a", ())), (roll.bury, ("a", 0, "b"))),
        *((roll.settle, ("a", "b")), (roll.leave, ("a",))),
    ):
        answer = await asked(call, *arguments)
        assert isinstance(answer, NexusError) and answer.code == "bus_unavailable"
    await faults.mend(one)
    assert (await beat(one.bus, "a")).beats == {"a": 1}
