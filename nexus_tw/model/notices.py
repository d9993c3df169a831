"""Notices: messages from the server to many clients, apart from events. Each protocol encodes them in its own form, if any."""

from __future__ import annotations

from msgspec import Raw, Struct

from nexus_tw.model.positions import Position


class ContinuityNotice(Struct, frozen=True, gc=False):
    """Events of this type (or pattern) before this notice may be missing, or with `recovered` are not; later ones are complete.

    `position` is that of the last event before the notice, None if there is none.
    """

    event_type: str
    position: Position | None = None
    recovered: bool = False


class BroadcastNotice(Struct, frozen=True, gc=False):
    """An administrator's message to every client."""

    data: Raw  # JSON
    timestamp: str


Notice = ContinuityNotice | BroadcastNotice
