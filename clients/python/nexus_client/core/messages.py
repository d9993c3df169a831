"""Messages of the protocol: what the server sends, decoded, and what is sent to it, encoded."""

from __future__ import annotations

import math
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
    heartbeat: dict[str, float] = {}
    limits: dict[str, float] = {}
    reconnect: bool | dict[str, float] | None = None
    delay: float | None = None
    code: int | str = ""
    reason: str = ""
    message: str = ""
    retryable: bool = False
    status: str = "success"


class _Typed(msgspec.Struct):
    type: str


# The members without which a message has no meaning.
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "connected": ("timestamp",),
    "event": ("eventType",),
    "continuity": ("eventType",),
    "command": ("commandId", "command", "deadline"),
    "command_cancel": ("commandId",),
    "subscribed": (),
    "unsubscribed": (),
    "registered": (),
    "unregistered": (),
    "published": (),
    "telemetry_ack": (),
    "command_progress": (),
    "command_result": (),
    "error": (),
    "broadcast": (),
    "disconnect": (),
    "ping": (),
    "pong": (),
}

_message: Final = msgspec.json.Decoder(Message).decode
_typed: Final = msgspec.json.Decoder(_Typed).decode
_encode: Final = msgspec.json.Encoder().encode


def decode(text: str | bytes) -> Message | None:
    """Return the message; None if its type is unknown. Raise `Garbage` if it is none."""
    try:
        message = _message(text)
    except msgspec.ValidationError as error:
        if _type_of(text) in _NEEDED:
            raise Garbage(f"a message of the server has the wrong form: {error}") from None
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbage("a message of the server is not JSON") from None
    needed = _NEEDED.get(message.type)
    if needed is None:
        return None
    for member in needed:
        if not getattr(message, member):
            raise Garbage(f"a message of the server, {message.type}, lacks {member}")
    return message


def _type_of(text: str | bytes) -> str:
    try:
        return _typed(text).type
    except msgspec.ValidationError:
        raise Garbage("a message of the server is no object with a type") from None


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


def seconds(milliseconds: float | None, otherwise: float, most: float = 3600.0) -> float:
    """Return a number of milliseconds from the server as seconds within reason; `otherwise` if there is none."""
    if milliseconds is None or not math.isfinite(milliseconds):
        return otherwise
    return min(max(milliseconds / 1000, 0.0), most)
