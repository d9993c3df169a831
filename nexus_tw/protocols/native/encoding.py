"""The encoding of the JSON protocol: messages to frames.

An event is encoded once for all recipients, so nothing in it may depend on the recipient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.model.events import Event
from nexus_tw.model.notices import BroadcastNotice, Notice
from nexus_tw.protocols import frames
from nexus_tw.protocols.native import messages

_json: Final = msgspec.json.Encoder()


@lru_cache(maxsize=4096)
def _head(event_type: str) -> bytes:
    return b'{"type":"event","eventType":' + _json.encode(event_type) + b',"data":'


def event_message(event: Event, data: bytes) -> bytes:
    """Return the message of an event. Its data is JSON already: it is inserted as it is, neither parsed nor encoded again."""
    if event.position is None:
        return b"%b%b}" % (_head(event.type), data)
    return b'%b%b,"position":%b}' % (_head(event.type), data, _json.encode(event.position.text))


class JsonText:
    """The JSON protocol in WebSocket text frames (subprotocol `nexus.v1.json`)."""

    key = name = "nexus.v1.json"
    once = True

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        if event.metadata is not None and event.metadata.options is not None:
            return b""  # an encrypted payload, for which the protocol has no options to decrypt it
        return frames.text(event_message(event, event.payload.data))

    def notice(self, notice: Notice) -> bytes:
        if isinstance(notice, BroadcastNotice):
            return self.message(messages.Broadcast(data=notice.data, timestamp=notice.timestamp))
        at = None if notice.position is None else notice.position.text
        return self.message(messages.Continuity(event_type=notice.event_type, position=at, recovered=notice.recovered))

    def message(self, message: messages.ServerMessage) -> bytes:
        """Return a ready frame for a message of this protocol."""
        return frames.text(_json.encode(message))


JSON_TEXT: Final = JsonText()

