"""Names of Nexus on Redis Pub/Sub, and the commands with them.

The realm `nexus` has everything under `nexus:`, each other realm under `nexus:realm:NAME:`. Under that, `events:TYPE` carries
events (JSON without an envelope), `about:TYPE` metadata for Nexus nodes about the event that follows on
`events:TYPE`, `node:NODE` and `nodes` messages between nodes, `canary:NODE` messages of a node to itself that check whether the
bus works, `marks` marks by which nodes agree on names for events of other programs.

The history is in keys: `type:{TYPE}` has the state of a type, `log:{TYPE}` its last events; `types`, `logs` and `sizes` are
indices of these; `timeline` and `run` identify this Redis. `retained:{TYPE}` has the retained event of a type, `retained` and
`retained:sizes` are the indices of these. `command:{ID}` has a command of the ledger, `commands:…` are the indices of these.
`revocations` is a hash of revoked credentials. The scripts describe the contents.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

from nexus_tw.model.names import Pattern, is_name
from nexus_tw.model.settings import DEFAULT_REALM

# Each star multiplies the cost of matching, and Redis matches on every publish of any client.
MAX_STARS: Final = 4

KEPT: Final = 16384  # event types, or channels, of a realm with a cached answer


class Source(NamedTuple):
    """The channels of one command to Redis: names, or globs that match names."""

    names: tuple[bytes, ...]
    glob: bool


class Channels:
    """The names of one realm's channels: `prefix` and more."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.events = prefix + b"events:"
        self.metadata = prefix + b"about:"
        self.nodes = prefix + b"nodes"
        self.marks = prefix + b"marks"
        self.timeline = prefix + b"timeline"
        self.run = prefix + b"run"
        self.types = prefix + b"types"
        self.retained = prefix + b"retained"
        self.revocations = prefix + b"revocations"
        # Each event needs these, so they are cached, for each realm separately: its name need not be part of the key.
        self.event_type_of = lru_cache(maxsize=KEPT)(self._event_type_of)
        self.event_head = lru_cache(maxsize=KEPT)(self._event_head)
        self.metadata_head = lru_cache(maxsize=KEPT)(self._metadata_head)

    @classmethod
    def of(cls, realm: str) -> Channels:
        """Return those of a realm. Its name is quoted, so that it can neither end early nor contain a glob."""
        return cls(b"nexus:" if realm == DEFAULT_REALM else b"nexus:realm:%b:" % quote(realm, safe="").encode())

    def node(self, node: str) -> bytes:
        return self.prefix + b"node:" + node.encode()

    def canary(self, node: str) -> bytes:
        return self.prefix + b"canary:" + node.encode()

    def hash_of(self, event_type: str) -> bytes:
        """Return the key of the state of a type's history."""
        return b"%btype:{%b}" % (self.prefix, event_type.encode())

    def list_of(self, event_type: str) -> bytes:
        """Return the key of a type's history."""
        return b"%blog:{%b}" % (self.prefix, event_type.encode())

    def retained_of(self, event_type: str) -> bytes:
        """Return the key of the retained event of a type."""
        return b"%bretained:{%b}" % (self.prefix, event_type.encode())

    def command_of(self, command_id: str) -> bytes:
        """Return the key of a command."""
        return b"%bcommand:{%b}" % (self.prefix, command_id.encode())

    def adopted(self, event_type: str, mark: bytes) -> bytes:
        """Return the key of the number of foreign events after a mark that have a place in the history."""
        return b"%badopted:{%b}:%b" % (self.prefix, event_type.encode(), mark)

    def glob_of(self, pattern: Pattern) -> bytes:
        """Return a glob for the names that a pattern matches; it may match more."""
        name, glob = _written(pattern)
        return name if glob else _literal(name.decode())

    def source_of(self, pattern: Pattern) -> Source:
        """Return the source of a pattern's events and of their metadata.

        A glob may match more than the pattern: its star also matches dots.
        """
        name, glob = _written(pattern)
        return Source((self.metadata + name, self.events + name), glob)

    def merged_source_of(self, pattern: Pattern) -> Source:
        """Return the source of all events with the same first component as those of a pattern with stars; the pattern's own
        source if that component is not known."""
        parts = pattern.parts
        if not parts or parts[0] == "*":
            return self.source_of(pattern)
        name = _literal(parts[0]) + b".*"
        return Source((self.metadata + name, self.events + name), True)

    def event_after(self, channel: bytes) -> bytes:
        """Return the channel of the event that follows a message on this channel under `metadata`."""
        return self.events + channel[len(self.metadata) :]

    def _event_type_of(self, channel: bytes) -> str | None:
        """Return the event type of a channel under `events`, or None if the rest is not a valid name."""
        try:
            name = channel[len(self.events) :].decode()
        except UnicodeDecodeError:
            return None
        return name if is_name(name) else None

    def _event_head(self, event_type: str) -> bytes:
        """Return the beginning of a PUBLISH of this type, up to the length of the data."""
        return publish_head(self.events + event_type.encode())

    def _metadata_head(self, event_type: str) -> bytes:
        return publish_head(self.metadata + event_type.encode())


def _written(pattern: Pattern) -> tuple[bytes, bool]:
    """Return a pattern in Redis' syntax: a plain name or, with True, a glob."""
    if pattern.tail is None and "*" not in pattern.parts:
        return ".".join(pattern.parts).encode(), False
    written: list[bytes] = []
    for part in pattern.parts:
        written.append(b"*" if part == "*" else _literal(part))
        if written.count(b"*") == MAX_STARS:  # this last star matches the rest
            break
    else:
        if pattern.tail is not None:
            written.append(_literal(pattern.tail) + b"*")
    return b".".join(written), True


def _literal(part: str) -> bytes:
    text = part.encode()
    for special in (b"\\", b"*", b"?", b"[", b"]"):
        text = text.replace(special, b"\\" + special)
    return text


def publish_head(channel: bytes) -> bytes:
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(channel), channel)


def publish_command(head: bytes, data: bytes) -> bytes:
    """Return a whole PUBLISH as it is sent to Redis (RESP2: an array of bulk strings)."""
    return b"%b%d\r\n%b\r\n" % (head, len(data), data)


def command(verb: bytes, names: Sequence[bytes] = ()) -> bytes:
    """Return a command with these arguments."""
    words = [b"*%d\r\n$%d\r\n%b\r\n" % (len(names) + 1, len(verb), verb)]
    words += [b"$%d\r\n%b\r\n" % (len(name), name) for name in names]
    return b"".join(words)
