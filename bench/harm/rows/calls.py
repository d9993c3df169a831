"""Calls of WAMP."""

from __future__ import annotations

from bench.harm.stage import Stage

LARGE = "x" * 60_000
CALL, RESULT, REGISTER, INVOCATION, YIELD = 48, 50, 64, 68, 70


def answered(stage: Stage) -> None:
    """Calls of 60 kB with results of the same size, one after another."""
    caller, callee = stage.wamp("callee"), stage.wamp("callee")
    callee.ask([REGISTER, 1, {}, "echo"])
    for number in range(1, 201):
        if not caller.say([CALL, number, {}, "echo", [LARGE]]):
            break
        for message in callee.messages():
            callee.say([YIELD, message[1], {}, [LARGE]])
        caller.messages()


def unanswered(stage: Stage) -> None:
    """4 sessions with calls of 60 kB that are never answered."""
    callee = stage.wamp("callee")
    callee.ask([REGISTER, 1, {}, "hole"])
    for _ in range(4):
        caller = stage.wamp("callee")
        for number in range(1, 101):
            if not caller.say([CALL, number, {}, "hole", [LARGE]]):
                break
    callee.heed(1.0)


def orphaned(stage: Stage) -> None:
    """The maximum number of open calls from 4 sessions, whose callee then leaves."""
    callee = stage.wamp("callee")
    callee.ask([REGISTER, 1, {}, "hole"])
    callers = [stage.wamp("callee") for _ in range(4)]
    for number in range(1, 1001):
        callee.heed(0.002)
        if not all(caller.say([CALL, number, {}, "hole", [LARGE]]) for caller in callers):
            break
    callee.heed(1.0)
    callee.close()
    for caller in callers:
        caller.heed(0.3)
