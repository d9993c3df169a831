"""xconn's sessions, brought back by the loop with which its own command runs applications (`xconn._client.async_`)."""

from __future__ import annotations

import asyncio

from wampproto.auth import TicketAuthenticator
from wampproto.serializers import JSONSerializer
from xconn import AsyncClient
from xconn.types import Event

from tests.wamp.clients.returning.say import PORT, REALM, TICKET, TOPIC, WAY, WEBSOCKET, hear, say

URL = WEBSOCKET if WAY == "ws" else f"rs://127.0.0.1:{PORT}"
DELAY = 0.3


async def heard(event: Event) -> None:
    hear(event.args[0])


async def work() -> None:
    client = AsyncClient(TicketAuthenticator("somebody", TICKET), JSONSerializer())

    async def connect() -> None:
        try:
            session = await client.connect(URL, REALM, None, again)
            await session.subscribe(TOPIC, heard)
        except Exception as error:
            say(refused=str(error))
            await again()
        else:
            say(joined=session._base_session.id)

    async def again() -> None:
        await asyncio.sleep(DELAY)
        await connect()

    await connect()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work())
