"""How messages become frames: one encoding for each (dialect, serializer, framing).

An event is encoded once for each encoding (in WAMP, for each subscription as well), whoever receives it: nothing in it may
depend on the receiver.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Final

import msgspec

from nexus_tw import frames
from nexus_tw.errors import NexusError
from nexus_tw.events import Event
from nexus_tw.interfaces import Subscription
from nexus_tw.messages import ServerMessage
from nexus_tw.wamp.codecs import Codec
from nexus_tw.wamp.features import Subscriber, passes

EVENT: Final = 36
NOTHING: Final = Subscriber()

_json: Final = msgspec.json.Encoder()


@lru_cache(maxsize=4096)
def _head(event_type: str) -> bytes:
    return b'{"type":"event","eventType":' + _json.encode(event_type) + b',"data":'


class JsonText:
    """The JSON protocol in WebSocket text frames (subprotocol `nexus.v1.json`)."""

    key = name = "nexus.v1.json"
    once = True

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        if event.about is not None and event.about.options is not None:
            return b""  # it could not be said how to open it
        # The data is JSON already: it is put in as it came, neither parsed nor written again.
        return frames.text(_head(event.type) + event.payload.data + b"}")

    def message(self, message: ServerMessage) -> bytes:
        return frames.text(_json.encode(message))


JSON_TEXT: Final = JsonText()


class WampFrames:
    """WAMP, in one of its serializers and in the frames of one transport, for subscribers with the same features."""

    once = False

    def __init__(
        self, codec: Codec, transport: str, frame: Callable[[bytes], bytes], features: Subscriber = NOTHING
    ) -> None:
        """`transport` names the framing that `frame` does."""
        self.codec = codec
        self.frame = frame
        self.name = f"wamp.2.{codec.name} over {transport}"
        self.key: Hashable = (self.name, features)
        self._transport = transport
        self._features = features
        self._others: dict[Subscriber, WampFrames] = {features: self}

    def to(self, features: Subscriber) -> WampFrames:
        """The same for subscribers with these features; always the same one for the same."""
        features = features._replace(subscription_revocation=False)  # which is about no event
        found = self._others.get(features)
        if found is None:
            found = self._others[features] = WampFrames(self.codec, self._transport, self.frame, features)
        return found

    def event(self, event: Event, subscription: Subscription) -> bytes:
        details: dict[str, Any] = {}
        if not subscription.pattern.exact:
            details["topic"] = event.type
        about = event.about
        if about is not None:
            if about.publisher is not None and self._features.publisher_identification:
                details["publisher"], details["publisher_authid"], details["publisher_authrole"] = about.publisher
            if about.options is not None:
                if not passes(about.options, self._features):
                    return b""
                details.update(about.options)
        try:
            args, kwargs = event.payload.arguments(self.codec)
        except NexusError:  # foreign data that this serializer cannot say
            return b""
        return self.frame(self.codec.join((EVENT, subscription.number, event.publication, details), args, kwargs))

    def message(self, _message: ServerMessage) -> bytes:
        return b""
