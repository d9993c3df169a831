"""How Nexus names things on Redis Pub/Sub. Everything is under `nexus:`.

`nexus:events:TYPE` carries events (JSON, nothing around it), `nexus:node:NODE` and `nexus:nodes` what nodes send each
other, `nexus:canary:NODE` what a node sends itself to see whether the bus works.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from nexus_tw.topics import Pattern, is_name

EVENTS: Final = b"nexus:events:"
NODES: Final = b"nexus:nodes"

# Each star multiplies what matching can cost, and Redis does it for every publish of anybody.
MAX_STARS: Final = 4


class Source(NamedTuple):
    """What Redis is asked for: one channel, or all whose name a glob matches."""

    name: bytes
    glob: bool


def source_of(pattern: Pattern) -> Source:
    """Where the events of a pattern come from. A glob may match more than the pattern: its star also stands for dots."""
    if pattern.exact:
        return Source(EVENTS + pattern.text.encode(), False)
    written: list[bytes] = []
    stars = 0
    for part in (*pattern.parts, "*") if pattern.tail is not None else pattern.parts:
        if part == "*":
            stars += 1
        written.append(b"*" if part == "*" else _literal(part))
        if stars == MAX_STARS:
            break  # this last star stands for all that is left
    return Source(EVENTS + b".".join(written), True)


def _literal(part: str) -> bytes:
    text = part.encode()
    for special in (b"\\", b"?", b"[", b"]"):
        text = text.replace(special, b"\\" + special)
    return text


def node_channel(node: str) -> bytes:
    return b"nexus:node:" + node.encode()


def canary_channel(node: str) -> bytes:
    return b"nexus:canary:" + node.encode()


@lru_cache(maxsize=16384)
def event_type_of(channel: bytes) -> str | None:
    """The event type of a channel under `nexus:events:`, or None where the rest is no well-formed name."""
    try:
        name = channel[len(EVENTS) :].decode()
    except UnicodeDecodeError:
        return None
    return name if is_name(name) else None


@lru_cache(maxsize=16384)
def event_head(event_type: str) -> bytes:
    """How a PUBLISH of this type begins, up to the length of the data."""
    return publish_head(EVENTS + event_type.encode())


def publish_head(channel: bytes) -> bytes:
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(channel), channel)


def publish_command(head: bytes, data: bytes) -> bytes:
    """A whole PUBLISH as it goes to Redis (RESP2: an array of bulk strings)."""
    return b"%b%d\r\n%b\r\n" % (head, len(data), data)


def command(verb: bytes, names: list[bytes]) -> bytes:
    """A command with these arguments."""
    words = [b"*%d\r\n$%d\r\n%b\r\n" % (len(names) + 1, len(verb), verb)]
    words += [b"$%d\r\n%b\r\n" % (len(name), name) for name in names]
    return b"".join(words)
