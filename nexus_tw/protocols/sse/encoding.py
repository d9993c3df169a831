"""The encoding of event streams: messages of the JSON protocol as blocks."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.model.events import Event
from nexus_tw.model.notices import BroadcastNotice, Notice
from nexus_tw.protocols.native import messages

COMMENT: Final = b":\n\n"  # keeps proxies from ending a silent stream

_json: Final = msgspec.json.Encoder()
# Between the tokens of JSON they are white space, and within a string they may not stand: each would end a field of the block.
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


@lru_cache(maxsize=4096)
def _head(event_type: str) -> bytes:
    return b'data: {"type":"event","eventType":' + _json.encode(event_type) + b',"data":'


class EventStreamEncoding:
    """The JSON protocol's messages as `data`, without an `event` field, so that a browser's `onmessage` gets all of them."""

    key = name = "nexus.v1.sse"
    once = True

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        if event.metadata is not None and event.metadata.options is not None:
            return b""  # the client could not be told how to open it
        data = event.payload.data.translate(_LINE_ENDS)
        if event.position is None:
            return _head(event.type) + data + b"}\n\n"
        return b'%b%b,"position":%b}\n\n' % (_head(event.type), data, _json.encode(event.position.text))

    def notice(self, notice: Notice) -> bytes:
        if isinstance(notice, BroadcastNotice):
            data = msgspec.Raw(memoryview(notice.data).tobytes().translate(_LINE_ENDS))
            return message(messages.Broadcast(data=data, timestamp=notice.timestamp))
        at = None if notice.position is None else notice.position.text
        return message(messages.Continuity(event_type=notice.event_type, position=at, recovered=notice.recovered))


def message(sent: messages.ServerMessage) -> bytes:
    """Return the block of a message."""
    return b"data: " + _json.encode(sent) + b"\n\n"


def mark(last_id: str) -> bytes:
    """Return a block without an event that sets the client's `Last-Event-ID`, which it sends when it reconnects."""
    return b"id: " + last_id.encode("ascii") + b"\n\n"


def retry(milliseconds: int) -> bytes:
    """Return a field with the time after which the client reconnects once the stream has ended. A block must follow."""
    return b"retry: %d\n" % milliseconds


EVENT_STREAM: Final = EventStreamEncoding()
