"""Autobahn|Python on asyncio, in every way: `python -m tests.wamp.clients.autobahn_asyncio PORT`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import pytest
from autobahn.asyncio.rawsocket import WampRawSocketClientFactory
from autobahn.asyncio.wamp import Session
from autobahn.asyncio.websocket import WampWebSocketClientFactory
from autobahn.wamp.auth import create_authenticator
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer, MsgPackSerializer
from autobahn.wamp.types import CallOptions, ComponentConfig, PublishOptions, RegisterOptions, SubscribeOptions

from tests.wamp.clients.cases import report
from tests.wamp.users import USERS, WAYS

SERIALIZERS = {"json": JsonSerializer, "msgpack": MsgPackSerializer, "cbor": CBORSerializer}


class Member(Session):
    def __init__(self) -> None:
        super().__init__(ComponentConfig("realm1"))
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_join(self, details: Any) -> None:
        self.details = details
        self.joined.set_result(None)

    def on_leave(self, details: Any) -> None:
        if not self.joined.done():
            self.joined.set_exception(ConnectionError(details.reason))
        self.disconnect()

    def on_disconnect(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


async def join(port: int, transport: str, serializer: str, method: str = "anonymous", **shown: str) -> Member:
    session = Member()
    session.add_authenticator(create_authenticator(method, **shown))
    chosen = SERIALIZERS[serializer]()
    factory: Any
    if transport == "ws":
        factory = WampWebSocketClientFactory(lambda: session, url=f"ws://127.0.0.1:{port}/ws", serializers=[chosen])
    else:
        factory = WampRawSocketClientFactory(lambda: session, serializer=chosen)
    await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)
    await session.joined
    return session


async def converse(port: int, transport: str, serializer: str) -> None:
    uri = f"com.example.asyncio.{transport}.{serializer}"
    user = USERS["wampcra"]
    one = await join(port, transport, serializer)
    other = await join(port, transport, serializer, user.method, authid=user.authid, secret=user.secret)
    assert (other.details.authid, other.details.authrole) == (user.authid, "user")

    events: asyncio.Queue[Any] = asyncio.Queue()
    listening = SubscribeOptions(match="prefix", details=True)
    await one.subscribe(lambda *args, details, **kwargs: events.put_nowait((args, kwargs, details.topic)), uri, listening)
    told = PublishOptions(acknowledge=True)
    await other.publish(f"{uri}.done", 1, b"\0\xff", nested=[{"ä": None}], options=told)
    assert await events.get() == ((1, b"\0\xff"), {"nested": [{"ä": None}]}, f"{uri}.done")
    one.publish(f"{uri}.self", 2, options=PublishOptions(exclude_me=False))
    assert (await events.get())[0] == (2,)

    async def work(count: int, details: Any) -> int:
        for number in range(count):
            details.progress(number)
        return count

    async def fail() -> None:
        raise ApplicationError(f"{uri}.no", "because", code=7)

    begun, interrupted = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            interrupted.set()
            raise

    await one.register(work, f"{uri}.work", RegisterOptions(details_arg="details"))
    await one.register(fail, f"{uri}.fail")
    await one.register(hang, f"{uri}.hang")
    progress: list[int] = []
    assert await other.call(f"{uri}.work", 3, options=CallOptions(on_progress=progress.append)) == 3
    assert progress == [0, 1, 2]
    with pytest.raises(ApplicationError) as caught:
        await other.call(f"{uri}.fail")
    error = caught.value
    assert (error.error, list(error.args), error.kwargs) == (f"{uri}.no", ["because"], {"code": 7})
    call = other.call(f"{uri}.hang")
    await begun.wait()
    call.cancel()
    await interrupted.wait()
    assert await other.call("wamp.session.count") >= 2
    for session in (one, other):
        session.leave()
        await session.gone


if __name__ == "__main__":
    asyncio.run(report({"-".join(way): partial(converse, int(sys.argv[1]), *way) for way in WAYS}))
