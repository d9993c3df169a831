"""The commands that this client executes, as the server knows them."""

from __future__ import annotations

from typing import Any

from nexus_client.core.effects import Report
from nexus_client.core.link import Link
from nexus_client.core.matching import check_name
from nexus_client.core.messages import Message, encode, numbered


class Registrations:
    """Register the commands again on each connection.

    A refused registration is reported and not repeated before the next connection; one that is refused for a while is.
    """

    def __init__(self, link: Link, agent: str | None) -> None:
        self._link = link
        self._agent = agent
        self._names: dict[str, None] = {}
        self._waiting: list[tuple[float, int, list[str]]] = []  # when to repeat, how often refused, which commands

    def __contains__(self, command: str) -> bool:
        return command in self._names

    def add(self, now: float, command: str) -> None:
        if check_name(command, "command") not in self._names:
            self._names[command] = None
            if self._link.up:
                self._ask(now, 0, [command])

    def remove(self, command: str) -> None:
        if command in self._names:
            del self._names[command]
            if self._link.up:
                self._link.say(type="unregister", commands=[command], id=self._link.number())

    def connected(self, now: float) -> None:
        self._ask(now, 0, list(self._names))

    def lost(self) -> None:
        self._waiting.clear()

    def deadline(self) -> float | None:
        return min((due for due, _, _ in self._waiting), default=None)

    def tick(self, now: float) -> None:
        if self._link.up:
            due = [waiting for waiting in self._waiting if waiting[0] <= now]
            for waiting in due:
                self._waiting.remove(waiting)
                self._ask(now, waiting[1], waiting[2])

    def ended(self, message: Message) -> None:
        """An administrator has ended registrations, until the next connection."""
        self._link.emit(Report("registration", f"an administrator ended the registration of {', '.join(message.commands)}"))

    def _ask(self, now: float, failures: int, commands: list[str]) -> None:
        commands = [command for command in commands if command in self._names]
        if not commands:
            return
        number = self._link.number()
        message: dict[str, Any] = {"type": "register", "commands": commands}
        if self._agent is not None:
            message["agentId"] = self._agent

        def answered(now: float, reply: Message) -> None:
            self._link.settled(number)
            if reply.type == "error":
                self._refused(now, failures + 1, commands, reply)

        self._link.ask(number, numbered(encode(message), number), answered)

    def _refused(self, now: float, failures: int, commands: list[str], reply: Message) -> None:
        if reply.retryable:
            self._waiting.append((self._link.again(now, failures), failures, commands))
        elif len(commands) > 1:
            # The server refuses all for the sake of one: the others shall be executed.
            for command in commands:
                self._ask(now, 0, [command])
            return
        self._link.emit(Report("registration", f"the registration of {', '.join(commands)} was refused: {reply.message}"))
