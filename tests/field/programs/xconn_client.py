"""WAMP by PyPI's `xconn`, whose session does not reconnect by itself: `… websocket|rawsocket CELLS`."""

from __future__ import annotations

import sys

from wampproto import auth, serializers
from wampproto.exception import ApplicationError
from xconn import AsyncClient
from xconn.types import Event, Invocation, Result

from tests.field.programs.cells import AUTHID, ECHO, REALM, SAID, Cell, live_all


def url(cell: Cell) -> str:
    if sys.argv[1] == "rawsocket":
        return f"unix://{cell.unix}" if cell.unix else cell.url("rs")
    return f"unix+ws://{cell.unix}" if cell.unix else cell.url("ws", "/ws")


async def live(cell: Cell) -> None:
    async def hear(event: Event) -> None:
        cell.hear((event.kwargs or {}).get("n"))

    async def echo(invocation: Invocation) -> Result:
        return Result(args=[(invocation.kwargs or {})["value"]])

    async def closed() -> None:
        cell.say("closed")

    shown = auth.TicketAuthenticator(AUTHID, cell.token, {})
    client = AsyncClient(authenticator=shown, serializer=serializers.MsgPackSerializer())
    try:
        session = await client.connect(url(cell), REALM, disconnect_callback=closed)
    except ApplicationError as error:
        cell.say("refused", why=error.message)
        return
    for topic in cell.topics:
        await session.subscribe(topic, hear)
    if cell.talks:
        await session.publish(SAID, kwargs={"cell": cell.name})
        await session.register(ECHO + cell.name, echo)
    cell.say("open")
    await session.wait_task  # a session that nobody holds is collected


if __name__ == "__main__":
    live_all(live)
