"""What the end of an attempt means: to stop, or to try again."""

from __future__ import annotations

from typing import Final

from nexus_client.errors import Disconnected, ProtocolError, Replaced, Revoked, Stopped

TOKEN_CLOSES: Final = (1008, 4500)  # Unauthorized, Token expired: another token may do
TOO_MANY_ERRORS: Final = 4004

_FATAL: Final[dict[int, type[Stopped]]] = {
    1002: ProtocolError,
    1003: ProtocolError,
    1007: ProtocolError,
    1009: ProtocolError,
    4003: Replaced,
    4501: Revoked,
    4502: Disconnected,
}

# Answers to the upgrade that mean: here is no Nexus. They are final unless there was one before.
NO_NEXUS: Final = (400, 404, 405, 426)


def fatal(code: int, reason: str, reconnect: bool) -> Stopped | None:
    """Return why not to come back after the server's close; None if the client should.

    `reconnect`: what the server said about it, true if nothing.
    """
    error = _FATAL.get(code)
    if error is None and not reconnect:
        error = Disconnected
    return error(f"the server closed the connection: {code} {reason}".rstrip()) if error else None
