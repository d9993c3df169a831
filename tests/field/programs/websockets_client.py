"""JSON by PyPI's `websockets`, in its simplest form: it does not reconnect by itself."""

from __future__ import annotations

from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed

from tests.field.programs.cells import EVENTS, Cell, Dialog, live_all


async def live(cell: Cell) -> None:
    url = cell.url("ws", f"{EVENTS}?token={cell.token}")
    async with unix_connect(cell.unix, url) if cell.unix else connect(url) as socket:
        dialog = Dialog(cell, socket.send)
        try:
            while True:
                await dialog.message(await socket.recv())
        except ConnectionClosed:
            cell.say("closed", code=socket.close_code, reason=socket.close_reason)


if __name__ == "__main__":
    live_all(live)
