"""The protocols, JSON and WAMP, as scenarios for both need them: the messages to send, and the checks of answers."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Protocol

from bench.errors import Inexact
from bench.link import Handshake, Hello, Link
from bench.replies import Answers, Counter, Replies
from bench.stream import check_event

TOKEN: Final = "bench"  # noqa: S105 - of a server that lives for a second
REALM: Final = "realm1"
PATH: Final = "/ws"  # of WAMP
SUBPROTOCOL: Final = "wamp.2.json"


class Type(IntEnum):
    """The types of WAMP messages in use."""

    HELLO = 1
    WELCOME = 2
    PUBLISH = 16
    PUBLISHED = 17
    SUBSCRIBE = 32
    SUBSCRIBED = 33
    EVENT = 36
    CALL = 48
    RESULT = 50
    REGISTER = 64
    REGISTERED = 65
    INVOCATION = 68
    YIELD = 70


class Dialect(Protocol):
    """One protocol. In both, a topic is an event type, and a publication has one value."""

    name: str
    handshake: Handshake

    def subscription(self, topic: str) -> Hello:
        """Return the message that subscribes a new connection."""

    def publication(self, topic: str, data: bytes) -> bytes:
        """Return a template (`bench.wire.Numbered`) of acknowledged publications; `data` is JSON with a place for the
        number."""

    def acknowledgements(self, link: Link) -> Counter:
        """Return a counter of the answers to these publications."""

    def event(self, message: Any, subscribed: Any) -> Any:
        """Return the data of an event; `subscribed` is the answer to the subscription. Raise `Inexact` for any other
        message."""


class _Json:
    name = "JSON"
    handshake = Handshake(f"/api/v1/events?token={TOKEN}", "", ((None, "connected"),))

    def subscription(self, topic: str) -> Hello:
        return (({"type": "subscribe", "events": [topic]}, "subscribed"),)

    def publication(self, topic: str, data: bytes) -> bytes:
        return b'{"type":"publish","eventType":"%b","data":%b}' % (topic.encode(), data)

    def acknowledgements(self, link: Link) -> Counter:
        return Replies(link, "published")

    def event(self, message: Any, subscribed: Any) -> Any:
        return check_event(message, subscribed["events"][0])


class _Wamp:
    name = "WAMP"
    _roles: Final[dict[str, Any]] = {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}
    handshake = Handshake(PATH, SUBPROTOCOL, (([Type.HELLO, REALM, {"roles": _roles}], Type.WELCOME),))

    def subscription(self, topic: str) -> Hello:
        return (([Type.SUBSCRIBE, 1, {}, topic], Type.SUBSCRIBED),)

    def publication(self, topic: str, data: bytes) -> bytes:
        return b'[%d,%%d,{"acknowledge":true},"%b",[%b]]' % (Type.PUBLISH, topic.encode(), data)

    def acknowledgements(self, link: Link) -> Counter:
        return Answers(link, _published)

    def event(self, message: Any, subscribed: Any) -> Any:
        match message:
            case [Type.EVENT, subscription, int(), dict(), [data]] if subscription == subscribed[2]:
                return data
        raise Inexact(f"expected an event of subscription {subscribed[2]}, got {message!r:.200}")


def _published(number: int, message: Any) -> None:
    match message:
        case [Type.PUBLISHED, request, int()] if request == number:
            return
    raise Inexact(f"expected the acknowledgement of publication {number}, got {message!r:.200}")


class _History(_Json):
    name = "recovery"


JSON: Final = _Json()
HISTORY: Final = _History()  # JSON, of servers from which missed events can be had
WAMP: Final = _Wamp()
