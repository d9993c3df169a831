"""Holdings: what a peer that subscribes once more is given already.

A type that it follows is not given to it from the history a second time: events would come twice, and older ones after newer.
It has had them all if an earlier subscription recovered the type from the same position and lets through what this one does;
else it is told that some may be missing.
"""

from __future__ import annotations

from typing import Final

from nexus_tw.model.filters import Facts, Filter
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.groups import Group, Subscriber
from nexus_tw.pubsub.hub import Hub

REMEMBERED: Final = 4096  # types of one connection whose recovery is remembered


class Holding:
    """The subscriptions of a peer before the one that is being made with this condition."""

    __slots__ = ("_hub", "_identity", "_subscriber")

    def __init__(self, hub: Hub, subscriber: Subscriber, condition: Filter | None) -> None:
        self._hub = hub
        self._subscriber = subscriber
        self._identity = condition.identity if condition else None

    def follows(self, event_type: str) -> bool:
        """Return whether the peer is given events of this type."""
        return bool(self._groups(event_type))

    def has_all(self, event_type: str) -> bool:
        """Return whether it is given all of them that the new subscription asks for."""
        return any(group.filter is None or group.filter.identity == self._identity for group in self._groups(event_type))

    def has_had(self, event_type: str, since: Position) -> bool:
        """Return whether it was given all of them from this position on."""
        recovered = self._subscriber.recovered.get(event_type)
        if recovered is None:
            return False
        identity, position = recovered
        return identity in (None, self._identity) and position.epoch == since.epoch and position.offset <= since.offset

    def remember(self, event_type: str, since: Position) -> None:
        """The new subscription gives it all of them from this position on."""
        recovered = self._subscriber.recovered
        if len(recovered) < REMEMBERED and event_type not in recovered:
            recovered[event_type] = self._identity, since

    def wants(self, event_type: str, facts: Facts) -> bool:
        """Return whether one of the earlier subscriptions asks for this event."""
        return any(group.filter is None or group.filter.matches(facts) for group in self._groups(event_type))

    def pause(self) -> list[Pattern]:
        """Give the peer what was gathered for it, and then nothing more before it joins again. Return what it subscribes to:
        what comes under these patterns meanwhile is to be given to it in another way."""
        self._hub.pause(self._subscriber)
        return [bucket.pattern for bucket in self._subscriber.buckets(self._subscriber.pairs)]

    def _groups(self, event_type: str) -> list[Group]:
        held = self._subscriber.pairs
        patterns = {bucket.pattern.text: bucket.pattern for bucket in self._subscriber.buckets(held)}
        return [
            group
            for text, groups in held.items()
            if patterns[text].matches(event_type) and patterns[text].selects(event_type)
            for group in groups.values()
        ]
