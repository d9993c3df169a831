"""Claims over Redis: a script that decides for all nodes, called once for all that a node asks for in a turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nexus_tw.bus.bounds import MAX_CLAIMS
from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, away, guarded
from nexus_tw.bus.redis.scripts import CLAIM, Call, bulk
from nexus_tw.interfaces.plugins import IClaims
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.registering import refusal, too_many
from nexus_tw.runtime.turn import Turn

STEPS: Final = 1000  # in one call: Redis does nothing else meanwhile

Done = Callable[[NexusError | None], None]
_Step = tuple[Pattern, str, Done]  # the pattern, and its policy, or `RELEASE`
_RELEASE: Final = "-"
_FULL: Final = "-"


@implementer(IClaims)
class RedisClaims:
    """A node's access to the claims of its realm."""

    def __init__(
        self, channels: Channels, clock: IReactorTime, publisher: Callable[[], Publisher | None], most: int = MAX_CLAIMS
    ) -> None:
        """`publisher` returns the connection for queries, or None while the bus is away."""
        self._prefix = channels.prefix
        self._claims = channels.prefix + b"claims"
        self._publisher = publisher
        self._most = most
        self._turn = Turn(clock)
        self._timeline = b""
        self._steps: dict[str, list[_Step]] = {}  # of this turn, by node

    def opened(self, timeline: bytes) -> None:
        """Call the script under this timeline from now on."""
        self._timeline = timeline

    def claim(self, pattern: Pattern, invoke: str, node: str, done: Done) -> None:
        self._add(node, (pattern, invoke, done))

    def release(self, pattern: Pattern, node: str, done: Done) -> None:
        self._add(node, (pattern, _RELEASE, done))

    def forget(self, node: str, done: Done) -> None:
        def answered(reply: list[int] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
            elif reply[0]:
                self._ask(node, (), answered)
            else:
                done(None)

        self._flush()
        self._ask(node, (), answered)

    # ---

    def _add(self, node: str, step: _Step) -> None:
        if self._publisher() is None:
            step[2](away())
            return
        if not self._steps:
            self._turn.add(self._flush)
        self._steps.setdefault(node, []).append(step)

    def _flush(self) -> None:
        waiting, self._steps = self._steps, {}
        for node, steps in waiting.items():
            for place in range(0, len(steps), STEPS):
                part = steps[place : place + STEPS]
                words = [word for pattern, policy, _ in part for word in (pattern.text.encode(), policy.encode())]
                self._ask(node, words, partial(self._answered, part))

    def _ask(self, node: str, words: Sequence[bytes], done: Callable[[Any], None]) -> None:
        publisher = self._publisher()
        if publisher is None:
            done(away())
            return
        name = quote(node, safe=":").encode()  # without spaces
        keys = [bulk(self._claims), bulk(b"%b:%b" % (self._claims, name))]
        arguments = [bulk(name), bulk(b"%d" % self._most), *map(bulk, words)]
        publisher.put_script(Call(CLAIM, self._prefix, self._timeline).command(keys, arguments), done)

    def _answered(self, steps: Sequence[_Step], reply: list[bytes] | NexusError) -> None:
        if isinstance(reply, NexusError):
            for _, _, done in steps:
                guarded(done, reply)
            return
        for (pattern, invoke, done), there in zip(steps, reply, strict=True):
            guarded(done, self._refusal(pattern, invoke, there.decode()))

    def _refusal(self, pattern: Pattern, invoke: str, there: str) -> NexusError | None:
        if not there:
            return None
        return too_many(self._most) if there == _FULL else refusal(pattern, there, invoke)
