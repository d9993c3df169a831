"""Messages of the protocol: what the server sends, decoded, and what is sent to it, encoded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec


class Garbage(Exception):
    """What the server sent violates the protocol. The text says why and holds nothing of what was sent."""


class Message(msgspec.Struct):
    """A message of the server: `type` and whatever members it has. Members that no message needs are not kept."""

    type: str
    eventType: str = ""
    data: Any = None
    position: str | None = None
    id: int | str | None = None
    positions: dict[str, str] | None = None
    recovered: bool | dict[str, bool] | None = None
    events: list[str] = []
    commands: list[str] = []
    commandId: str = ""
    command: str = ""
    parameters: Any = None
    caller: str | None = None
    agentId: str | None = None
    attempt: int = 1
    deadline: str = ""
    timestamp: str = ""
    heartbeat: dict[str, Any] = {}
    user: Any = None
    limits: dict[str, Any] = {}
    reconnect: bool | dict[str, Any] | None = None
    delay: float | None = None
    code: int | str = ""
    reason: str = ""
    message: str = ""
    retryable: bool = False
    status: str = "success"


# The members of each message: first those without which it has no meaning.
_MEMBERS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "connected": (("timestamp",), ("heartbeat", "limits", "reconnect", "user")),
    "event": (("eventType",), ("data", "position")),
    "continuity": (("eventType",), ("position", "recovered")),
    "command": (("commandId", "command", "deadline"), ("parameters", "caller", "agentId", "attempt")),
    "command_cancel": (("commandId",), ("reason", "agentId")),
    "subscribed": ((), ("id", "positions", "recovered")),
    "unsubscribed": ((), ("id", "events")),
    "registered": ((), ("id",)),
    "unregistered": ((), ("id", "commands")),
    "published": ((), ("id", "position")),
    "telemetry_ack": ((), ("id",)),
    "command_progress": ((), ("id", "agentId", "data")),
    "command_result": ((), ("id", "agentId", "data", "status", "code", "message")),
    "error": ((), ("id", "code", "message", "retryable")),
    "broadcast": ((), ("data",)),
    "disconnect": ((), ("code", "reason", "reconnect", "delay")),
    "ping": ((), ("delay",)),
    "pong": ((), ()),
}

_message: Final = msgspec.json.Decoder(Message).decode
_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


def decode(text: str | bytes) -> Message | None:
    """Return the message; None if its type is unknown. Raise `Garbage` if it is none."""
    try:
        message = _message(text)
    except msgspec.ValidationError:
        message = _known_members(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbage("a message of the server is not JSON") from None
    members = _MEMBERS.get(message.type)
    if members is None:
        return None
    for member in members[0]:
        if not getattr(message, member):
            raise Garbage(f"a message of the server, {message.type}, lacks {member}")
    return message


def _known_members(text: str | bytes) -> Message:
    """Return the message with those members only that its type has: others may have any form."""
    try:
        found = _object(text)
        kind = found.get("type")
        needed, others = _MEMBERS.get(kind, ((), ())) if isinstance(kind, str) else ((), ())
        return msgspec.convert({name: found[name] for name in ("type", *needed, *others) if name in found}, Message)
    except msgspec.ValidationError as error:
        raise Garbage(f"a message of the server has the wrong form: {error}") from None


def encode(message: dict[str, Any]) -> str:
    """Return the message as JSON. Raise `TypeError` if it holds something that JSON has not."""
    try:
        return _encode(message).decode()
    except (ValueError, OverflowError, RecursionError) as error:
        raise TypeError(str(error)) from None


def numbered(text: str, number: int) -> str:
    """Return an encoded object with this number as `id`."""
    return f'{text[:-1]},"id":{number}}}'


def parse_position(position: str) -> tuple[str, int]:
    """Return epoch and offset of a position. Raise `Garbage` if it is none."""
    epoch, _, offset = position.rpartition(":")
    if not epoch or not (offset.isascii() and offset.isdigit()):
        raise Garbage("a position of the server is not EPOCH:OFFSET")
    return epoch, int(offset)


def parse_time(timestamp: str) -> float:
    """Return the seconds since 1970 of an ISO 8601 timestamp. Raise `Garbage` if it is none."""
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        raise Garbage("a timestamp of the server is not ISO 8601") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def number(members: dict[str, Any], name: str, otherwise: float) -> float:
    """Return a member that is a number, not negative; `otherwise` if there is none."""
    value = members.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else otherwise


def seconds(milliseconds: float, most: float = 3600.0) -> float:
    """Return a number of milliseconds from the server as seconds within reason."""
    return min(max(milliseconds / 1000, 0.0), most)
