"""xconn in every way, as every user that it can be: `python -m tests.wamp.clients.xconn_client WS-URL RS-URL`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Any

import pytest
from wampproto import auth, serializers
from wampproto.exception import ApplicationError as Refused
from xconn import AsyncClient
from xconn.exception import ApplicationError
from xconn.types import Event, Invocation, Result

from tests.wamp.clients.cases import report
from tests.wamp.users import USERS, WAYS, User

SERIALIZERS = {
    "json": serializers.JSONSerializer,
    "msgpack": serializers.MsgPackSerializer,
    "cbor": serializers.CBORSerializer,
}
METHODS = {
    "ticket": auth.TicketAuthenticator,
    "wampcra": auth.WAMPCRAAuthenticator,
    "cryptosign": auth.CryptoSignAuthenticator,
}


async def join(url: str, serializer: str, user: User) -> Any:
    if user.method == "anonymous":
        shown = auth.AnonymousAuthenticator(user.authid)
    else:
        shown = METHODS[user.method](user.authid, user.secret, {})
    return await AsyncClient(authenticator=shown, serializer=SERIALIZERS[serializer]()).connect(url, "realm1")


async def converse(url: str, serializer: str, user: User, uri: str) -> None:
    """One of each thing that a session does."""
    session = await join(url, serializer, user)
    events: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

    async def hear(event: Event) -> None:
        events.put_nowait((event.args, event.kwargs))

    async def answer(invocation: Invocation) -> Result:
        return Result(args=invocation.args, kwargs=invocation.kwargs)

    async def fail(invocation: Invocation) -> Result:
        raise ApplicationError(f"{uri}.no", "because")

    subscription = await session.subscribe(uri, hear)
    told = {"acknowledge": True, "exclude_me": False}
    await session.publish(uri, ["hello", 1, None], {"nested": [{"a": 1.5}]}, told)
    assert await events.get() == (["hello", 1, None], {"nested": [{"a": 1.5}]})
    await subscription.unsubscribe()
    await session.publish(uri, ["unheard"], None, told)

    registration = await session.register(uri, answer)
    result = await session.call(uri, ["hello", 2], {"a": "ä"})
    assert (result.args, result.kwargs) == (["hello", 2], {"a": "ä"})
    await registration.unregister()
    assert await error_of(session, uri) == "wamp.error.no_such_procedure"
    await session.register(f"{uri}.fail", fail)
    assert await error_of(session, f"{uri}.fail") == f"{uri}.no"
    await session.leave()
    assert events.empty()


async def error_of(session: Any, procedure: str) -> str:
    with pytest.raises(ApplicationError) as caught:
        await session.call(procedure)
    return str(caught.value.message)


async def refused(url: str, serializer: str, user: User) -> None:
    """Neither with a wrong secret nor as somebody who does not exist."""
    wrong = user.secret[::-1]
    for stranger in (user._replace(secret=wrong), user._replace(authid="nobody")):
        with pytest.raises(Refused) as caught:
            await join(url, serializer, stranger)
        assert caught.value.message == "wamp.error.authentication_failed"


def cases(ws: str, rs: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for transport, serializer in WAYS:
        url = {"ws": ws, "rs": rs}[transport]
        for name, user in USERS.items():
            way = f"{transport}-{serializer}-{name}"
            if user.method != "scram":
                found[f"{way}-converses"] = partial(converse, url, serializer, user, f"com.example.xconn.{way}")
            if user.method in METHODS:
                found[f"{way}-wrong"] = partial(refused, url, serializer, user)
    return found


if __name__ == "__main__":
    asyncio.run(report(cases(*sys.argv[1:])))
