"""The contract of buses with a history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nexus_tw.bus import bounds
from nexus_tw.interfaces.plugins import IBus, IHistory
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import Missed, Position
from nexus_tw.model.settings import History, Kept
from tests.bus.conftest import KEEPING
from tests.bus.nodes import Faults, Make, Node, Pair, settled
from tests.bus.recording import Recorder, pattern, placed, subscribed, until

pytestmark = pytest.mark.parametrize("make", KEEPING, indirect=True)


def history(bus: IBus) -> Any:
    assert bus.history is not None
    return bus.history


async def asked(ask: Callable[..., None], *what: Any) -> Any:
    """The answer, or the error."""
    done: Deferred[Any] = Deferred()
    ask(*what, done.callback)
    return await done


async def top(bus: IBus, event_type: str) -> Position:
    tops = await asked(history(bus).tops, [event_type])
    found: Position = tops[event_type]
    return found


async def read(bus: IBus, event_type: str, since: Position) -> Missed:
    (missed,) = await asked(history(bus).read, [(event_type, since)])
    assert isinstance(missed, Missed)
    return missed


async def put(bus: IBus, event_type: str, data: bytes = b"{}", metadata: bytes = b"") -> Position:
    position = await placed(bus, event_type, data, metadata)
    assert isinstance(position, Position)
    return position


def said(missed: Missed) -> list[bytes]:
    return [event.data for event in missed.events]


async def node_of(make: Make, bounds: History, name: str = "alone") -> Node:
    """A node of a realm of its own, started."""
    node = Node(make(name, f"realm-{name}", bounds), Recorder())
    await node.bus.start(node.heard)
    return node


@pytest_twisted.ensureDeferred
async def test_a_history_provides_its_interface(pair: Pair) -> None:
    for node in pair:
        assert verifyObject(IHistory, history(node.bus))


@pytest_twisted.ensureDeferred
async def test_every_node_gives_every_event_the_same_position_and_the_offsets_of_a_type_have_no_gap(pair: Pair) -> None:
    one, two = pair
    await subscribed(one.bus, "**")
    await subscribed(two.bus, "p.a", "p.*")
    answers: list[Position | NexusError | None] = []
    for number in range(300):
        pair[number % 2].bus.publish(("p.a", "p.b", "p.c")[number % 3], b"%d" % number, answers.append)
        if number % 50 == 0:
            await settled(one)
    await until(lambda: len(one.heard.events) == len(two.heard.events) == len(answers) == 300)
    assert one.heard.events == two.heard.events
    assert one.heard.positions == two.heard.positions
    assert set(answers) == set(one.heard.positions)
    for event_type in ("p.a", "p.b", "p.c"):
        places = [
            place for (heard, _), place in zip(one.heard.events, one.heard.positions, strict=True) if heard == event_type
        ]
        assert [place.offset for place in places if place is not None] == list(range(1, 101))
        assert len({place.epoch for place in places if place is not None}) == 1
    assert len({place.epoch for place in one.heard.positions if place is not None}) == 3


@pytest_twisted.ensureDeferred
async def test_a_type_without_an_event_has_offset_0_of_the_epoch_in_which_it_begins(pair: Pair) -> None:
    one, two = pair
    before = await asked(history(one.bus).tops, ["new.a", "new.b"])
    assert {event_type: place.offset for event_type, place in before.items()} == {"new.a": 0, "new.b": 0}
    assert await asked(history(two.bus).tops, ["new.b", "new.a", "new.b"]) == before
    assert await put(two.bus, "new.a", b"1") == Position(before["new.a"].epoch, 1)
    assert said(await read(one.bus, "new.a", before["new.a"])) == [b"1"]
    assert await asked(history(one.bus).tops, []) == {}


@pytest_twisted.ensureDeferred
async def test_a_read_gives_exactly_what_came_after_on_any_node_with_all_that_belongs_to_it(pair: Pair) -> None:
    one, two = pair
    places = [await put(one.bus, "r.a", b"%d" % number, b"said \0\r\n%d" % number) for number in range(1, 10)]
    for since in range(10):
        missed = await read(two.bus, "r.a", Position(places[0].epoch, since))
        assert missed.recovered
        assert missed.top == places[-1]
        assert [event.offset for event in missed.events] == list(range(since + 1, 10))
        assert said(missed) == [b"%d" % number for number in range(since + 1, 10)]
        assert [event.metadata for event in missed.events] == [b"said \0\r\n%d" % number for number in range(since + 1, 10)]
        millis = [event.millis for event in missed.events]
        assert millis == sorted(millis)
        assert all(1.7e12 < each < 1e13 for each in millis)


@pytest_twisted.ensureDeferred
async def test_many_requests_are_answered_in_their_order_and_equal_ones_of_one_turn_are_one(
    pair: Pair, bus_metrics: Metrics
) -> None:
    one, _ = pair
    a = [await put(one.bus, "m.a", b"a%d" % number) for number in range(3)]
    b = [await put(one.bus, "m.b", b"b%d" % number) for number in range(3)]
    before = bus_metrics.history_reads
    answers: list[list[Missed] | NexusError] = []
    requests = [("m.b", b[1]), ("m.a", a[0]), ("m.b", b[1]), ("m.a", b[1]), ("m.b", b[2])]
    for _ in range(100):
        history(one.bus).read(requests, answers.append)
    history(one.bus).read([("m.a", a[0])], answers.append)
    history(one.bus).read([], answers.append)
    await until(lambda: len(answers) == 102)
    assert bus_metrics.history_reads - before == 4
    assert answers.count([]) == 1
    whole = max((answer for answer in answers if isinstance(answer, list)), key=len)
    assert [said(missed) for missed in whole] == [[b"b2"], [b"a1", b"a2"], [b"b2"], [], []]
    assert [missed.recovered for missed in whole] == [True, True, True, False, True]
    assert answers.count(whole) == 100


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_recovered_whole_is_not_recovered_at_all(make: Make) -> None:
    node = await node_of(make, History(count=5))
    places = [await put(node.bus, "w.a", b"%d" % number) for number in range(9)]
    epoch = places[0].epoch
    other = await put(node.bus, "w.b")
    for since in (Position(epoch, 0), places[2], Position(epoch, 10), Position("-", 0), Position("x.y", 5), other):
        missed = await read(node.bus, "w.a", since)
        assert (missed.recovered, list(missed.events), missed.top) == (False, [], places[-1])
    missed = await read(node.bus, "w.a", places[3])
    assert (missed.recovered, said(missed)) == (True, [b"%d" % number for number in range(4, 9)])
    await node.bus.stop()


@pytest_twisted.ensureDeferred
async def test_bytes_of_data_and_metadata_are_bounded_exactly(make: Make) -> None:
    node = await node_of(make, History(bytes=1000))
    places = [await put(node.bus, "b.a", b"x" * 200, b"y" * 50) for _ in range(9)]
    assert not (await read(node.bus, "b.a", places[3])).recovered
    assert len((await read(node.bus, "b.a", places[4])).events) == 4
    top = await put(node.bus, "b.a", b"x" * 1001)
    assert not (await read(node.bus, "b.a", places[-1])).recovered
    assert await read(node.bus, "b.a", top) == Missed(True, top, [])
    await node.bus.stop()


@pytest_twisted.ensureDeferred
async def test_each_type_has_the_bounds_of_its_pattern_and_some_have_no_history(make: Make) -> None:
    node = await node_of(make, History(count=3, patterns={"o.*": Kept(count=0), "o.long": Kept(count=6)}))
    await subscribed(node.bus, "**")
    for event_type, kept in (("o.long", 6), ("x", 3)):
        places = [await put(node.bus, event_type) for _ in range(8)]
        assert len((await read(node.bus, event_type, places[7 - kept])).events) == kept
        assert not (await read(node.bus, event_type, places[6 - kept])).recovered
    assert await placed(node.bus, "o.off", b"1") is None
    await until(lambda: len(node.heard.events) == 17)
    assert (node.heard.events[-1], node.heard.positions[-1]) == (("o.off", b"1"), None)
    assert not (await read(node.bus, "o.off", Position("a", 0))).recovered
    assert set(await asked(history(node.bus).tops, ["o.off", "x"])) == {"x"}
    assert set(await asked(history(node.bus).known, pattern("**"))) == {"o.long", "x"}
    await node.bus.stop()


@pytest_twisted.ensureDeferred
async def test_a_pattern_gives_the_positions_of_the_known_types_that_it_selects(make: Make) -> None:
    node = await node_of(make, History())
    places = {event_type: await put(node.bus, event_type) for event_type in ("k.a", "k.a.b", "k.b", "l.a", "nexus.k")}
    places |= await asked(history(node.bus).tops, ["k.quiet"])
    for text, types in {
        "k.a": ["k.a"],
        "k.*": ["k.a", "k.b", "k.quiet"],
        "k.**": ["k.a", "k.a.b", "k.b", "k.quiet"],
        "*.a": ["k.a", "l.a"],
        "**": ["k.a", "k.a.b", "k.b", "k.quiet", "l.a"],
        "nexus.**": ["nexus.k"],
        "never": [],
        "never.*": [],
    }.items():
        found = await asked(history(node.bus).known, pattern(text))
        assert found == {event_type: places[event_type] for event_type in types}, text
    assert await asked(history(node.bus).known, pattern("never")) == {}, "to ask does not begin a type"
    await node.bus.stop()


@pytest_twisted.ensureDeferred
async def test_a_pattern_of_too_many_types_is_refused_with_its_name(make: Make) -> None:
    node = await node_of(make, History())
    names = [f"many.t{number}" for number in range(bounds.MAX_KNOWN + 1)]
    await asked(history(node.bus).tops, names[:-1])
    assert len(await asked(history(node.bus).known, pattern("many.*"))) == bounds.MAX_KNOWN
    await asked(history(node.bus).tops, names[-1:])
    error = await asked(history(node.bus).known, pattern("many.*"))
    assert isinstance(error, NexusError)
    assert error.code == "limit_exceeded"
    assert error.message.startswith("many.*")
    assert len(await asked(history(node.bus).known, pattern("many.t1"))) == 1
    await node.bus.stop()


@pytest_twisted.ensureDeferred
async def test_a_page_is_the_first_events_after_a_position_or_the_oldest_that_are_kept(make: Make) -> None:
    node = await node_of(make, History(count=5))
    places = [await put(node.bus, "g.a", b"%d" % number) for number in range(8)]

    async def page(since: Position | None, limit: int) -> tuple[bool, list[bytes]]:
        missed = await asked(history(node.bus).page, "g.a", since, limit)
        assert missed.top == places[-1]
        return missed.recovered, said(missed)

    assert await page(None, 2) == (True, [b"3", b"4"])
    assert await page(None, 100) == (True, [b"3", b"4", b"5", b"6", b"7"])
    assert await page(places[4], 2) == (True, [b"5", b"6"])
    assert await page(places[6], 2) == (True, [b"7"])
    assert await page(places[7], 2) == (True, [])
    assert await page(places[1], 2) == (False, [])
    assert await page(Position("-", 3), 2) == (False, [])
    missed = await asked(history(node.bus).page, "g.never", None, 5)
    assert (missed.recovered, list(missed.events)) == (True, [])
    await node.bus.stop()


@pytest_twisted.ensureDeferred
async def test_offset_0_of_a_known_epoch_is_the_beginning_of_a_type_that_began_later(pair: Pair) -> None:
    """A subscriber to a pattern that was away gets types that it has never seen from their first event."""
    one, two = pair
    seen = await put(one.bus, "z.seen")
    for number in range(3):
        await put(two.bus, "z.unseen", b"%d" % number)
    missed = await read(one.bus, "z.unseen", Position(seen.epoch, 0))
    assert (missed.recovered, said(missed)) == (True, [b"0", b"1", b"2"])
    assert not (await read(one.bus, "z.unseen", seen)).recovered
    assert not (await read(one.bus, "z.unseen", Position("elsewhere.1", 0))).recovered


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_everything_is_answered_once_and_so_and_afterwards_nothing_is_missing(
    pair: Pair, faults: Faults
) -> None:
    one, two = pair
    await subscribed(one.bus, "c.*")
    before = await put(two.bus, "c.a", b"before")
    await settled(one)
    await faults.cut(one)
    answers: list[Any] = []
    held = history(one.bus)
    held.tops(["c.a"], answers.append)
    held.known(pattern("c.*"), answers.append)
    held.known(pattern("c.a"), answers.append)
    held.read([("c.a", before), ("c.a", before)], answers.append)
    held.page("c.a", None, 5, answers.append)
    one.bus.publish("c.a", b"lost", answers.append)
    await until(lambda: len(answers) == 6)
    assert {answer.code for answer in answers} == {"bus_unavailable"}
    for number in range(3):
        await put(two.bus, "c.a", b"%d" % number)
    await settled(two)
    await faults.mend(one)
    missed = await read(one.bus, "c.a", before)
    assert (missed.recovered, said(missed)) == (True, [b"0", b"1", b"2"])
    after = await put(two.bus, "c.a", b"after")
    assert after == Position(before.epoch, missed.top.offset + 1)
    await settled(one)
    await until(lambda: one.heard.events[-1:] == [("c.a", b"after")])
    assert one.heard.events == [("c.a", b"before"), ("c.a", b"after")]
    assert one.heard.positions == [before, after]
    assert len(answers) == 6


@pytest_twisted.ensureDeferred
async def test_what_is_asked_for_and_the_bus_goes_away_is_answered_once(pair: Pair, faults: Faults) -> None:
    one, _ = pair
    place = await put(one.bus, "q.a")
    answers: list[Any] = []
    history(one.bus).read([("q.a", place)] * 3, answers.append)
    history(one.bus).read([("q.a", place), ("q.b", place)], answers.append)
    history(one.bus).known(pattern("q.*"), answers.append)
    await faults.cut(one)
    await until(lambda: len(answers) == 3)
    await faults.mend(one)
    assert (await read(one.bus, "q.a", place)).recovered
    assert len(answers) == 3
    for answer in answers:
        assert not isinstance(answer, NexusError) or answer.code == "bus_unavailable"


@pytest_twisted.ensureDeferred
async def test_events_lost_on_their_way_leave_a_gap_in_the_offsets_that_the_history_fills(pair: Pair, faults: Faults) -> None:
    one, two = pair
    await subscribed(one.bus, "d.a")
    await put(two.bus, "d.a", b"1")
    await settled(one)
    faults.drop(one, 2)
    for number in range(2, 6):
        await put(two.bus, "d.a", b"%d" % number)
    await settled(one)
    await until(lambda: len(one.heard.events) == 3)
    places: Sequence[Any] = one.heard.positions
    assert [place.offset for place in places] == [1, 4, 5]
    assert said(await read(one.bus, "d.a", places[0])) == [b"2", b"3", b"4", b"5"]


@pytest_twisted.ensureDeferred
async def test_a_callback_that_fails_costs_the_others_nothing(pair: Pair, flush: Callable[[], int]) -> None:
    one, _ = pair
    place = await put(one.bus, "f.a")
    answers: list[Any] = []

    def fails(_answer: Any) -> None:
        raise RuntimeError("on purpose")

    for done in (fails, answers.append, fails, answers.append):
        history(one.bus).read([("f.a", place)], done)
    for done in (fails, answers.append):
        history(one.bus).known(pattern("f.*"), done)
    await until(lambda: len(answers) == 3 and flush() == 3)
    assert (await read(one.bus, "f.a", place)).recovered


@pytest_twisted.ensureDeferred
async def test_each_realm_has_a_history_of_its_own(make: Make) -> None:
    one, two = await node_of(make, History(), "one"), await node_of(make, History(), "two")
    place = await put(one.bus, "a")
    await put(one.bus, "a")
    assert (await top(two.bus, "a")).offset == 0
    assert not (await read(two.bus, "a", place)).recovered
    assert set(await asked(history(two.bus).known, pattern("**"))) == {"a"}
    for node in (one, two):
        await node.bus.stop()
