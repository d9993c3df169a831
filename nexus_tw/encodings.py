"""How messages become frames: one encoding for each (dialect, serializer, framing).

An event is encoded once for each encoding, whoever receives it: nothing in it may depend on the receiver.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Final

import msgspec

from nexus_tw import frames
from nexus_tw.messages import ServerMessage

_json: Final = msgspec.json.Encoder()


@lru_cache(maxsize=4096)
def _head(event_type: str) -> bytes:
    return b'{"type":"event","eventType":' + _json.encode(event_type) + b',"data":'


class JsonText:
    """The JSON protocol in WebSocket text frames (subprotocol `nexus.v1.json`)."""

    key: Hashable = "nexus.v1.json"

    def event(self, event_type: str, data: bytes) -> bytes:
        # The data is JSON already: it is put in as it came, neither parsed nor written again.
        return frames.text(_head(event_type) + data + b"}")

    def message(self, message: ServerMessage) -> bytes:
        return frames.text(_json.encode(message))


JSON_TEXT: Final = JsonText()
