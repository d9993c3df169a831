"""Compares two servers that share one Redis: does each event of a type arrive from both, once, with the same data?

    NEXUS_TOKEN=… python compare.py 'ws://old:3000/?token=…' ws://nexus:3100/api/v1/events 60 task.updated order.placed

Listens for so many seconds and prints a line for each type. The exit status is 1 if the servers differ. NEXUS_TOKEN is for the
second server; the first address holds its own token.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Any

from websockets.asyncio.client import connect

SETTLE = 2.0  # s that the slower server may be behind


class Heard:
    """What one server has delivered: by type, the events in order."""

    def __init__(self, types: list[str]) -> None:
        self.events: dict[str, list[str]] = {event_type: [] for event_type in types}
        self.subscribed = asyncio.Event()

    async def listen(self, url: str, headers: dict[str, str]) -> None:
        async with connect(url, additional_headers=headers, max_size=None) as socket:
            await socket.send(json.dumps({"type": "subscribe", "events": list(self.events)}))
            async for text in socket:
                message: dict[str, Any] = json.loads(text)
                if message["type"] == "subscribed":
                    self.subscribed.set()
                elif message["type"] == "event" and message["eventType"] in self.events:
                    self.events[message["eventType"]].append(json.dumps(message["data"], sort_keys=True))
                elif message["type"] == "error":
                    raise OSError(f"{url.partition('?')[0]}: {message['message']}")
        raise OSError(f"{url.partition('?')[0]} has closed the connection")


def differences(old: list[str], new: list[str]) -> list[str]:
    """Return what is to be said of one type."""
    missing, surplus = Counter(old) - Counter(new), Counter(new) - Counter(old)
    found = [f"only from the old server: {data}" for data in missing.elements()]
    found += [f"only from Nexus: {data}" for data in surplus.elements()]
    return found


async def compare(old_url: str, new_url: str, seconds: float, types: list[str]) -> bool:
    old, new = Heard(types), Heard(types)
    async with asyncio.TaskGroup() as group:
        listening = [
            group.create_task(old.listen(old_url, {})),
            group.create_task(new.listen(new_url, {"Authorization": f"Bearer {os.environ['NEXUS_TOKEN']}"})),
        ]
        await asyncio.gather(old.subscribed.wait(), new.subscribed.wait())
        print(f"comparing for {seconds:g} s", flush=True)
        await asyncio.sleep(seconds)
        counted = {event_type: (len(old.events[event_type]), len(new.events[event_type])) for event_type in types}
        await asyncio.sleep(SETTLE)
        for task in listening:
            task.cancel()
    same = True
    for event_type, (from_old, from_new) in counted.items():
        until = max(from_old, from_new)  # an event that one server had in time, the other one may deliver later
        by_old, by_new = old.events[event_type][:until], new.events[event_type][:until]
        found = differences(by_old, by_new)
        same = same and not found
        # Nexus gives an event of another program its place a moment after it came: one that Nexus publishes may pass it.
        order = "" if found or by_old == by_new else ", in another order"
        print(f"{event_type}: {until} events, {'differ' if found else 'the same from both'}{order}")
        for line in found:
            print(f"  {line}")
    return same


def main() -> None:
    old_url, new_url, seconds, *types = sys.argv[1:]
    try:
        sys.exit(0 if asyncio.run(compare(old_url, new_url, float(seconds), types)) else 1)
    except ExceptionGroup as trouble:
        sys.exit(f"compare.py: {'; '.join(map(str, trouble.exceptions))}")


if __name__ == "__main__":
    main()
