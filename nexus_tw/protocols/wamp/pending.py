"""The open calls of a session, and those that ended recently."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

from nexus_tw.interfaces.realm import CancelMode
from nexus_tw.protocols.wamp.messages import Call

ENDED_KEPT: Final = 64  # ended calls with arguments in parts, kept to recognise late parts


class Pending(Protocol):
    """A call that has not ended."""

    def further(self, message: Call) -> None:
        """Pass on a further part of its arguments."""

    def cancel(self, mode: CancelMode) -> None:
        """Cancel the call, as its caller requests."""

    def abandon(self) -> None:
        """Give up the call: its caller is gone."""


class PendingCalls:
    """Open calls by request id; `ended` has the last ended calls with arguments in parts."""

    __slots__ = ("by_request", "ended", "parts")

    def __init__(self) -> None:
        self.by_request: dict[int, Pending] = {}
        self.parts = 0  # further parts that are queued
        self.ended: OrderedDict[int, None] | None = None

    def abandon(self) -> None:
        """Give up all calls: the caller is gone."""
        pending, self.by_request = self.by_request, {}
        for each in pending.values():
            each.abandon()

    def end(self, request: int, in_parts: bool) -> None:
        """Remove a call that has ended."""
        self.by_request.pop(request, None)
        if in_parts:
            ended = self.ended = self.ended or OrderedDict()
            ended[request] = None
            if len(ended) > ENDED_KEPT:
                ended.popitem(last=False)
