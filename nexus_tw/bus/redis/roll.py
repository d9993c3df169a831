"""The roll of a fleet over Redis: scripts that decide for all nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from zope.interface import implementer

from nexus_tw.bus.bounds import MAX_BURIED, MAX_NODES
from nexus_tw.bus.memory_roll import full
from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, away
from nexus_tw.bus.redis.scripts import BEAT, BURY, LEAVE, SETTLE, Call, Script, bulk
from nexus_tw.interfaces.plugins import LEFT, Beats, Burial, IRoll
from nexus_tw.model.errors import NexusError

_BURIALS: Final = {0: Burial.REFUSED, 1: Burial.MINE, 2: Burial.ANOTHERS}


@implementer(IRoll)
class RedisRoll:
    """A node's access to the roll of its realm."""

    def __init__(self, channels: Channels, publisher: Callable[[], Publisher | None]) -> None:
        """`publisher` returns the connection for queries, or None while the bus is away."""
        self._prefix = channels.prefix
        self._beats = channels.prefix + b"fleet:beats"
        self._buried = channels.prefix + b"fleet:buried"
        self._legacy = channels.prefix + b"fleet:legacy"
        self._try = channels.prefix + b"try"
        self._publisher = publisher
        self._timeline = b""

    def opened(self, timeline: bytes) -> None:
        """Call the scripts under this timeline from now on."""
        self._timeline = timeline

    def beat(self, node: str, known: Sequence[str], done: Callable[[Beats | NexusError], None]) -> None:
        epoch = self._timeline.decode()

        def answered(reply: list[Any] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
            elif reply == [b"full"]:
                done(full())
            elif reply:
                beats, buried, legacy = reply
                found = {name.decode(): int(count) for name, count in zip(beats[::2], beats[1::2], strict=True)}
                done(Beats(epoch, found, frozenset(map(bytes.decode, buried)), [name.decode() for name in legacy]))
            else:
                done(Beats(epoch, {}, frozenset((node,)), ()))

        keys = self._beats, self._buried, self._legacy, self._try
        self._ask(BEAT, keys, (node.encode(), b"%d" % MAX_NODES, *(name.encode() for name in known)), answered)

    def bury(self, node: str, beats: int | None, heir: str, done: Callable[[Burial | NexusError], None]) -> None:
        def answered(reply: list[int] | NexusError) -> None:
            done(reply if isinstance(reply, NexusError) else _BURIALS[reply[0]])

        keys = self._beats, self._buried, self._legacy, self._try
        seen = b"" if beats is None else b"%d" % beats
        self._ask(BURY, keys, (node.encode(), seen, heir.encode(), b"%d" % MAX_BURIED), answered)

    def settle(self, node: str, heir: str, done: Callable[[NexusError | None], None]) -> None:
        self._ask(SETTLE, (self._legacy,), (node.encode(), heir.encode()), _plain(done))

    def leave(self, node: str, done: Callable[[NexusError | None], None]) -> None:
        self._ask(LEAVE, (self._beats,), (node.encode(), b"%d" % LEFT), _plain(done))

    def _ask(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes], done: Callable[[Any], None]
    ) -> None:
        publisher = self._publisher()
        if publisher is None:
            done(away())
        else:
            call = Call(script, self._prefix, self._timeline)
            publisher.put_script(call.command([bulk(key) for key in keys], [bulk(word) for word in arguments]), done)


def _plain(done: Callable[[NexusError | None], None]) -> Callable[[list[Any] | NexusError], None]:
    return lambda reply: done(reply if isinstance(reply, NexusError) else None)
