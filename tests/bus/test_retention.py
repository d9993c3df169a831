"""The contract of retained events: two nodes over each of the built-in buses."""

from __future__ import annotations

import pytest
import pytest_twisted
from zope.interface.verify import verifyObject

from nexus_tw.interfaces.plugins import IRetained
from nexus_tw.model.metrics import Metrics
from tests.bus.nodes import Faults, Make, Pair, settled
from tests.bus.recording import Recorder, placed
from tests.bus.retaining import answer, asked, found, retain

pytestmark = pytest.mark.parametrize("make", ["memory", "memory without history", "redis", "sentinel"], indirect=True)


@pytest_twisted.ensureDeferred
async def test_every_node_finds_the_last_one_of_each_type(pair: Pair) -> None:
    one, two = pair
    assert verifyObject(IRetained, one.bus.retained)
    assert await found(two.bus) == []
    await retain(one.bus, "a.b", b"1", 1)
    first = await retain(two.bus, "a.c", b"2", 2)
    second = await retain(two.bus, "b", b"3", 3)
    last = await retain(one.bus, "a.b", b'"4\xc3\xa4"', 4)
    await placed(one.bus, "a.b", b"5")
    await placed(one.bus, "c", b"6", b'{"publication":9}')
    await settled(one, two)
    for node in pair:
        assert await found(node.bus, "a.b") == [last]
        assert await found(node.bus, "c") == []
        assert sorted(await found(node.bus, "a.*")) == [last, first]
        assert sorted(await found(node.bus)) == [last, first, second]


@pytest_twisted.ensureDeferred
async def test_of_events_of_one_turn_the_last_that_asks_stays(pair: Pair) -> None:
    one, two = pair
    answers: list[object] = []
    for number, event_type in enumerate(("a", "b", "a", "a", "a", "b", "b", "b")):
        one.bus.publish(event_type, b"%d" % number, answers.append, b"" if number in (4, 7) else asked(number))
    await settled(one, two)
    events = {event.event_type: event for event in await found(two.bus)}
    assert {name: event.data for name, event in events.items()} == {"a": b"3", "b": b"6"}
    assert (events["a"].position, events["b"].position) == (answers[3], answers[6])
    assert (events["a"].metadata, events["b"].metadata) == (asked(3), asked(6))


@pytest_twisted.ensureDeferred
async def test_realms_are_apart(make: Make, pair: Pair) -> None:
    other = make("one", "other")
    await other.start(Recorder())
    kept = await retain(pair[0].bus, "a")
    await settled(*pair)
    assert await found(other, "a") == await found(other) == []
    assert await found(pair[1].bus, "a") == [kept]
    await other.stop()


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_there_is_an_error(pair: Pair, faults: Faults) -> None:
    kept = await retain(pair[0].bus, "a.b")
    await settled(*pair)
    await faults.cut(pair[0])
    for text in ("a.b", "a.*", "**"):
        assert (await answer(pair[0].bus, text)).code == "bus_unavailable"
    await faults.mend(pair[0])
    assert await found(pair[0].bus) == [kept]


@pytest_twisted.ensureDeferred
async def test_metrics_count_what_is_retained(pair: Pair, bus_metrics: Metrics) -> None:
    one, two = pair
    size = len(asked(7)) + 512
    for event_type, data in (("a", b"123"), ("b", b"1"), ("a", b"12")):
        await retain(one.bus, event_type, data)
    await settled(one, two)
    assert (bus_metrics.retained_events, bus_metrics.retained_bytes) == (2, 2 * size + 3)
    assert bus_metrics.retained_evicted == 0
