"""Many half-open handshakes beside legal ones. One alone, and how each is refused, is in `tests/transport/test_door.py`.

By default 200 of them; 2,000, and the figure for the legal ones, in the long form (`bin/test --long`).
"""

from __future__ import annotations

import statistics

import pytest_twisted
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater

from nexus_tw.app.node import raise_descriptor_limit
from tests.client import Wire, handshake
from tests.conftest import LONG
from tests.node import TOKEN, Nodes, clock, limited, until

SLOW = 2000 if LONG else 200
HANDSHAKE = 5.0 if LONG else 1.5  # s that the node gives them
EVERY = 1.0 if LONG else 0.2  # s between two bytes of a slow one
P99 = 0.1  # s for a legal handshake in the long form


@pytest_twisted.ensureDeferred
async def test_handshakes_that_trickle_are_all_given_up_and_legal_ones_served_meanwhile(nodes: Nodes) -> None:
    raise_descriptor_limit()  # this process has both ends of each
    node = await nodes(limited(handshake=HANDSHAKE), descriptors=2 * SLOW)
    sent = handshake(token=TOKEN)
    began = clock.seconds()

    async def trickle(wire: Wire) -> None:
        for byte in sent[: int(HANDSHAKE / EVERY) * 3]:
            if wire.over:
                return
            wire.write(bytes([byte]))
            await deferLater(clock, EVERY)

    slow = [await node.wire() for _ in range(SLOW)]
    trickling = [ensureDeferred(trickle(wire)) for wire in slow]
    times: list[float] = []
    while not all(wire.over for wire in slow):
        start = clock.seconds()
        client = await node.client()
        times.append(clock.seconds() - start)
        client.drop()
        await deferLater(clock, 0.01)
    assert clock.seconds() - began < 10 * HANDSHAKE
    assert len(times) > 10
    p99 = statistics.quantiles(times, n=100)[98]
    print(f"{len(times)} legal handshakes beside {SLOW} slow ones: p99 {p99 * 1000:.1f} ms")
    assert not LONG or p99 < P99
    await gatherResults(trickling)
    await until(lambda: node.metrics.refusals[408] == SLOW)


@pytest_twisted.ensureDeferred
async def test_header_blocks_that_never_end_are_cut_off_while_others_are_served(nodes: Nodes) -> None:
    """What a flood may cost is the limit of the block and not what the sender has."""
    node = await nodes()
    floods = [await node.wire(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000) for _ in range(8)]
    client = await node.client()
    assert (await client.ask(type="ping"))["type"] == "pong"
    for wire in floods:
        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")
