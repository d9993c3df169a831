"""A WAMP peer of a few lines, message by message, for what the clients of others cannot be made to send or to show.

Its serializers are not Nexus' own: the standard library's JSON, `msgpack` and `cbor2`.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import cbor2
import msgpack
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.client import BINARY, TEXT, Client, Ended, dial, frame, handshake

HELLO, WELCOME, ABORT, CHALLENGE, AUTHENTICATE, GOODBYE, ERROR = 1, 2, 3, 4, 5, 6, 8
PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED, EVENT = 16, 17, 32, 33, 34, 35, 36
CALL, CANCEL, RESULT = 48, 49, 50
REGISTER, REGISTERED, UNREGISTER, UNREGISTERED, INVOCATION, INTERRUPT, YIELD = 64, 65, 66, 67, 68, 69, 70

FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "publisher": (
        *("publisher_identification", "subscriber_blackwhite_listing", "publisher_exclusion"),
        *("payload_passthru_mode", "payload_transparency"),
    ),
    "subscriber": (
        *("publisher_identification", "pattern_based_subscription", "subscription_revocation"),
        *("payload_passthru_mode", "payload_transparency"),
    ),
    "caller": (
        *("caller_identification", "call_timeout", "call_canceling", "progressive_call_results"),
        *("payload_passthru_mode", "payload_transparency"),
    ),
    "callee": (
        *("caller_identification", "call_timeout", "call_canceling", "progressive_call_results", "registration_revocation"),
        *("payload_passthru_mode", "payload_transparency"),
    ),
}
ROLES: Final = {role: {"features": dict.fromkeys(features, True)} for role, features in FEATURES.items()}

clock: Any = reactor


class Serializer(NamedTuple):
    name: str
    opcode: int
    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]

    @property
    def protocol(self) -> str:
        return f"wamp.2.{self.name}"


def _to_json(value: Any) -> Any:
    """Bytes are a string that begins with NUL, followed by base64 (specification, binary conversion of JSON strings)."""
    if isinstance(value, bytes):
        return "\0" + b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _to_json(part) for key, part in value.items()}
    return [_to_json(part) for part in value] if isinstance(value, list | tuple) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("\0"):
        return b64decode(value[1:], validate=True)
    if isinstance(value, dict):
        return {key: _from_json(part) for key, part in value.items()}
    return [_from_json(part) for part in value] if isinstance(value, list) else value


SERIALIZERS: Final = {
    serializer.name: serializer
    for serializer in (
        Serializer("json", TEXT, lambda value: json.dumps(_to_json(value)).encode(), lambda data: _from_json(json.loads(data))),
        Serializer("msgpack", BINARY, msgpack.packb, msgpack.unpackb),
        Serializer("cbor", BINARY, cbor2.dumps, cbor2.loads),
    )
}


class Refused(Exception):
    """An ERROR or ABORT: its URI, and what it says."""

    def __init__(self, uri: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        super().__init__(uri, args, kwargs)
        self.uri = uri
        self.args_ = args
        self.kwargs = kwargs


class Event(NamedTuple):
    subscription: int
    publication: int
    details: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]


class Invocation(NamedTuple):
    request: int
    registration: int
    details: dict[str, Any]
    args: list[Any]
    kwargs: dict[str, Any]


class Outcome(NamedTuple):
    """A call's result, and the progress before it: (args, kwargs) each."""

    args: list[Any]
    kwargs: dict[str, Any]
    details: dict[str, Any]
    progress: list[tuple[list[Any], dict[str, Any]]]


def payload(args: list[Any] | None, kwargs: dict[str, Any] | None) -> list[Any]:
    """The trailing elements of a message: none where there is nothing to carry."""
    return [args or [], kwargs] if kwargs else [args] if args else []


class Peer:
    """One connection. Requests number themselves; what comes before a reply is left for `receive`."""

    def __init__(self, client: Client, serializer: Serializer) -> None:
        self._client = client
        self._serializer = serializer
        self._later: list[list[Any]] = []
        self._request = 0
        self.welcome: dict[str, Any] = {}
        self.session = 0

    # --- messages

    def send(self, *message: Any) -> None:
        self.write(self._serializer.dumps(list(message)))

    def write(self, data: bytes, opcode: int | None = None) -> None:
        """Any bytes, as one WebSocket message."""
        self._client.write(frame(opcode or self._serializer.opcode, data))

    async def receive(self) -> list[Any]:
        if self._later:
            return self._later.pop(0)
        message: list[Any] = self._serializer.loads(await self._client.message())
        return message

    async def expect(self, code: int) -> list[Any]:
        """The next message's elements after the code, which it has."""
        message = await self.receive()
        assert message[0] == code, message
        return message[1:]

    async def ended(self) -> Ended:
        """Wait for the server to close; messages before that are left for `receive`."""
        heard = []
        try:
            while True:
                heard.append(await self.receive())
        except Ended as ended:
            self._later = heard
            return ended

    def drop(self) -> None:
        self._client.drop()

    # --- session

    async def hello(self, realm: str, **details: Any) -> list[Any]:
        """Send HELLO. Return the reply, whatever it is."""
        self.send(HELLO, realm, {"roles": ROLES, **details})
        return await self.receive()

    async def join(self, realm: str, ticket: str | None = None, **details: Any) -> Peer:
        if ticket is not None:
            details["authmethods"] = ["ticket"]
        reply = await self.hello(realm, **details)
        if reply[0] == CHALLENGE:
            assert ticket is not None, reply
            self.send(AUTHENTICATE, ticket, {})
            reply = await self.receive()
        if reply[0] == ABORT:
            raise Refused(reply[2], *_payload(reply[3:]))
        assert reply[0] == WELCOME, reply
        self.session, self.welcome = reply[1:]
        return self

    async def leave(self) -> str:
        """Send GOODBYE. Return the reason in the router's answer; other messages are discarded."""
        self.send(GOODBYE, {}, "wamp.close.close_realm")
        while (message := await self.receive())[0] != GOODBYE:
            pass
        self.drop()
        return str(message[2])

    # --- publish and subscribe

    async def subscribe(self, topic: str, **options: Any) -> int:
        return int((await self._ask(SUBSCRIBE, SUBSCRIBED, options, topic))[0])

    async def unsubscribe(self, subscription: int) -> None:
        await self._ask(UNSUBSCRIBE, UNSUBSCRIBED, subscription)

    def tell(self, topic: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None, **options: Any) -> None:
        """A publication that is not acknowledged."""
        self.send(PUBLISH, self._next(), options, topic, *payload(args, kwargs))

    async def publish(
        self, topic: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> int:
        """The publication id."""
        options = {"acknowledge": True, **options}
        return int((await self._ask(PUBLISH, PUBLISHED, options, topic, *payload(args, kwargs)))[0])

    async def event(self) -> Event:
        subscription, publication, details, *rest = await self.expect(EVENT)
        return Event(subscription, publication, details, *_payload(rest))

    # --- call and execute

    async def register(self, procedure: str, **options: Any) -> int:
        return int((await self._ask(REGISTER, REGISTERED, options, procedure))[0])

    async def unregister(self, registration: int) -> None:
        await self._ask(UNREGISTER, UNREGISTERED, registration)

    def begin(
        self, procedure: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> int:
        """Send a CALL. Return its request id, for `outcome` and `cancel`."""
        request = self._next()
        self.send(CALL, request, options, procedure, *payload(args, kwargs))
        return request

    async def outcome(self, request: int) -> Outcome:
        progress: list[tuple[list[Any], dict[str, Any]]] = []
        while True:
            _, _, details, *rest = await self._reply(CALL, RESULT, request)
            if not details.get("progress"):
                return Outcome(*_payload(rest), details, progress)
            progress.append(_payload(rest))

    async def call(
        self, procedure: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Outcome:
        return await self.outcome(self.begin(procedure, args, kwargs, **options))

    def cancel(self, request: int, mode: str = "kill") -> None:
        self.send(CANCEL, request, {"mode": mode})

    async def invocation(self) -> Invocation:
        request, registration, details, *rest = await self.expect(INVOCATION)
        return Invocation(request, registration, details, *_payload(rest))

    def give(
        self, invocation: Invocation, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Answers an invocation: a result, or progress."""
        self.send(YIELD, invocation.request, options, *payload(args, kwargs))

    def fail(
        self, invocation: Invocation, uri: str, args: list[Any] | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        self.send(ERROR, INVOCATION, invocation.request, {}, uri, *payload(args, kwargs))

    # ---

    def _next(self) -> int:
        self._request += 1
        return self._request

    async def _ask(self, code: int, wanted: int, *rest: Any) -> list[Any]:
        request = self._next()
        self.send(code, request, *rest)
        return (await self._reply(code, wanted, request))[2:]

    async def _reply(self, code: int, wanted: int, request: int) -> list[Any]:
        """The reply to that request, which is of the wanted type; `Refused` where it is an ERROR."""
        passed, self._later = self._later, []
        arrived = (message for message in passed)
        kept: list[list[Any]] = []
        try:
            while True:
                message = next(arrived, None) or await self.receive()
                if message[:2] == [wanted, request]:
                    return message
                if message[:3] == [ERROR, code, request]:
                    raise Refused(message[4], *_payload(message[5:]))
                kept.append(message)
        finally:
            self._later = [*kept, *arrived]


def _payload(rest: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Args and kwargs of a message's last elements, empty where they are not there."""
    return (rest[0] if rest else []), (rest[1] if len(rest) > 1 else {})


async def connect(port: int, serializer: str = "json", path: str = "/ws", token: str | None = None) -> Peer:
    """An open WebSocket on which nothing was said yet."""
    chosen = SERIALIZERS[serializer]
    wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", port))
    wire.write(handshake(path, token, [chosen.protocol]))
    response = await wire.response()
    assert (response.status, response.headers.get("sec-websocket-protocol")) == (101, chosen.protocol), response
    return Peer(Client(wire, response), chosen)
