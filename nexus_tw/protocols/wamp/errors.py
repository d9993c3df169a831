"""Errors for which WAMP has a URI of its own."""

from __future__ import annotations

from nexus_tw.model.errors import NexusError


class WampError(NexusError):
    """A request that is refused under this URI."""

    uri = ""

    def __init__(self, uri: str, message: str) -> None:
        super().__init__("invalid_message", message)
        self.uri = uri


def invalid_uri(message: str = "Not a valid URI") -> WampError:
    return WampError("wamp.error.invalid_uri", message)
