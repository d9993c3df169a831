"""The calls of a session that have not ended, and those that ended lately."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from nexus_tw.interfaces.realm import CancelMode
from nexus_tw.protocols.wamp.messages import Call

ENDED_KEPT: Final = 64  # calls with arguments in parts that have ended, whose late parts are recognised


class Pending(Protocol):
    """A call that has not ended."""

    def further(self, message: Call) -> None:
        """Take a further part of its arguments."""

    def cancel(self, mode: CancelMode) -> None:
        """End it, as its caller asks for."""

    def abandon(self) -> None:
        """Take it that nobody waits for it any more."""


class PendingCalls:
    """Those that have not ended, by request; of those with arguments in parts the last that have `ended`."""

    __slots__ = ("by_request", "ended", "parts")

    def __init__(self) -> None:
        self.by_request: dict[int, Pending] = {}
        self.parts = 0  # of theirs, that wait for their turn
        self.ended: OrderedDict[int, None] | None = None

    def abandon(self) -> None:
        """Take it that nobody waits for any of them any more."""
        pending, self.by_request = self.by_request, {}
        for each in pending.values():
            each.abandon()

    def end(self, request: int, in_parts: bool) -> None:
        """Take it that one has ended."""
        self.by_request.pop(request, None)
        if in_parts:
            ended = self.ended = self.ended or OrderedDict()
            ended[request] = None
            if len(ended) > ENDED_KEPT:
                ended.popitem(last=False)
