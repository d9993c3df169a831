"""Simple replacements for the parts of Nexus that are optimised for speed.

Each `without_…` changes this process, and must be called before a server is made; see `bench.switches`.
"""

from __future__ import annotations

import gc
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import Any

import msgspec

import nexus_tw.app.service
import nexus_tw.protocols.native.session
import nexus_tw.pubsub.service
import nexus_tw.transport.conversation
import nexus_tw.transport.outbox
from nexus_tw.interfaces.peers import Encoding
from nexus_tw.model.events import Event
from nexus_tw.model.filters import Facts, Filter
from nexus_tw.model.names import Pattern
from nexus_tw.protocols.native.encoding import JsonText
from nexus_tw.protocols.native.session import JsonSession
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.hub import Hub
from nexus_tw.telemetry.intake import Telemetry
from nexus_tw.transport.outbox import Outbox


def without_lane() -> None:
    os.environ["NEXUS_RECEIVE_LANE"] = "false"


def without_direct() -> None:
    _replace(nexus_tw.transport.outbox, "DIRECT", False)


def without_turn() -> None:
    _replace(nexus_tw.pubsub.service, "Hub", ImmediateHub)
    _replace(nexus_tw.transport.conversation, "Outbox", ImmediateOutbox)


def without_cohorts() -> None:
    _replace(nexus_tw.protocols.native.session, "JsonSession", OwnEncoding)


def without_groups() -> None:
    _replace(nexus_tw.pubsub.service, "Hub", AskingHub)


def without_commit() -> None:
    everything = Telemetry._hand_over

    def one(self: Telemetry) -> Any:
        waiting = self._waiting
        self._waiting = waiting[:1]
        handed = everything(self)
        self._waiting = waiting[1:]
        return handed

    _replace(Telemetry, "_hand_over", one)


def without_collector() -> None:
    _replace(nexus_tw.app.service, "COLLECT_AFTER", gc.get_threshold())
    _replace(gc, "freeze", lambda: None)


def _replace(module: ModuleType | type, name: str, by: Any) -> None:
    # After a renaming in the product, a replacement must fail instead of having no effect.
    if not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {name} any more")
    setattr(module, name, by)


class ImmediateHub(Hub):
    """Delivers each event by itself."""

    def event(self, event: Event, excluded: Collection[Subscriber] = ()) -> None:
        super().event(event, excluded)
        self.flush()


class ImmediateOutbox(Outbox):
    """Sends each message by itself."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        if self._parts:  # the greeting, before which nothing may be sent
            super().write(data)
        else:
            self.push(data)


class OwnText(JsonText):
    def __init__(self, key: int) -> None:
        self.key: Any = key


class OwnEncoding(JsonSession):
    """A session whose frames the hub cannot share with others."""

    __slots__ = ("_encoding",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._encoding = OwnText(id(self))

    @property
    def encoding(self) -> Encoding:
        return self._encoding


class AskingHub(Hub):
    """Evaluates each subscriber's every filter for each event; frames are still encoded once, and joined at the end of the
    turn."""

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

    def event(self, event: Event, _excluded: Collection[Subscriber] = ()) -> None:
        facts = Facts(msgspec.json.decode(event.payload.data))
        frames: dict[Any, bytes] = {}
        got: set[Subscriber] = set()
        for bucket in self._buckets.find(event.type):
            pattern = bucket.pattern
            for subscriber, filters in self._askers[pattern.text].items():
                if subscriber not in got and any(filter_ is None or filter_.matches(facts) for filter_ in filters):
                    got.add(subscriber)
                    encoding = subscriber.peer.encoding
                    if encoding.key not in frames:
                        frames[encoding.key] = encoding.event(event, bucket)
                    if not self._pending:
                        self._end_of_turn(self._hand_over)
                    self._pending[subscriber].append(frames[encoding.key])

    def _hand_over(self) -> None:
        pending, self._pending = self._pending, defaultdict(list)
        for subscriber, frames in pending.items():
            subscriber.peer.deliver(b"".join(frames))
