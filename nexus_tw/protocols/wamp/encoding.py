"""The encoding of WAMP: events and messages to frames."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event
from nexus_tw.model.notices import Notice
from nexus_tw.model.serializers import Codec
from nexus_tw.protocols.wamp.features import Subscriber, passes
from nexus_tw.protocols.wamp.messages import EVENT

NOTHING: Final = Subscriber()


class WampFrames:
    """The encoding for one serializer and transport, for subscribers with the same features."""

    once = False

    def __init__(
        self, codec: Codec, transport: str, frame: Callable[[bytes], bytes], features: Subscriber = NOTHING
    ) -> None:
        """`frame` frames a message for the transport named by `transport`."""
        self.codec = codec
        self.frame = frame
        self.name = f"wamp.2.{codec.name} over {transport}"
        self.key: Hashable = (self.name, features)
        self._transport = transport
        self._features = features
        self._others: dict[Subscriber, WampFrames] = {features: self}

    def to(self, features: Subscriber) -> WampFrames:
        """Return the encoding for subscribers with these features; the same object for equal features."""
        features = features._replace(subscription_revocation=False)  # does not affect events
        found = self._others.get(features)
        if found is None:
            found = self._others[features] = WampFrames(self.codec, self._transport, self.frame, features)
        return found

    def event(self, event: Event, subscription: Subscription, retained: bool = False) -> bytes:
        details: dict[str, Any] = {"retained": True} if retained else {}
        if not subscription.pattern.exact:
            details["topic"] = event.type
        metadata = event.metadata
        if metadata is not None:
            if metadata.publisher is not None and self._features.publisher_identification:
                details["publisher"], details["publisher_authid"], details["publisher_authrole"] = metadata.publisher
            if metadata.options is not None:
                if not passes(metadata.options, self._features):
                    return b""
                details.update(metadata.options)
        try:
            args, kwargs = event.payload.arguments(self.codec)
        except NexusError:  # foreign data that this serializer cannot represent
            return b""
        return self.frame(self.codec.join((EVENT, subscription.number, event.publication, details), args, kwargs))

    def notice(self, _notice: Notice) -> bytes:
        return b""
