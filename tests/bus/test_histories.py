"""The histories of all types: what is dropped first, and that no position ever gets a wrong answer."""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.history import EVENT_COST, LOG_COST, TYPE_COST, History
from nexus_tw.model import settings
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import NOWHERE, Missed, Position, Stored
from nexus_tw.model.settings import Kept


class World:
    """A history, and all that was ever published."""

    def __init__(self, types: int = 100, **bounds: Any) -> None:
        self.metrics = Metrics()
        names = (f"t{number}" for number in count())
        self.history = History(Bounds(settings.History(**bounds)), self.metrics, types, lambda: next(names))
        self.now = 0.0
        self.published: list[tuple[str, Position, bytes]] = []

    def publish(self, event_type: str, data: bytes = b"1") -> Position:
        position = self.history.append(event_type, data, b"", 0, self.now)
        assert position is not None
        self.published.append((event_type, position, data))
        return position

    def top(self, event_type: str) -> Position:
        top = self.history.top(event_type)
        assert top is not None
        return top

    def read(self, event_type: str, since: Position) -> Missed:
        return self.history.read(event_type, since, self.now)

    def cost(self) -> int:
        """Return the gauges, after checking them against the content."""
        logs = [log for log, _ in self.history._logs.values()]
        events, size = sum(map(len, logs)), sum(log.size for log in logs)
        cost = TYPE_COST * len(logs) + LOG_COST * sum(map(bool, logs)) + EVENT_COST * events + size
        seen = self.metrics
        assert (seen.history_types, seen.history_events, seen.history_bytes) == (len(logs), events, cost)
        assert set(self.history._empty) == {name for name, (log, _) in self.history._logs.items() if not log}
        return cost


def test_offsets_begin_at_1_and_a_type_that_has_had_no_event_has_offset_0() -> None:
    world = World()
    empty = world.top("a")
    assert empty.offset == 0
    assert world.top("a") == empty
    assert [world.publish("a") for _ in range(3)] == [Position(empty.epoch, number) for number in (1, 2, 3)]
    assert world.publish("b").offset == 1
    assert world.read("a", empty) == Missed(True, Position(empty.epoch, 3), [Stored(number, b"1", 0) for number in (1, 2, 3)])
    assert world.read("a", world.top("a")) == Missed(True, world.top("a"), [])


def test_what_cannot_be_read_whole_is_not_read_at_all_and_counted() -> None:
    world = World(count=2)
    first = world.publish("a")
    for _ in range(3):
        world.publish("a")
    top = world.top("a")
    for since in (first, Position("other", 1), Position(top.epoch, 5), Position("-", 0)):
        assert world.read("a", since) == Missed(False, top)
    assert (world.metrics.history_reads, world.metrics.history_gaps) == (4, 4)
    assert world.read("a", Position(top.epoch, 2)).recovered
    assert (world.metrics.history_reads, world.metrics.history_gaps) == (5, 4)


def test_a_type_without_history_has_no_position_and_nothing_is_recovered() -> None:
    world = World(patterns={"b": Kept(count=0)})
    assert world.history.append("b", b"1", b"", 0, 0) is None
    assert world.history.top("b") is None
    assert world.history.known("b") is None
    assert world.read("b", Position("e", 0)) == Missed(False, NOWHERE)
    assert world.history.oldest("b", 9, 0) == Missed(True, NOWHERE)
    assert world.metrics.history_reads == 0
    assert world.cost() == 0


def test_a_page_begins_after_the_position_or_with_the_oldest_that_is_young_enough() -> None:
    world = World(age=10)
    for number in range(6):
        world.now = number * 4.0
        world.publish("a", b"%d" % number)
    top = world.top("a")
    page = world.history.oldest("a", 2, world.now)
    assert page == Missed(True, top, [Stored(4, b"3", 0), Stored(5, b"4", 0)])
    assert world.history.read("a", Position(top.epoch, 4), world.now, 1) == Missed(True, top, [Stored(5, b"4", 0)])
    assert world.history.read("a", Position(top.epoch, 1), world.now, 1) == Missed(False, top)
    assert world.history.oldest("never", 2, world.now) == Missed(True, Position("t0.-", 0))
    assert world.history.known("never") is None


def test_past_the_total_the_type_published_longest_ago_loses_its_events_and_keeps_its_place() -> None:
    room = 3 * (TYPE_COST + LOG_COST + EVENT_COST) + 3000
    world = World(total=room, bytes=room, patterns={"c": Kept(age=1000)})
    tops = {}
    for event_type in ("a", "c", "b"):
        tops[event_type] = world.publish(event_type, b"x" * 1000)
        world.now += 1
    tops["a"] = world.publish("a", b"")  # one more event, for which there is no room: of c, under whichever bound
    assert world.cost() <= room
    assert world.metrics.history_trimmed == {"total": 1}
    assert not world.read("c", Position(tops["c"].epoch, 0)).recovered
    for event_type, top in tops.items():
        assert world.top(event_type) == top
        assert world.read(event_type, top) == Missed(True, top, [])
    assert len(world.read("b", Position(tops["b"].epoch, 0)).events) == 1
    assert world.publish("c") == Position(tops["c"].epoch, 2)


def test_a_type_that_is_published_again_keeps_its_events_longer_than_one_that_is_not() -> None:
    room = 2 * (TYPE_COST + LOG_COST) + 4 * (EVENT_COST + 100)
    world = World(total=room, bytes=room)
    for event_type in ("a", "b", "a", "b", "a"):
        world.publish(event_type, b"x" * 100)
    assert world.history._logs["b"][0].size == 0
    assert world.history._logs["a"][0].size == 300


def test_past_the_number_of_types_one_without_events_is_forgotten_and_begins_a_new_epoch() -> None:
    world = World(types=3)
    quiet, busy = world.top("quiet"), world.publish("busy")
    world.publish("third")
    assert world.top("fourth").offset == 0
    assert world.history.known("quiet") is None
    assert world.top("busy") == busy
    again = world.top("quiet")  # in the place of `fourth`
    assert again.epoch != quiet.epoch
    assert world.read("quiet", quiet) == Missed(False, again)
    world.publish("fourth")
    world.publish("fifth")  # all three have events now: those of `busy` go first
    assert world.history.known("busy") is None
    assert world.metrics.history_trimmed == {"types": 1}
    assert world.cost() > 0


def test_a_total_smaller_than_one_event_keeps_the_place_all_the_same() -> None:
    world = World(total=1, bytes=1)
    assert [world.publish("a").offset for _ in range(3)] == [1, 2, 3]
    assert world.read("a", world.top("a")).recovered
    first = world.top("a")
    world.publish("b")
    assert world.top("b").offset == 1
    assert world.top("a").epoch != first.epoch
    world.cost()


def test_types_expire_when_their_last_event_is_past_its_age_whatever_their_bounds() -> None:
    world = World(age=10, patterns={"long": Kept(age=30)})
    history = world.history
    assert history.expire(0) is None
    world.publish("a")
    world.publish("long")
    world.now = 5
    world.publish("b")
    world.publish("a")
    assert history.expire(15) == 15
    assert world.metrics.history_events == 4
    world.now = 15.5
    assert history.expire(15.5) == 30
    assert world.metrics.history_trimmed == {"age": 3}
    assert world.top("a").offset == 2
    assert history.expire(31) is None
    assert world.cost() == 3 * TYPE_COST


def test_offset_0_of_another_epoch_is_the_beginning_of_a_type_that_began_within_the_same_timeline() -> None:
    world = World(types=3)
    known = world.top("known")
    world.publish("new")
    found = world.read("new", Position(known.epoch, 0))
    assert found.recovered and len(found.events) == 1
    before = world.read("newer", Position(known.epoch, 0))
    assert before == Missed(True, Position("t0.-", 0))
    assert world.history.known("newer") is None, "to read does not begin a type"
    assert not world.read("newer", Position("other.-", 0)).recovered
    assert not world.read("new", Position(known.epoch, 1)).recovered
    assert world.top("newer").offset == 0
    assert world.read("newer", before.top) == Missed(True, world.top("newer"), [])
    # Whoever has known `known` cannot be sure of what is born after something was forgotten.
    world.publish("known")
    world.publish("last")
    assert world.history.known("newer") is None
    assert not world.read("last", Position(known.epoch, 0)).recovered
    assert world.read("new", Position(known.epoch, 0)).recovered


def test_two_histories_have_no_epoch_in_common() -> None:
    epochs = {History(Bounds(settings.History()), Metrics()).top("a") for _ in range(100)}
    assert len(epochs) == 100
    assert all(top is not None and Position.parse(top.text, "x") == top and len(top.epoch) < 16 for top in epochs)


TYPES = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.tuples(st.just("publish"), TYPES, st.integers(1, 40)),
    st.tuples(st.just("publish"), TYPES, st.integers(1, 40)),
    st.tuples(st.just("top"), TYPES, st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.integers(0, 6)),
    st.tuples(st.just("expire"), st.just(""), st.just(0)),
)


@given(st.lists(STEPS, max_size=40), st.integers(1, 6), st.integers(1, 6000), st.integers(1, 5))
def test_no_position_ever_gets_a_wrong_answer_and_all_bounds_hold(
    steps: list[tuple[str, str, int]], types: int, total: int, most: int
) -> None:
    """Property: every position that was ever given, asked for every type at every step, gives exactly what came after it."""
    world = World(types, total=total, bytes=50, count=most, age=10, patterns={"a": Kept(age=3, count=9), "b": Kept(bytes=5)})
    born: dict[str, int] = {}  # when an epoch was first given, in events published
    given_out: dict[tuple[str, Position], None] = {}
    for kind, event_type, size in steps:
        if kind == "publish":
            given_out[event_type, world.publish(event_type, b"x" * size)] = None
        elif kind == "top":
            given_out[event_type, world.top(event_type)] = None
        elif kind == "wait":
            world.now += size
        else:
            world.history.expire(world.now)
        for _, position in given_out:
            born.setdefault(position.epoch, len(world.published))
        cost = world.cost()
        assert world.metrics.history_types <= types
        assert cost <= max(total, TYPE_COST)
        for asked, since in given_out:
            answer = world.read(asked, since)
            assert world.history.known(asked) in (None, answer.top)
            if answer.recovered:
                # One epoch is that of one type at one time, so offsets say all.
                later = [
                    Stored(place.offset, data, 0)
                    for name, place, data in world.published
                    if name == asked and place.epoch == since.epoch and place.offset > since.offset
                ]
                assert list(answer.events) == later
                assert answer.top.epoch == since.epoch or (not since.offset and not later)
            else:
                assert not answer.events
            for other in "abcdef":
                if other == asked:
                    continue
                found = world.read(other, Position(since.epoch, 0))
                if found.recovered:
                    # None that was published since that epoch was known is missing, and nothing else is there.
                    after = [(place, data) for name, place, data in world.published[born[since.epoch] :] if name == other]
                    events = [(Position(found.top.epoch, each.offset), each.data) for each in found.events]
                    assert events[len(events) - len(after) :] == after
                    assert [each.offset for each in found.events] == list(range(1, found.top.offset + 1))
