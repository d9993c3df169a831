"""What can go wrong, as one tree of exceptions. No text in it holds a token."""

from __future__ import annotations


class NexusError(Exception):
    """The base of every exception that this package raises."""


class Unsent(NexusError):
    """A request that has no answer. `maybe_sent` is false if the server has certainly not received it."""

    def __init__(self, message: str, maybe_sent: bool = False) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


class NotConnected(Unsent):
    """There was no connection for as long as the request could wait; it was not sent."""


class ConnectionLost(Unsent):
    """The connection ended before the answer. If `maybe_sent`, the request may or may not have had its effect."""


class Timeout(Unsent):
    """No answer in time."""


class Overloaded(NexusError):
    """More is pending than the client may hold."""


class Stopped(NexusError):
    """The client has ended and does not connect again. A subclass says why; this class itself: because it was closed."""


class Unauthorized(Stopped):
    """The server refuses the token."""


class Forbidden(Stopped):
    """The token is valid, but must not connect."""


class Replaced(Stopped):
    """A newer connection registered under the same agent id."""


class Revoked(Stopped):
    """The key, user or issuer of the token is no longer valid."""


class Disconnected(Stopped):
    """An administrator or the server ended the connection for good."""


class ProtocolError(Stopped):
    """The server found a violation of the protocol, so that the next attempt would end in the same way."""


class Unreachable(Stopped):
    """The first attempt showed that the address is wrong: no Nexus there, or a certificate that does not verify."""


class RequestError(NexusError):
    """The server (or this client, before it sent anything) refused a request.

    `code` is one of the protocol's error codes, `retryable` says whether the same request may succeed later.
    """

    def __init__(self, code: str, message: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable


class CommandError(RequestError):
    """A command ended without a result, or was refused."""


class CommandCancelled(CommandError):
    """A command was cancelled: by this client, another of the same subject, or an administrator."""


class CommandTimeout(CommandError):
    """A command had no result within its `timeout`."""


class SampleDropped(NexusError):
    """A sample of telemetry left the full spool before it was stored."""


class CommandFailed(NexusError):
    """Raise it in a handler to fail a command: its text is told to the caller."""
