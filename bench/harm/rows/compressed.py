"""Small frames, and compressed messages: the work in a single read of the server."""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from bench import wire
from bench.harm.stage import Stage

OFFER: Final = "permessage-deflate"
COMPRESSED: Final = 0x40
PIECE: Final = 65536  # bytes sent at once


def pings(stage: Stage) -> None:
    """Pings without a payload, six bytes each."""
    _flood(stage, wire.masked(wire.FIN | wire.PING, b""), 4 << 20)


def small(stage: Stage) -> None:
    _flood(stage, _packed({"type": "ping"}), 2 << 20)


def large(stage: Stage) -> None:
    """Events of zeros, of which about a hundred fit into one read."""
    frame = _packed({"type": "publish", "eventType": "inflated", "data": [0] * 60_000})
    _flood(stage, frame, 2000 * len(frame))


def _packed(message: object) -> bytes:
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    payload = deflate.compress(msgspec.json.encode(message)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return wire.masked(wire.FIN | COMPRESSED | wire.TEXT, payload[:-4])


def _flood(stage: Stage, frame: bytes, size: int) -> None:
    client = stage.json("publisher", extensions=OFFER)
    piece = frame * (PIECE // len(frame))
    for _ in range(size // len(piece)):
        if not client.send(piece):
            break
    client.heed(3.0)  # stay connected, so that deferred messages are handled
