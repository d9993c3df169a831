"""A process that commits samples and says so: `python -m tests.store.writer URL AGENT BATCHES ROWS`.

Prints the number of each batch once it is acknowledged.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from nexus_tw.interfaces.plugins import Sample
from nexus_tw.store import open_store


async def write(reactor: Any, url: str, agent_id: str, batches: str, rows: str) -> None:
    store = open_store(url, reactor)
    await store.start()
    for batch in range(int(batches)):
        await store.commit([Sample(agent_id, batch, b'{"row":%d}' % row) for row in range(int(rows))])
        print(batch, flush=True)
    await store.stop()


if __name__ == "__main__":
    react(lambda reactor: ensureDeferred(write(reactor, *sys.argv[1:])))
