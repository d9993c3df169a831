"""Compressed messages after one that broke off. The bomb is in `tests/transport/test_compression.py`."""

from __future__ import annotations

import itertools
import zlib

import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults

from nexus_tw.model.settings import Compression, Settings
from tests.client import CLOSE, frame
from tests.node import Nodes

COMPRESSED = 0x40


@pytest_twisted.ensureDeferred
async def test_nothing_that_follows_a_broken_compressed_message_is_a_fault_of_the_server(nodes: Nodes) -> None:
    deflate = zlib.compressobj(wbits=-15)
    whole = (deflate.compress(b'{"type":"ping"}') + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    broken = [frame(COMPRESSED | 1, data) for data in (whole[:-1], whole[:3], b"", b"\xff\xff", whole + b"\0\0\0")]
    follow = [
        frame(0, whole),
        frame(0, whole, fin=False) + frame(0, b""),
        frame(COMPRESSED, whole),
        frame(COMPRESSED | 1, whole),
        frame(1, b"{}"),
        frame(9, b"x") + frame(0, b""),
        frame(CLOSE) + frame(0, whole),
    ]
    node = await nodes(Settings(compression=Compression(enabled=True)))

    async def send(data: bytes) -> int:
        client = await node.client(headers=["Sec-WebSocket-Extensions: permessage-deflate"])
        client.write(data + frame(CLOSE))
        return (await client.closed())[0]

    streams = [first + later for first, later in itertools.product(broken, follow)]
    assert set(await gatherResults([ensureDeferred(send(data)) for data in streams])) <= {1002, 1005, 1007}
