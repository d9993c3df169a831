"""Requests of the application that the server answers: events to publish, commands to call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from nexus_client.core.effects import Outcome, Progress, Settle
from nexus_client.core.link import Link
from nexus_client.core.messages import Message, encode, numbered
from nexus_client.errors import (
    CommandCancelled,
    CommandError,
    CommandTimeout,
    ConnectionLost,
    NexusError,
    NotConnected,
    Overloaded,
    RequestError,
    Timeout,
)

_COMMAND_ERRORS = {"cancelled": CommandCancelled, "timeout": CommandTimeout}


class Request:
    """A request that waits. `sent`: the server may have received it. `due`: when to send it again on this connection.

    `command_id` is None for an event. `listed`: the command has a list of targets. `ended`: those of them whose
    outcome was told. `cancelled`: the application wants no result.
    """

    __slots__ = ("cancelled", "command_id", "deadline", "due", "ended", "failures", "listed", "number", "sent", "text")

    def __init__(self, number: int, text: str, deadline: float, command_id: str | None = None, listed: bool = False) -> None:
        self.number = number
        self.text = numbered(text, number)
        self.deadline = deadline
        self.command_id = command_id
        self.listed = listed
        self.ended: set[str] = set()
        self.sent = False
        self.cancelled = False
        self.due: float | None = None
        self.failures = 0


class Requests:
    """All requests that wait, each until it is settled, once."""

    def __init__(self, link: Link, most: int, new_id: Callable[[], str]) -> None:
        self._link = link
        self._most = most
        self._new_id = new_id
        self._pending: dict[int, Request] = {}
        self._times: list[tuple[float, int]] = []  # a heap: when to look after which request

    def publish(self, now: float, type: str, data: object, timeout: float) -> int:
        text = encode({"type": "publish", "eventType": type, "data": data})
        self._room()
        return self._add(Request(self._link.number(), text, now + timeout))

    def call(self, now: float, message: dict[str, object], bound: float, command_id: str | None) -> int:
        self._room()
        chosen = self._new_id() if command_id is None else command_id
        text = encode({"type": "command", **message, "commandId": chosen})
        return self._add(Request(self._link.number(), text, now + bound, chosen, isinstance(message.get("target"), list)))

    def cancel(self, number: int) -> None:
        request = self._pending.get(number)
        if request is None or request.cancelled:
            return
        if not request.sent:
            if request.command_id is None:
                self._settle(request, RequestError("cancelled", "cancelled before it was sent"))
            else:
                self._settle(request, CommandCancelled("cancelled", "cancelled before it was sent"))
        elif request.command_id is not None:
            request.cancelled = True
            if self._link.up:
                self._send_cancel(request)

    def connected(self) -> None:
        waiting = list(self._pending.values())
        for request in waiting:
            if request.command_id is not None and not request.cancelled:
                self._send(request)
        for request in waiting:
            if request.cancelled:
                self._send_cancel(request)
        for request in waiting:
            if request.command_id is None:
                self._send(request)

    def lost(self) -> None:
        for request in list(self._pending.values()):
            request.due = None
            if request.command_id is None and request.sent:
                self._settle(request, ConnectionLost("the connection ended before the answer", maybe_sent=True))

    def fail_all(self, error: NexusError) -> None:
        for request in list(self._pending.values()):
            self._settle(request, error)

    def deadline(self) -> float | None:
        while self._times and self._times[0][1] not in self._pending:
            heappop(self._times)
        return self._times[0][0] if self._times else None

    def tick(self, now: float) -> None:
        for request in self._due(now):
            if request.deadline <= now:
                self._expire(request)
            elif request.due is not None and request.due <= now:
                request.due = None
                if self._link.up:
                    self._send(request)

    def _room(self) -> None:
        if len(self._pending) >= self._most:
            raise Overloaded(f"{self._most} requests are pending")

    def _add(self, request: Request) -> int:
        self._pending[request.number] = request
        self._look(request.deadline, request)
        if self._link.up:
            self._send(request)
        return request.number

    def _look(self, when: float, request: Request) -> None:
        if len(self._times) > 2 * len(self._pending) + 64:  # most are of settled requests
            self._times = [entry for entry in self._times if entry[1] in self._pending]
            heapify(self._times)
        heappush(self._times, (when, request.number))

    def _due(self, now: float) -> Iterator[Request]:
        while self._times and self._times[0][0] <= now:
            request = self._pending.get(heappop(self._times)[1])
            if request is not None:
                yield request

    def _send(self, request: Request) -> None:
        if excess := self._link.excess(request.text):
            kind = RequestError if request.command_id is None else CommandError
            self._settle(request, kind("too_large", f"the message has {excess} bytes, more than {self._link.limit}"))
            return
        request.sent = True
        answer = self._published if request.command_id is None else self._executed
        self._link.ask(request.number, request.text, lambda now, message: answer(now, request, message))

    def _send_cancel(self, request: Request) -> None:
        # With the command's own `id`, so that the server answers both by one error.
        text = encode({"type": "cancel", "commandId": request.command_id, "id": request.number})
        self._link.ask(request.number, text, lambda now, message: self._executed(now, request, message))

    def _published(self, now: float, request: Request, message: Message) -> None:
        if message.type == "error":
            self._settle(request, RequestError(str(message.code), message.message, message.retryable))
        else:
            self._settle(request, None, message.position)

    def _executed(self, now: float, request: Request, message: Message) -> None:
        if message.type == "command_progress":
            self._link.emit(Progress(request.number, message.agentId, message.data))
        elif message.type == "error" and message.code == "shutting_down" and not request.cancelled:
            request.failures += 1
            request.due = self._link.again(now, request.failures)
            self._look(request.due, request)
        elif message.type == "error":
            error = _COMMAND_ERRORS.get(str(message.code), CommandError)
            self._settle(request, error(str(message.code), message.message, message.retryable))
        elif message.type == "command_result":
            data = message.data if isinstance(message.data, dict) else {}
            if not request.listed:
                self._settle(request, None, data.get("result"))
            elif message.agentId is not None:
                self._ended(request, _outcome(message.agentId, message, data))
            else:
                results = data.get("results")
                for outcome in results if isinstance(results, list) else ():
                    self._ended(request, outcome)
                self._settle(request, None, results)

    def _ended(self, request: Request, outcome: Any) -> None:
        """Tell the outcome of one agent, unless that was told before."""
        agent = outcome.get("agentId") if isinstance(outcome, dict) else None
        if isinstance(agent, str) and agent not in request.ended:
            request.ended.add(agent)
            self._link.emit(Outcome(request.number, outcome))

    def _expire(self, request: Request) -> None:
        if request.command_id is None and not request.sent:
            self._settle(request, NotConnected("there was no connection in time"))
        else:
            self._settle(request, Timeout("no answer in time", maybe_sent=request.sent))

    def _settle(self, request: Request, error: NexusError | None, result: object = None) -> None:
        self._pending.pop(request.number, None)
        self._link.settled(request.number)
        self._link.emit(Settle(request.number, result, error))


def _outcome(agent: str, message: Message, data: dict[str, Any]) -> dict[str, Any]:
    """Return what became of a command at one of several agents, in the form of the list of all."""
    if message.status == "success":
        return {"agentId": agent, "status": "success", "result": data.get("result")}
    return {"agentId": agent, "status": message.status, "message": message.message, "code": message.code}
