"""The judge of commands and presence finds each violation, and accuses nobody falsely."""

from __future__ import annotations

import pytest

from tests.reliability.duty import Judge, Lookout, Order


def scene(retries: int = 0) -> tuple[Judge, Lookout]:
    judge = Judge()
    judge.given(Order("c", "a", retries))
    return judge, Lookout("guard", judge)


def test_a_command_that_is_executed_and_ends_once_is_right() -> None:
    judge, guard = scene(retries=1)
    judge.began("c", "a", 1).over = True
    second = judge.began("c", "a", 2)
    second.over = second.answered = True
    for state in ("queued", "sent", "running", "sent", "completed"):
        guard.task("c", state)
    judge.told("c", "success")
    judge.told("c", "success")  # to one who asked again
    judge.check([guard])
    assert judge.faults == []
    assert (judge.ended, judge.repeated) == (1, 1)


def test_a_refused_command_is_not_announced() -> None:
    judge, guard = scene()
    judge.refused.add("c")
    judge.told("c", "agent_offline")
    judge.check([guard])
    assert judge.faults == []


def test_executions_beyond_what_is_allowed_are_found() -> None:
    judge, _ = scene(retries=1)
    judge.began("c", "a", 1)
    judge.began("c", "a", 1)
    assert judge.faults == ["c is executed twice at a time, attempt 1", "c was attempt 1, then 1"]
    judge.began("c", "b", 2)
    assert judge.faults[2:] == [
        "c is for a, and b got it",
        "c is executed twice at a time, attempt 2",
        "c is executed 3 times, with 1 retries",
    ]


def test_ends_that_contradict_each_other_are_found() -> None:
    judge, guard = scene()
    judge.began("c", "a", 1).over = True
    judge.told("c", "success")
    judge.told("c", "expired")
    guard.task("c", "failed")
    judge.check([guard])
    assert judge.faults == [
        "c succeeded, and nobody has done it",
        "c ended as success, then as expired",
        "c expired, and was executed",
        "c ended as success, and guard was told ['failed']",
    ]


def test_a_command_without_an_end_or_announced_twice_is_found() -> None:
    judge, guard = scene()
    judge.check([guard])
    assert judge.faults == ["c has no end; attempts []"]
    judge, guard = scene()
    judge.told("c", "timeout")
    guard.task("c", "failed")
    guard.task("c", "failed")
    judge.check([guard])
    assert judge.faults == ["c ended as timeout, and guard was told ['failed', 'failed']"]


@pytest.mark.parametrize(
    "states", [["completed"], ["queued", "queued"], ["sent", "running", "running"], ["queued", "completed"]]
)
def test_states_that_are_announced_twice_or_out_of_order_are_found(states: list[str]) -> None:
    judge, guard = scene()
    execution = judge.began("c", "a", 1)
    execution.over = execution.answered = True
    judge.told("c", "success")
    told = states if states[-1] == "completed" else [*states, "sent", "completed"]
    for state in told:
        guard.task("c", state)
    judge.check([guard])
    assert judge.faults == [f"c: guard was told {told}"]


def test_who_was_told_of_a_gap_may_have_missed_the_end() -> None:
    judge, guard = scene()
    judge.told("c", "timeout")
    guard.gap("task.updated")
    judge.check([guard])
    assert judge.faults == []


def test_an_agent_is_online_and_offline_in_turn() -> None:
    judge, guard = scene()
    for status in ("online", "offline", "online"):
        guard.agent("a", status)
    assert judge.faults == []
    guard.agent("a", "online")
    guard.agent("b", "offline")
    assert judge.faults == [
        "guard was told that a is online, which it was",
        "guard was told that b is offline, which it was",
    ]
