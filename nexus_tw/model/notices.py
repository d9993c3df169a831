"""Notices: messages from the server to many clients, apart from events. Each protocol encodes them in its own form, if any."""

from __future__ import annotations

from msgspec import Raw, Struct


class ContinuityNotice(Struct, frozen=True, gc=False):
    """Events of this type (or pattern) before this notice may be missing; later ones are complete."""

    event_type: str


class BroadcastNotice(Struct, frozen=True, gc=False):
    """An administrator's message to every client."""

    data: Raw  # JSON
    timestamp: str


Notice = ContinuityNotice | BroadcastNotice
