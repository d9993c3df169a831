"""The items of a subscription's stream."""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True):
    """An event.

    `position` is its place in the history of its type, `EPOCH:OFFSET`; None if the type has no history.
    """

    type: str
    data: Any
    position: str | None = None


class Gap(msgspec.Struct, frozen=True):
    """Tell that events of `type` may be missing at this place of the stream; what follows is complete again.

    `type` may be a pattern: then this concerns each type that it matches. The missing events, if any, lie after the position
    `since` (None: unknown) and not after `position` (None: the type has no history, or its position is not known). `reason`:

    * `reconnect`: the history no longer reaches back to `since`, or the type has none;
    * `server`: the server lost events and said so;
    * `skipped`: an offset was left out, or the epoch changed unannounced;
    * `overflow`: the consumer was slower than its queue is long.
    """

    type: str
    reason: str
    position: str | None = None
    since: str | None = None
