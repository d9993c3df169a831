"""The shared state of the WAMP sessions with one serializer and framing."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_tw.interfaces.authentication import Introductions
from nexus_tw.interfaces.realm import Verbs
from nexus_tw.model.errors import Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.protocols.wamp.encoding import WampFrames
from nexus_tw.protocols.wamp.reading import READERS


class WampContext:
    """Realms, limits, metrics, and the reader and encoding of messages."""

    def __init__(
        self,
        realms: Mapping[str, Verbs],
        introductions: Introductions,
        encoding: WampFrames,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.realms = realms
        self.introductions = introductions
        self.encoding = encoding
        self.codec = encoding.codec
        self.read = READERS[self.codec.name]
        self.metrics = metrics
        self.depth = limits.depth
        self.limits = limits

    def last_words(self, kind: int, close: Close) -> bytes:
        """Return the ABORT or GOODBYE (`kind`) to send before the connection is closed."""
        return self.encoding.frame(self.codec.encode((kind, {"message": close.message or close.reason}, close.uri)))
