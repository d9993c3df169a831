"""The checker finds each kind of violation, and nothing where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reliability.book import Book, Watcher

TYPE = "work"


class Case:
    def __init__(self) -> None:
        self.book = Book()
        self.watcher = Watcher("watcher", [TYPE], self.book)
        self.watcher.subscribed({"positions": {TYPE: "e:0"}}, None)

    def acknowledge(self, *numbers: int, epoch: str = "e") -> None:
        for number in numbers:
            self.book.taken(TYPE, "p", number, f"{epoch}:{number}")

    def see(self, number: int, position: str | None = None) -> None:
        self.watcher.event({"eventType": TYPE, "position": position or f"e:{number}"}, "p", number)

    def say(self, recovered: bool, position: str | None, name: str = TYPE) -> None:
        message: dict[str, Any] = {"eventType": name, "recovered": recovered}
        self.watcher.continuity(message if position is None else message | {"position": position})

    def faults(self) -> list[str]:
        self.book.check([self.watcher])
        return self.book.faults


def test_all_in_order_is_well() -> None:
    case = Case()
    case.acknowledge(1, 2, 4)
    for number in (1, 2, 3, 4):  # 3 was refused, but carried out
        case.see(number)
    case.say(True, "f:4")
    case.acknowledge(5, epoch="f")
    case.see(5, "f:5")
    assert case.faults() == []


@pytest.mark.parametrize("name", [TYPE, "**"])
def test_a_gap_that_was_told_is_well_for_what_lies_in_it_only(name: str) -> None:
    case = Case()
    case.acknowledge(1, 2, 3, 4, 5, 6)
    case.see(1)
    case.say(False, "e:3" if name == TYPE else None, name)
    case.see(4)
    case.see(5)
    assert case.faults() == ["watcher was never sent p 6, which was acknowledged, nor told of a gap"]


def test_a_silent_gap_is_found_by_position_and_by_what_was_acknowledged() -> None:
    case = Case()
    case.acknowledge(1, 2, 3)
    case.see(1)
    case.see(3)
    by_position, by_acknowledgement = case.faults()
    assert "stood at ('e', 1) in work, got ('e', 3)" in by_position
    assert "never sent p 2" in by_acknowledgement


def test_of_the_servers_own_events_a_gap_may_be_told_later_but_must_be_told() -> None:
    case = Case()
    case.acknowledge(1, 2, 3)
    case.see(1)
    case.see(3, "e:2")
    case.book.faults.clear()
    case.book.check([case.watcher], TYPE)
    assert case.book.faults == ["watcher was never sent p 2, which was acknowledged, nor told of a gap"]
    case.book.faults.clear()
    case.say(False, "e:2")
    case.book.check([case.watcher], TYPE)
    assert (case.book.faults, case.book.unannounced) == ([], 2)


def test_a_duplicate_is_found_also_under_a_new_position() -> None:
    case = Case()
    case.see(1)
    case.see(1)
    assert len(case.faults()) == 2
    case = Case()
    case.see(1)
    case.say(False, "f:7")
    case.see(1, "f:8")
    assert case.faults() == ["watcher got p 1 after 1"]


def test_a_wrong_recovery_is_found() -> None:
    case = Case()
    case.see(1)
    case.say(True, "e:2")
    assert "is told to have all up to ('e', 2)" in case.faults()[0]
    case = Case()
    case.see(1)
    case.watcher.subscribed({"positions": {TYPE: "e:3"}, "recovered": {TYPE: True}}, {TYPE: "e:1"})
    assert "is told to have all up to ('e', 3)" in case.faults()[0]
    case.watcher.subscribed({"positions": {TYPE: "e:3"}}, {TYPE: "e:3"})
    assert "is not told whether" in case.faults()[1]


def test_one_position_is_one_event() -> None:
    case = Case()
    case.acknowledge(1)
    case.see(2, "e:1")
    assert any("at e:1" in fault for fault in case.faults())
