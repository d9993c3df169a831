"""The history of one event type, against a plain list of all its events."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.bus.bounds import Bound
from nexus_tw.bus.log import Log, Verdict
from nexus_tw.model.positions import Position, Stored


class Published(NamedTuple):
    stored: Stored
    now: float

    @property
    def size(self) -> int:
        return len(self.stored.data) + len(self.stored.metadata)


class Model:
    """All events that there were, and which of them are kept."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.all: list[Published] = []
        self.first = 0

    def append(self, data: bytes, metadata: bytes, millis: int, now: float) -> None:
        self.all.append(Published(Stored(len(self.all) + 1, data, millis, metadata), now))
        while not self.fits(self.all[self.first :], now):
            self.first += 1

    def fits(self, kept: list[Published], now: float) -> bool:
        if len(kept) > self.bound.count or sum(each.size for each in kept) > self.bound.bytes:
            return False
        return all(each.now + self.bound.age >= now for each in kept)

    def verdict(self, since: Position, epoch: str, now: float) -> Verdict:
        if since.epoch != epoch:
            return Verdict.EPOCH
        if since.offset > len(self.all):
            return Verdict.AHEAD
        missed = self.all[since.offset :]
        if missed and since.offset < self.first:
            return Verdict.TRIMMED
        return Verdict.WHOLE if all(each.now + self.bound.age >= now for each in missed) else Verdict.OLD


BOUNDS = st.builds(Bound, st.integers(1, 8), st.integers(1, 12).map(float), st.integers(1, 30))
EVENTS = st.tuples(st.just("append"), st.binary(min_size=1, max_size=9), st.binary(max_size=4))
WAITS = st.tuples(st.just("wait"), st.integers(0, 7))
CLEARS = st.tuples(st.just("clear"))


@given(BOUNDS, st.lists(st.one_of(EVENTS, EVENTS, WAITS, CLEARS), max_size=40))
def test_a_log_is_a_list_of_which_the_beginning_is_forgotten(bound: Bound, steps: list[Any]) -> None:
    """Property: every position, at every step, gets the verdict and exactly the events that the list says."""
    trimmed: Counter[str] = Counter()
    log, model, now = Log("e", bound, trimmed), Model(bound), 0.0
    dropped = 0
    for kind, *what in steps:
        if kind == "append":
            data, metadata = what
            dropped += log.append(data, metadata, int(now) + 7, now)
            model.append(data, metadata, int(now) + 7, now)
            assert dropped == sum(trimmed.values())
        elif kind == "wait":
            now += what[0]
        else:
            trimmed["cleared"] += (cleared := log.clear())
            dropped += cleared
            model.first = len(model.all)
        kept = model.all[model.first :]
        assert log.top == Position("e", len(model.all))
        assert len(log) == len(kept)
        assert log.size == sum(each.size for each in kept)
        assert dropped == model.first
        assert not kept or log.newest == kept[-1].now
        for offset in range(len(model.all) + 3):
            since = Position("e", offset)
            verdict = log.verdict(since, now)
            assert verdict is model.verdict(since, "e", now), offset
            assert log.verdict(Position("f", offset), now) is Verdict.EPOCH
            if verdict is Verdict.WHOLE:
                missed = [each.stored for each in model.all[offset:]]
                assert log.after(offset) == missed
                for limit in (1, 3):
                    assert log.after(offset, limit) == missed[:limit]
        assert log.oldest(now) == min(
            offset
            for offset in range(model.first, len(model.all) + 1)
            if model.verdict(Position("e", offset), "e", now) is Verdict.WHOLE
        )


@pytest.mark.parametrize(
    ("bound", "why"),
    [(Bound(2, 100, 100), "count"), (Bound(9, 5, 100), "age"), (Bound(9, 100, 8), "bytes")],
)
def test_each_bound_drops_the_oldest_and_is_counted_by_its_name(bound: Bound, why: str) -> None:
    trimmed: Counter[str] = Counter()
    log = Log("e", bound, trimmed)
    for number in range(4):
        log.append(b"%d" % number, b"abc", 0, number * 4.0)
    assert trimmed == {why: 2}
    assert log.after(2) == [Stored(3, b"2", 0, b"abc"), Stored(4, b"3", 0, b"abc")]
    assert log.verdict(Position("e", 1), 12) is Verdict.TRIMMED


def test_an_event_is_kept_for_exactly_its_age() -> None:
    log = Log("e", Bound(9, 5, 100), Counter())
    log.append(b"1", b"", 0, 10)
    assert log.verdict(Position("e", 0), 15) is Verdict.WHOLE
    assert log.verdict(Position("e", 0), 15.001) is Verdict.OLD
    assert log.verdict(Position("e", 1), 1e9) is Verdict.WHOLE


def test_an_event_larger_than_all_that_may_be_kept_counts_and_is_not_kept() -> None:
    log = Log("e", Bound(9, 5, 3), Counter())
    log.append(b"1", b"", 0, 0)
    log.append(b"12345", b"", 0, 0)
    assert (log.top.offset, len(log), log.size) == (2, 0, 0)
    log.append(b"3", b"", 0, 0)
    assert log.after(2) == [Stored(3, b"3", 0)]
    assert log.verdict(Position("e", 1), 0) is Verdict.TRIMMED


class Counted(deque[Any]):
    """Counts the events that are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        for each in super().__iter__():
            self.looks += 1
            yield each

    def __reversed__(self) -> Iterator[Any]:
        for each in super().__reversed__():
            self.looks += 1
            yield each


def looks(offset: int, limit: int | None = None) -> int:
    log: Any = Log("e", Bound(10000, 100, 10**9), Counter())
    for _ in range(10000):
        log.append(b"1", b"", 0, 0)
    log.events = Counted(log.events)
    assert len(log.after(offset, limit)) == min(limit or 10000, 10000 - offset)
    found: int = log.events.looks
    return found


def test_a_read_of_n_events_looks_at_n_events_and_a_page_from_the_nearer_end() -> None:
    for missed in (0, 1, 10, 1000, 5000, 9999, 10000):
        assert looks(10000 - missed) <= missed + 1
    assert looks(0, 50) == 50
    assert looks(100, 50) == 150
    assert looks(9900, 50) == 100
