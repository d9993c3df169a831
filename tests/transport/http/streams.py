"""A client of event streams for tests: parses blocks as the HTML standard says, and is strict about their form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.client import EVENTS, Ended, Wire, request
from tests.node import TOKEN, Node


class Stream:
    """An event stream that was granted."""

    def __init__(self, wire: Wire, headers: dict[str, str]) -> None:
        self.wire = wire
        self.headers = headers
        self.last_id = ""
        self.retry = 0
        self.comments = 0
        self.ahead: list[Any] = []  # messages before the first id

    async def message(self) -> Any:
        """Return the next message. Raise `Ended` at the end of the stream."""
        if self.ahead:
            return self.ahead.pop(0)
        while True:
            data = await self.block()
            if data is not None:
                return json.loads(data)

    async def block(self) -> str | None:
        """Return the data of the next block, None if it has none."""
        data: str | None = None
        for line in (await self.wire.until(b"\n\n"))[:-2].decode().split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            assert "\r" not in line and name in ("", "id", "data", "retry"), line
            if name == "id":
                self.last_id = value
            elif name == "retry":
                self.retry = int(value)
            elif name == "data":
                assert data is None
                data = value
            else:
                self.comments += 1
        return data

    async def rest(self) -> list[Any]:
        """Return the messages up to the end of the stream."""
        messages = []
        try:
            while True:
                messages.append(await self.message())
        except Ended:
            assert self.wire.data == b""
            return messages


def asking(query: str, token: str | None = TOKEN, headers: Iterable[str] = ()) -> bytes:
    """Return the request for an event stream."""
    return request("GET", f"{EVENTS}?{query}", token, None, ("Accept: text/event-stream", *headers))


async def stream(
    node: Node, query: str = "events=a.b", token: str | None = TOKEN, headers: Iterable[str] = (), wire: Wire | None = None
) -> Stream:
    """Return a stream whose subscription stands; on a connection that was used before if there is a `wire`."""
    if wire is None:
        wire = await node.wire()
    wire.write(asking(query, token, headers))
    line, *fields = (await wire.until(b"\r\n\r\n")).decode("ascii").split("\r\n")[:-2]
    assert line == "HTTP/1.1 200 OK", line
    opened = Stream(wire, {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)})
    while not opened.last_id:
        data = await opened.block()
        if data is not None:
            opened.ahead.append(json.loads(data))
    return opened
