"""The common part of all clients' programs in Python: their cells, and a JSON line for each event in one of them.

A program is started with a JSON list of cells as its argument, opens each of them at once and keeps it until it is killed. It
reports `open` once it has subscribed (and registered, if the cell talks), also after each reconnect of its library; and
`heard`, `told` (the server's `disconnect`), `closed` and `refused` when that happens.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

REALM: Final = "nexus"
AUTHID: Final = "admin"
NEWS: Final = "field.news"
SAID: Final = "field.said"
ECHO: Final = "field.echo."
DENIED: Final = "wamp.error.authentication_failed"
EVENTS: Final = "/api/v1/events"

# Of the libraries that return by themselves, in seconds; a test's server is soon back.
FIRST_RETRY: Final = 0.2
LAST_RETRY: Final = 1.0


@dataclass(frozen=True)
class Cell:
    """One client's connection: its address, and its actions."""

    name: str
    host: str
    port: int
    unix: str  # the path of the socket; empty where there is a host and a port
    secure: bool
    token: str
    talks: bool  # also publishes and executes, once it is open
    topics: list[str]

    @property
    def authority(self) -> str:
        """The authority for a URL; for a UNIX socket it is only used in the Host header."""
        if self.unix:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, scheme: str, path: str = "") -> str:
        """Return the URL; `scheme` is without the `s` of the secure one."""
        return f"{scheme}{'s' if self.secure else ''}://{self.authority}{path}"

    def hear(self, n: int | None) -> None:
        """Report the number of a WAMP event; None for another event."""
        if n is not None:
            self.say("heard", data={"n": n})

    def say(self, event: str, **more: Any) -> None:
        # One write for a line: threads say things, too.
        sys.stdout.write(json.dumps({"cell": self.name, "event": event} | more) + "\n")
        sys.stdout.flush()


def cells() -> list[Cell]:
    """Return the cells of this program."""
    return [Cell(**each) for each in json.loads(sys.argv[-1])]


def live_all(live: Callable[[Cell], Awaitable[None]]) -> None:
    """Run asyncio with `live` for each cell."""

    async def guarded(cell: Cell) -> None:
        try:
            await live(cell)
        except Exception as error:
            cell.say("failed", why=f"{type(error).__name__}: {error}")

    async def everything() -> None:
        await asyncio.gather(*map(guarded, cells()))
        await asyncio.Event().wait()

    asyncio.run(everything())


class Dialog:
    """A JSON client's answers to messages; `send` takes text."""

    def __init__(self, cell: Cell, send: Callable[[str], Awaitable[Any]]) -> None:
        self._cell = cell
        self._send = send

    async def message(self, text: str | bytes) -> None:
        message: Mapping[str, Any] = json.loads(text)
        cell = self._cell
        match message["type"]:
            case "connected":
                await self._tell(type="subscribe", events=cell.topics)
            case "subscribed" if cell.talks:
                await self._tell(type="publish", eventType=SAID, data={"cell": cell.name})
                await self._tell(type="register", commands=[ECHO + cell.name])
            case "subscribed" | "registered":
                cell.say("open")
            case "event" if message["eventType"] == NEWS:
                cell.say("heard", data=message["data"])
            case "command":
                value = message["parameters"]["value"]
                await self._tell(type="command_result", commandId=message["commandId"], data=value)
            case "disconnect":
                cell.say("told", reconnect=message["reconnect"], reason=message["reason"])
            case "error":
                cell.say("failed", why=message["message"])

    async def _tell(self, **message: Any) -> None:
        await self._send(json.dumps(message))
