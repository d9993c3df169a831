"""The gate of a connection: controls whether more is read from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall


class Gate:
    """A push producer before a transport; it can also be told to rest for some time, whoever resumes it."""

    def __init__(self, producer: Any, call_later: Callable[..., Any]) -> None:
        self._producer = producer
        self._call_later = call_later
        self._open = True
        self._rest: IDelayedCall | None = None

    def pauseProducing(self) -> None:
        self._open = False
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._open = True
        if self._rest is None:
            self._producer.resumeProducing()

    def rest(self, seconds: float) -> None:
        """Read nothing for so many seconds from now on."""
        if self._rest is not None:
            self._rest.cancel()
        else:
            self._producer.pauseProducing()
        self._rest = self._call_later(seconds, self._rested)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer.unregisterProducer()

    def end(self) -> None:
        """Stop controlling the connection."""
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.cancel()

    def _rested(self) -> None:
        self._rest = None
        if self._open:
            self._producer.resumeProducing()
