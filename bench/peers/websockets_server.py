"""`python -m bench.peers.websockets_server PORT [CERTIFICATE KEY]`: the websockets library on asyncio, with its `broadcast`."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from bench.peers.protocol import Client, Protocol

protocol = Protocol(broadcast)


async def handle(connection: ServerConnection) -> None:
    # One writer for each connection: replies must not overtake each other, and `send` is a coroutine.
    replies: asyncio.Queue[str] = asyncio.Queue()
    client = Client(connection, replies.put_nowait)

    async def write() -> None:
        while True:
            await connection.send(await replies.get())

    writer = asyncio.create_task(write())
    protocol.joined(client)
    try:
        async for text in connection:
            protocol.received(client, text)
    except ConnectionClosed:
        pass
    finally:
        protocol.left(client)
        writer.cancel()


async def main(port: str, certificate: str = "", key: str = "") -> None:
    secure: dict[str, Any] = {}
    if certificate:
        secure["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secure["ssl"].load_cert_chain(certificate, key)
    async with serve(handle, "127.0.0.1", int(port), compression=None, backlog=4096, **secure) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
