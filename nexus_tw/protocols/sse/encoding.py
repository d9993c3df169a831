"""The encoding of event streams: messages of the JSON protocol as blocks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import msgspec

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.model.events import Event
from nexus_tw.model.notices import BroadcastNotice, Notice
from nexus_tw.model.positions import Position
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.native.encoding import event_message
from nexus_tw.protocols.sse.places import Places, place

COMMENT: Final = b":\n\n"  # keeps proxies from ending a silent stream

_json: Final = msgspec.json.Encoder()
# Between the tokens of JSON they are white space, and within a string they may not stand: each would end a field of the block.
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


class SingleTypeEncoding:
    """For streams of one event type, whose blocks are the same for all their clients.

    The JSON protocol's messages are `data`, without an `event` field, so that a browser's `onmessage` gets all of them.
    """

    key: Hashable = "nexus.v1.sse"
    name = "nexus.v1.sse"
    once = True

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        if event.metadata is not None and event.metadata.options is not None:
            return b""  # an encrypted payload, for which the protocol has no options to decrypt it
        message = event_message(event, event.payload.data.translate(_LINE_ENDS))
        if event.position is None:
            return b"data: %b\n\n" % message
        return b"id: %b\ndata: %b\n\n" % (self._moved(event.type, event.position), message)

    def notice(self, notice: Notice) -> bytes:
        if isinstance(notice, BroadcastNotice):
            data = msgspec.Raw(memoryview(notice.data).tobytes().translate(_LINE_ENDS))
            return block(messages.Broadcast(data=data, timestamp=notice.timestamp))
        if notice.position is None:
            return b"" if notice.recovered else lost(notice.event_type)
        last_id = mark(self._moved(notice.event_type, notice.position))
        # The news that events are missing is read before the id is that hides it.
        return last_id if notice.recovered else lost(notice.event_type, notice.position) + last_id

    def _moved(self, event_type: str, position: Position) -> bytes:
        """Return the id of a client that has got everything up to this position."""
        return place(event_type, position)


class OwnEncoding(SingleTypeEncoding):
    """For one stream of several types: its ids have the positions of all of them."""

    def __init__(self) -> None:
        self.key = self
        self.places = Places()

    def _moved(self, event_type: str, position: Position) -> bytes:
        self.places.move(event_type, position)
        return self.places.text


def block(sent: messages.ServerMessage) -> bytes:
    """Return the block of a message."""
    return b"data: " + _json.encode(sent) + b"\n\n"


def lost(event_type: str, position: Position | None = None) -> bytes:
    """Return the block of a `continuity`: events of this type (or pattern) before the position may be missing."""
    at = None if position is None else position.text
    return block(messages.Continuity(event_type=event_type, position=at, recovered=False))


def mark(last_id: bytes) -> bytes:
    """Return a block without an event that sets the client's `Last-Event-ID`, which it sends when it reconnects."""
    return b"id: %b\n\n" % last_id


def retry(milliseconds: int) -> bytes:
    """Return a field with the time after which the client reconnects once the stream has ended. A block must follow."""
    return b"retry: %d\n" % milliseconds


SINGLE_TYPE: Final = SingleTypeEncoding()
