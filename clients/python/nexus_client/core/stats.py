"""Counters of one client."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct):
    """Plain counters since the start; they only rise.

    * `attempts` to connect, of which `connections` reached `connected`; `garbage`: messages that violate the protocol.
    * `events` received, `duplicates` dropped, `gaps` told.
    * `commands` run; `busy`: commands turned away because too many ran; `repeats` answered from a running or kept execution.
    * `stored` and `refused` samples, `batches` sent.
    """

    attempts: int = 0
    connections: int = 0
    garbage: int = 0
    events: int = 0
    duplicates: int = 0
    gaps: int = 0
    commands: int = 0
    busy: int = 0
    repeats: int = 0
    stored: int = 0
    refused: int = 0
    batches: int = 0
