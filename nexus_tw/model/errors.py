"""The table of all errors: code, retryable, HTTP status, WAMP URI; and the close codes.

All other modules raise (or pass on) a `NexusError` with a code of `ERRORS`. Only the edges translate it: sessions into
messages, HTTP into problem documents, transports into closes.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """One row of the error table."""

    retryable: bool
    http: int
    wamp: str


_INVALID = "wamp.error.invalid_argument"
_DENIED = "wamp.error.not_authorized"
_NOBODY = "wamp.error.no_such_procedure"
_AWAY = "wamp.error.unavailable"
_CANCELED = "wamp.error.canceled"

ERRORS: Final[dict[str, Kind]] = {
    "invalid_json": Kind(False, 400, _INVALID),
    "invalid_message": Kind(False, 400, _INVALID),
    "unknown_type": Kind(False, 400, _INVALID),
    "unauthorized": Kind(False, 401, _DENIED),
    "forbidden": Kind(False, 403, _DENIED),
    "not_found": Kind(False, 404, _NOBODY),
    "method_not_allowed": Kind(False, 405, _INVALID),
    "no_such_command": Kind(False, 404, _NOBODY),
    "agent_offline": Kind(True, 409, _NOBODY),
    "timeout": Kind(True, 504, "wamp.error.timeout"),
    "expired": Kind(False, 410, _CANCELED),
    "cancelled": Kind(False, 409, _CANCELED),
    "agent_lost": Kind(True, 502, _CANCELED),
    "failed": Kind(False, 500, "nexus.error.failed"),
    "too_large": Kind(False, 413, "wamp.error.payload_size_exceeded"),
    "limit_exceeded": Kind(False, 422, _AWAY),
    "rate_limited": Kind(True, 429, _AWAY),
    "store_unavailable": Kind(True, 503, _AWAY),
    "bus_unavailable": Kind(True, 503, _AWAY),
    "shutting_down": Kind(True, 503, _AWAY),
    "internal": Kind(True, 500, _AWAY),
}


class NexusError(Exception):
    """A refusal or failure that is reported to the requester; `message` is for people and contains no secret."""

    __slots__ = ("_uri", "code", "message")  # no dictionary: thousands may be kept as outcomes of commands

    def __init__(self, code: str, message: str, uri: str = "") -> None:
        """`uri` is the error's URI in WAMP, if it differs from that of the code."""
        super().__init__(message)
        self.code = code
        self.message = message
        self._uri = uri

    @property
    def kind(self) -> Kind:
        return ERRORS[self.code]

    @property
    def uri(self) -> str:
        """The error's URI in WAMP."""
        return self._uri or self.kind.wamp

    def __repr__(self) -> str:
        return f"NexusError({self.code!r}, {self.message!r})"


class Narrower(NamedTuple):
    """A special case of one of `ERRORS` that has a URI of its own in WAMP; other protocols use the code."""

    code: str
    uri: str

    def error(self, message: str) -> NexusError:
        return NexusError(self.code, message, self.uri)


INVALID_URI: Final = Narrower("invalid_message", "wamp.error.invalid_uri")
NOT_SUBSCRIBED: Final = Narrower("invalid_message", "wamp.error.no_such_subscription")  # of this session
NOT_REGISTERED: Final = Narrower("invalid_message", "wamp.error.no_such_registration")
NO_SUCH_SESSION: Final = Narrower("not_found", "wamp.error.no_such_session")
NO_SUCH_SUBSCRIPTION: Final = Narrower("not_found", "wamp.error.no_such_subscription")
NO_SUCH_REGISTRATION: Final = Narrower("not_found", "wamp.error.no_such_registration")
HISTORY_UNAVAILABLE: Final = Narrower("not_found", "wamp.error.history_unavailable")
ALREADY_REGISTERED: Final = Narrower("forbidden", "wamp.error.procedure_already_exists")
POLICY_CONFLICT: Final = Narrower("forbidden", "wamp.error.procedure_exists_with_different_invocation_policy")
UNSUPPORTED: Final = Narrower("failed", "wamp.error.feature_not_supported")  # by the peer that would have to execute it


def invalid(member: str, why: str) -> NexusError:
    """Return the error for a malformed message; its text names the member and the reason."""
    return NexusError("invalid_message", f"Invalid message format: {member}: {why}")


class Unauthorized(NexusError):
    """Authentication failed. `rule` is the reason, for the log only; the client never sees it."""

    def __init__(self, rule: str) -> None:
        super().__init__("unauthorized", "Unauthorized")
        self.rule = rule


def misshapen(error: Exception, whole: str = "message") -> NexusError:
    """Return msgspec's error about a value as `invalid_message` with the text `MEMBER: WHY`; `whole` names the value itself.

    "Expected `str`, got `int` - at `$.agentId`" becomes "agentId: expected str, got int".
    """
    text, at, path = str(error).replace("`", "").rpartition(" - at $")  # the text before it may contain the client's own
    if not at:
        text, path = path, ""
    what = text[0].lower() + text[1:]
    missing = "object missing required field "
    if what.startswith(missing):
        member = what.removeprefix(missing)
        return invalid(f"{path.lstrip('.')}.{member}".lstrip("."), "is missing")
    return invalid(path.lstrip(".") or whole, what)


class ConfigError(Exception):
    """An invalid setting; the text names the key and the reason."""


NORMAL: Final = "wamp.close.normal"


class Close(NamedTuple):
    """The way a connection is closed: code and reason (RFC 6455 section 7.4), and whether the client should reconnect.

    `delay` is the window in ms over which clients should spread their reconnects. `uri` and `message` are the reason in WAMP
    for a client that should not reconnect; `message` defaults to `reason`.
    """

    code: int
    reason: str
    reconnect: bool
    delay: int = 0
    uri: str = NORMAL
    message: str = ""


INTERNAL: Final = Close(1011, "Internal error", True, 1000)
HEARTBEAT_TIMEOUT: Final = Close(1000, "Heartbeat timeout", True, 1000)
SHUTTING_DOWN: Final = Close(1000, "Server shutting down", True, 5000)
UNAUTHORIZED: Final = Close(1008, "Unauthorized", False, uri="wamp.error.authentication_failed")
SLOW_CONSUMER: Final = Close(4001, "Slow consumer", True, 1000)
RATE_LIMITED: Final = Close(4002, "Rate limit exceeded", True, 30000)
REPLACED: Final = Close(4003, "Replaced by a newer connection", False)
TOO_MANY_ERRORS: Final = Close(4004, "Too many errors", True, 10000)
RIGHTS_CHANGED: Final = Close(4005, "Rights changed", True, 5000)
TOKEN_EXPIRED: Final = Close(4500, "Token expired", False)
REVOKED: Final = Close(4501, "Revoked", False)
DISCONNECTED: Final = Close(4502, "Disconnected by administrator", False)
