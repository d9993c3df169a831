"""What the application decides about a client."""

from __future__ import annotations

import msgspec


class Options(msgspec.Struct, frozen=True):
    """Options of a `Core`.

    * `agent`: the id under which commands are registered; None: the server's `clientId` of each connection.
    * `renewable`: the token comes from a callable that can return another one.
    * `requests`: how many requests may be pending.
    * `handlers`: how many commands may run at once; further ones are answered with an error.
    """

    agent: str | None = None
    renewable: bool = False
    requests: int = 10_000
    handlers: int = 100


class Sample(msgspec.Struct, frozen=True):
    """A sample as the spool keeps it. `timestamp` is ISO 8601 in UTC, `metrics` a JSON object, encoded."""

    id: str
    agent: str
    timestamp: str
    metrics: bytes
