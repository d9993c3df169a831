"""The watch: silence counts only while the roll is read."""

from __future__ import annotations

from nexus_tw.fleet.watch import Watch


def test_a_node_is_dead_after_its_silence() -> None:
    watch = Watch(1.0, 6.0)
    found = [watch.observe(now, ["a", "b"], {"a": 1, "b": int(now)}) for now in map(float, range(8))]
    assert found == [[], [], [], [], [], [], [("a", 1)], [("a", 1)]]


def test_one_that_is_missing_is_silent_too() -> None:
    watch = Watch(1.0, 2.0)
    assert [watch.observe(float(now), ["a"], {}) for now in range(3)] == [[], [], [("a", 0)]]


def test_a_break_in_reading_begins_anew() -> None:
    watch = Watch(1.0, 6.0)
    for now in range(6):
        assert watch.observe(float(now), ["a"], {"a": 1}) == []
    assert watch.observe(8.0, ["a"], {"a": 1}) == []
    assert [watch.observe(8.0 + now, ["a"], {"a": 1}) for now in range(1, 7)] == [[], [], [], [], [], [("a", 1)]]
    watch.interrupt()
    assert watch.observe(15.0, ["a"], {"a": 1}) == []


def test_one_whose_beats_do_not_change_is_silent_long_before_it_is_dead() -> None:
    watch = Watch(1.0, 6.0)
    for now in range(4):
        watch.observe(float(now), ["a", "late"], {"a": 1, "late": now // 2})
    assert watch.silent(3.9, "a") and not watch.silent(3.9, "late"), "a beat may miss the reading"
    assert not watch.silent(3.9, "unknown")
    assert not watch.silent(9.0, "a"), "this node has not read the roll for a while"
    watch.interrupt()
    assert not watch.silent(3.9, "a")
