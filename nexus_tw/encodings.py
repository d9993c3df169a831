"""How messages become frames: one encoding for each (dialect, serializer, framing).

An event is encoded once for each encoding (in WAMP, for each subscription as well), whoever receives it: nothing in it may
depend on the receiver.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec

from nexus_tw import frames
from nexus_tw.errors import NexusError
from nexus_tw.events import Event
from nexus_tw.interfaces import Subscription
from nexus_tw.messages import ServerMessage
from nexus_tw.wamp.codecs import Codec

EVENT: Final = 36

_json: Final = msgspec.json.Encoder()


@lru_cache(maxsize=4096)
def _head(event_type: str) -> bytes:
    return b'{"type":"event","eventType":' + _json.encode(event_type) + b',"data":'


class JsonText:
    """The JSON protocol in WebSocket text frames (subprotocol `nexus.v1.json`)."""

    key = "nexus.v1.json"
    once = True

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        # The data is JSON already: it is put in as it came, neither parsed nor written again.
        return frames.text(_head(event.type) + event.payload.data + b"}")

    def message(self, message: ServerMessage) -> bytes:
        return frames.text(_json.encode(message))


JSON_TEXT: Final = JsonText()


class WampFrames:
    """WAMP, in one of its serializers and in the frames of one transport."""

    once = False

    def __init__(self, codec: Codec, transport: str, frame: Callable[[bytes], bytes]) -> None:
        """`transport` names the framing that `frame` does."""
        self.codec = codec
        self.frame = frame
        self.key = f"wamp.2.{codec.name} over {transport}"

    def event(self, event: Event, subscription: Subscription) -> bytes:
        details: dict[str, Any] = {}
        if not subscription.pattern.exact:
            details["topic"] = event.type
        about = event.about
        if about is not None:
            if about.publisher is not None:
                details["publisher"], details["publisher_authid"], details["publisher_authrole"] = about.publisher
            if about.options is not None:
                details.update(about.options)
        try:
            args, kwargs = event.payload.arguments(self.codec)
        except NexusError:  # foreign data that this serializer cannot say
            return b""
        return self.frame(self.codec.join((EVENT, subscription.number, event.publication, details), args, kwargs))

    def message(self, _message: ServerMessage) -> bytes:
        return b""
