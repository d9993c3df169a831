"""The commands that run here, and the results of those that ran."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from nexus_client.core.effects import CancelInvocation, Invoke, Report
from nexus_client.core.link import Link
from nexus_client.core.messages import Message, encode, parse_time
from nexus_client.core.registrations import Registrations
from nexus_client.core.stats import Stats

KEPT: Final = 1000  # results
KEPT_BYTES: Final = 16 * 1024 * 1024  # characters of all of them
KEPT_FOR: Final = 86_400.0  # seconds; the server remembers a command as long

# What makes two commands of the server the same one: commandId, agent, caller, name.
Key = tuple[str, str | None, str | None, str]


class Execution:
    """A handler that runs. `connection` is the attempt on which the server gave the command last, and takes an answer."""

    __slots__ = ("cancelled", "connection", "deadline", "key", "number")

    def __init__(self, number: int, key: Key, connection: int, deadline: float) -> None:
        self.number = number
        self.key = key
        self.connection = connection
        self.deadline = deadline
        self.cancelled = False


class Executions:
    """Run each command once, also if it comes again after a lost connection: then the same execution answers."""

    def __init__(self, link: Link, registrations: Registrations, stats: Stats, most: int) -> None:
        self._link = link
        self._registrations = registrations
        self._stats = stats
        self._most = most
        self._number = 0
        self._running: dict[int, Execution] = {}
        self._by_key: dict[Key, Execution] = {}
        self._kept: OrderedDict[Key, tuple[float, dict[str, Any] | None, int]] = OrderedDict()
        self._kept_bytes = 0

    def command(self, now: float, message: Message) -> None:
        key = (message.commandId, message.agentId, message.caller, message.command)
        deadline = parse_time(message.deadline) - self._link.clock
        running = self._by_key.get(key)
        self._forget(now)
        if running is not None:
            self._stats.repeats += 1
            running.connection = self._link.attempt
            running.deadline = deadline
            running.cancelled = False  # somebody waits for it again
        elif key in self._kept:
            self._stats.repeats += 1
            answer = self._kept[key][1]
            self._answer(key, answer if answer is not None else failure("executed, but its result is no longer kept"))
        elif message.command not in self._registrations:
            self._answer(key, failure(f"this client does not execute {message.command}"))
        elif len(self._running) >= self._most:
            self._stats.busy += 1
            self._answer(key, failure("too busy"))
        else:
            self._stats.commands += 1
            self._number += 1
            self._running[self._number] = self._by_key[key] = Execution(self._number, key, self._link.attempt, deadline)
            self._link.emit(
                Invoke(
                    self._number,
                    message.command,
                    message.parameters,
                    message.caller,
                    message.agentId,
                    message.attempt,
                    deadline,
                )
            )

    def cancel(self, message: Message) -> None:
        for execution in self._running.values():
            if execution.key[0] == message.commandId and message.agentId in (None, execution.key[1]):
                self._cancel(execution, message.reason)

    def cancel_all(self) -> None:
        for execution in self._running.values():
            self._cancel(execution, "closed")

    def progress(self, number: int, data: Any) -> None:
        execution = self._running.get(number)
        if execution is None:
            return
        text = encode(_about(execution.key, {"type": "command_progress", "data": data}))
        if self._reachable(execution):
            if excess := self._link.excess(text):
                self._link.emit(Report("command", f"progress of {excess} bytes is too long and was not sent"))
            else:
                self._link.send(text)

    def end(self, now: float, number: int, answer: dict[str, Any]) -> None:
        size = len(encode(answer))
        execution = self._running.pop(number, None)
        if execution is None:
            return
        del self._by_key[execution.key]
        self._forget(now)
        self._kept[execution.key] = (now, answer, size)
        self._kept_bytes += size
        self._bound()
        if self._reachable(execution):
            self._answer(execution.key, answer)

    def deadline(self) -> float | None:
        return min((execution.deadline for execution in self._running.values() if self._orphaned(execution)), default=None)

    def tick(self, now: float) -> None:
        for execution in self._running.values():
            if execution.deadline <= now and self._orphaned(execution):
                self._cancel(execution, "timeout")

    def _orphaned(self, execution: Execution) -> bool:
        """Return whether no server would tell the end of its time."""
        return not execution.cancelled and not (self._link.up and execution.connection == self._link.attempt)

    def _reachable(self, execution: Execution) -> bool:
        return self._link.up and execution.connection == self._link.attempt and not execution.cancelled

    def _cancel(self, execution: Execution, reason: str) -> None:
        if not execution.cancelled:
            execution.cancelled = True
            self._link.emit(CancelInvocation(execution.number, reason))

    def _answer(self, key: Key, answer: dict[str, Any]) -> None:
        text = encode(_about(key, answer))
        if excess := self._link.excess(text):
            why = f"the result has {excess} bytes, more than {self._link.limit}"
            self._link.emit(Report("command", f"{key[3]}: {why}"))
            text = encode(_about(key, failure(why)))
        self._link.send(text)

    def _forget(self, now: float) -> None:
        while self._kept and next(iter(self._kept.values()))[0] + KEPT_FOR <= now:
            self._kept_bytes -= self._kept.popitem(last=False)[1][2]

    def _bound(self) -> None:
        while len(self._kept) > KEPT:
            self._kept_bytes -= self._kept.popitem(last=False)[1][2]
        for key, (at, _, size) in self._kept.items():
            if self._kept_bytes <= KEPT_BYTES:
                break
            # That it ran stays known, so that it does not run twice.
            self._kept_bytes -= size
            self._kept[key] = (at, None, 0)


def success(data: Any) -> dict[str, Any]:
    """Return the members of a result."""
    return {"type": "command_result", "data": data}


def failure(message: str) -> dict[str, Any]:
    """Return the members of a failure."""
    return {"type": "command_result", "status": "error", "message": message}


def _about(key: Key, members: dict[str, Any]) -> dict[str, Any]:
    about = {**members, "commandId": key[0]}
    if key[1] is not None:
        about["agentId"] = key[1]
    return about
