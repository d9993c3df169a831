"""The dialect: makes WAMP sessions."""

from __future__ import annotations

from collections.abc import Mapping

from nexus_tw.interfaces.authentication import Introductions
from nexus_tw.interfaces.realm import Verbs
from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.protocols.wamp.context import WampContext
from nexus_tw.protocols.wamp.encoding import WampFrames
from nexus_tw.protocols.wamp.messages import ABORT
from nexus_tw.protocols.wamp.session import WampSession
from nexus_tw.protocols.wamp.states import NEW


class WampDialect:
    """Makes WAMP sessions of one serializer and framing."""

    introduces = True

    def __init__(
        self,
        realms: Mapping[str, Verbs],
        introductions: Introductions,
        encoding: WampFrames,
        heartbeat: bytes,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """`heartbeat` is a ping frame of the transport."""
        self.heartbeat = heartbeat
        self._context = WampContext(realms, introductions, encoding, limits, metrics)

    def session(self, link: Link, principal: Principal | None, address: str) -> WampSession:
        return WampSession(self._context, link, principal, address, NEW)

    def farewell(self, close: Close) -> bytes:
        return self._context.last_words(ABORT, close)
