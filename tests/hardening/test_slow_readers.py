"""Readers that never read beside healthy ones. What happens to a single one is in `tests/transport/test_outbox.py` (the queue),
`tests/transport/test_websocket.py` (its closing) and `tests/e2e/test_isolation.py` (nobody waits for it).

10 beside 100 by default; 100 beside 1,000 at 100 events a second, and their figure, in the long form (`bin/test --long`).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
import treq
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import deferLater

from tests.client import Client, dial, greeted, handshake
from tests.conftest import LONG
from tests.e2e.server import ROOT, Child, NexusServer, clock, until
from tests.hardening.listeners import TYPE, data

SLOW, HEALTHY = (100, 1000) if LONG else (10, 100)
EVENTS = 2000  # of 1 kB: more than a queue (1 MiB), what the kernel holds of a UNIX connection (some 200 kB), and 1.25 s more
RATE = 100 if LONG else 400  # events/s
QUEUE = 1 << 20
SECONDS = 1.5  # for which a client may be past its queue, and a little
P99 = 0.05  # s from publishing to a healthy reader in the long form
NOISE = 4 << 20  # bytes that have nothing to do with queues
# No ping gets between the events, which are all of one size: positions grow.
CALM = {"NEXUS_HEARTBEAT__INTERVAL": "3600", "NEXUS_HEARTBEAT__TIMEOUT": "7200", "NEXUS_HISTORY__COUNT": "0"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NexusServer]:
    server = NexusServer(tmp_path, "--listen", f"unix:{tmp_path}/slow", env=CALM)
    server.launch()
    yield server
    server.discard()


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Child]:
    child = Child("listeners", tmp_path)
    yield child
    child.discard()


def resident(server: NexusServer) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def closed_as_slow(server: NexusServer) -> int:
    answer = await treq.get(f"{server.http}/metrics?token={server.token}", persistent=False)
    found = re.search(r'^nexus_connections_closed_total{code="4001"} (\d+)', await treq.text_content(answer), re.MULTILINE)
    return int(found[1]) if found else 0


@pytest_twisted.ensureDeferred
async def test_who_never_reads_costs_its_queue_and_nobody_else_anything(
    server: NexusServer, listeners: Child, tmp_path: Path
) -> None:
    await server.ready()
    arguments = [str(server.port), server.token, str(HEALTHY), str(EVENTS)]
    listeners.spawn([sys.executable, "-m", "tests.hardening.listeners", *arguments], os.environ, ROOT)
    slow = [await subscribed(UNIXClientEndpoint(clock, f"{tmp_path}/slow"), server.token) for _ in range(SLOW)]
    for client in slow:
        client.wire.transport.pauseProducing()
    publisher = await subscribed(UNIXClientEndpoint(clock, f"{tmp_path}/slow"), server.token, "nothing")
    await until(lambda: "ready" in listeners.output, 60, f"for the listeners:\n{listeners.output}")

    base = peak = resident(server)
    began = clock.seconds()
    for number in range(EVENTS):
        await deferLater(clock, max(0.0, began + number / RATE - clock.seconds()))
        publisher.send(type="publish", eventType=TYPE, data=data(number), id=number)
        assert (await publisher.receive())["type"] == "published"
        peak = max(peak, resident(server))

    readers = slow[: SLOW // 2]
    for client in readers:
        client.wire.transport.resumeProducing()
        assert await client.closed() == (4001, "Slow consumer")
        numbers = [int(message["data"][:9]) for message in client.left if message["type"] == "event"]
        assert numbers == list(range(len(numbers))) and len(numbers) < EVENTS
        assert client.left[-1] == {
            "type": "disconnect", "code": 4001, "reason": "Slow consumer", "reconnect": True, "delay": 1000
        }  # fmt: skip
    await listeners.ended(60)
    told = json.loads(listeners.output.splitlines()[-1])
    growth = (peak - base) / QUEUE
    print(f"{SLOW} slow, {HEALTHY} healthy: p99 {told['p99'] * 1000:.1f} ms, grew by {growth:.1f} MiB")
    assert told["least"] == EVENTS
    assert peak - base < SLOW * (QUEUE + SECONDS * RATE * 1024) * 1.1 + NOISE
    assert not LONG or told["p99"] < P99

    if not LONG:  # where nobody leaves the server waits for 10 s before it drops them
        for client in slow:
            client.drop()
    end = clock.seconds() + 20
    while await closed_as_slow(server) < SLOW:
        assert clock.seconds() < end
        await deferLater(clock, 0.2)
    assert all(client.wire.over for client in readers)
    for client in slow:
        client.drop()
    publisher.drop()
    assert "Traceback" not in server.output


async def subscribed(endpoint: UNIXClientEndpoint, token: str, event: str = TYPE) -> Client:
    wire = await dial(endpoint)
    wire.write(handshake(token=token))
    client = await greeted(wire)
    await client.subscribe(event)
    return client
