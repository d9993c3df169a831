"""What a node holds: descriptors, memory, and what its gauges say; and what is in Redis."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import treq
from twisted.web.http_headers import Headers

from tests.e2e.server import NexusServer
from tests.redis_server import RedisServer

# Gauges that must come back to where they were once everybody has left.
STANDING = ("connections", "http_connections", "subscriptions", "registrations", "agents", "timers", "send_queues_bytes")

_LINE = re.compile(r"^nexus_([a-z0-9_]+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Holding:
    """What one node holds."""

    descriptors: int
    memory: int  # bytes of resident memory
    gauges: dict[str, float]  # by name, without labels


def memory_of(pid: int) -> int:
    """Return the bytes of resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def holding(node: NexusServer) -> Holding:
    """Return what the node holds now."""
    headers = Headers({"Authorization": [f"Bearer {node.token}"]})
    answer = await treq.get(f"{node.http}/metrics", headers=headers, persistent=False)
    text = (await treq.content(answer)).decode()
    gauges = {name: float(value) for name, value in _LINE.findall(text)}
    return Holding(len(os.listdir(f"/proc/{node.pid}/fd")), memory_of(node.pid), gauges)


def keys_of(redis: RedisServer) -> int:
    """Return the number of keys, without those of commands: ended ones are kept for a day on purpose."""
    return sum(b"command:{" not in key for key in redis.ask("KEYS", "*"))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much the second number rises with the first, by least squares; 0 for fewer than two points."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
