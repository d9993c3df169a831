"""Parts of Nexus done the plain way: what stands in for each part of the design that is there for speed.

Each `without_…` changes this process, before it makes a server; see `bench.switches`.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import ensureDeferred
from zope.interface import implementer

import nexus_tw.server
import nexus_tw.service
import nexus_tw.sessions.json
import nexus_tw.transport.outbox
import nexus_tw.transport.websocket
from nexus_tw.encodings import JsonText
from nexus_tw.filters import Filter
from nexus_tw.hub import Hub, Subscriber
from nexus_tw.interfaces import Encoding, IStore, Sample
from nexus_tw.sessions.json import JsonDialect, JsonSession
from nexus_tw.store import open_store
from nexus_tw.topics import Pattern
from nexus_tw.transport.outbox import Outbox
from nexus_tw.transport.websocket import Doorway


def without_lane() -> None:
    class Slow(Doorway):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, lane=False)

    nexus_tw.server.Doorway = Slow  # type: ignore[misc]


def without_direct() -> None:
    nexus_tw.transport.outbox.DIRECT = False  # type: ignore[misc]


def without_turn() -> None:
    nexus_tw.server.Hub = ImmediateHub  # type: ignore[misc]
    nexus_tw.transport.websocket.Outbox = ImmediateOutbox  # type: ignore[misc]


def without_cohorts() -> None:
    JsonDialect.session = _with_encoding_of_its_own  # type: ignore[method-assign]


def without_groups() -> None:
    nexus_tw.server.Hub = AskingHub  # type: ignore[misc]


def without_commit() -> None:
    nexus_tw.service.open_store = lambda url, reactor: OneByOne(open_store(url, reactor))  # type: ignore[assignment]


def without_collector() -> None:
    nexus_tw.service.COLLECT_AFTER = gc.get_threshold()  # type: ignore[misc]
    gc.freeze = lambda: None


class ImmediateHub(Hub):
    """Hands over each event by itself."""

    def event(self, event_type: str, data: bytes) -> None:
        super().event(event_type, data)
        self.flush()


class ImmediateOutbox(Outbox):
    """Sends each message by itself."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        self.push(data)


def _with_encoding_of_its_own(self: JsonDialect, link: Any, principal: Any, address: str) -> JsonSession:
    return OwnEncoding(self, link, principal, address, f"client-{self._new_id()}")


class OwnEncoding(JsonSession):
    """A session whose frames nobody else can share, as far as the hub knows."""

    __slots__ = ("_encoding",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._encoding = JsonText()
        self._encoding.key = id(self)

    @property
    def encoding(self) -> Encoding:
        return self._encoding


class AskingHub(Hub):
    """Asks each subscriber's every filter for each event; frames are made once, and joined at the end of the turn."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._askers: dict[str, dict[Subscriber, list[Filter | None]]] = {}
        self._pending: dict[Subscriber, list[bytes]] = defaultdict(list)

    def subscribe(self, subscriber: Subscriber, pairs: Iterable[tuple[Pattern, Filter | None]]) -> None:
        pairs = list(pairs)
        super().subscribe(subscriber, pairs)
        for pattern, filter_ in pairs:
            self._askers.setdefault(pattern.text, {}).setdefault(subscriber, []).append(filter_)

    def unsubscribe(self, subscriber: Subscriber, patterns: Iterable[str]) -> None:
        patterns = list(patterns)
        super().unsubscribe(subscriber, patterns)
        for text in patterns:
            self._askers.get(text, {}).pop(subscriber, None)

    def remove(self, subscriber: Subscriber) -> None:
        super().remove(subscriber)
        self._pending.pop(subscriber, None)
        for subscribers in self._askers.values():
            subscribers.pop(subscriber, None)

    def event(self, event_type: str, data: bytes) -> None:
        decoded = msgspec.json.decode(data)
        frames: dict[Any, bytes] = {}
        got: set[Subscriber] = set()
        for pattern in self.interested(event_type):
            for subscriber, filters in self._askers[pattern.text].items():
                if subscriber not in got and any(filter_ is None or filter_.matches(decoded) for filter_ in filters):
                    got.add(subscriber)
                    encoding = subscriber.peer.encoding
                    if encoding.key not in frames:
                        frames[encoding.key] = encoding.event(event_type, data)
                    if not self._pending:
                        self._soon(self._hand_over)
                    self._pending[subscriber].append(frames[encoding.key])

    def _hand_over(self) -> None:
        pending, self._pending = self._pending, defaultdict(list)
        for subscriber, frames in pending.items():
            subscriber.peer.deliver(b"".join(frames))


@implementer(IStore)
class OneByOne:
    """A store that commits every sample in a transaction, and so with an fsync, of its own."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, samples: Sequence[Sample]) -> Any:
        return ensureDeferred(self._commit(samples))

    async def _commit(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            await self._store.commit([sample])
