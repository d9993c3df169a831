"""JSON by PyPI's `aiohttp`, which does not reconnect by itself."""

from __future__ import annotations

import ssl

from aiohttp import ClientSession, TCPConnector, UnixConnector, WSMsgType

from tests.field.programs.cells import EVENTS, Cell, Dialog, live_all


async def live(cell: Cell) -> None:
    connector = UnixConnector(cell.unix) if cell.unix else TCPConnector(ssl=ssl.create_default_context())
    headers = {"Authorization": f"Bearer {cell.token}"}
    async with ClientSession(connector=connector) as session, session.ws_connect(
        cell.url("ws", EVENTS), headers=headers
    ) as socket:
        dialog = Dialog(cell, socket.send_str)
        reason = ""
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                await dialog.message(message.data)
            elif message.type is WSMsgType.CLOSE:
                reason = message.extra or ""
            else:
                break
        cell.say("closed", code=socket.close_code, reason=reason)


if __name__ == "__main__":
    live_all(live)
