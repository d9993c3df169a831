"""What the core asks of its shell. The shell carries effects out in their order."""

from __future__ import annotations

from typing import Any

import msgspec

from nexus_client.errors import NexusError, Stopped
from nexus_client.events import Event, Gap


class Effect(msgspec.Struct, frozen=True):
    """The base of all effects."""


class Connect(Effect, frozen=True):
    """Begin an attempt: obtain the token and give it to `Core.token`; if that returns true, open a socket.

    The attempt ends with exactly one report: `token_failed`, `refused` or `lost`; none if `Core.token` returned false.
    """

    attempt: int


class Send(Effect, frozen=True):
    """Send a text message on the socket."""

    text: str


class Close(Effect, frozen=True):
    """Begin the closing handshake; the core still waits for `lost`."""

    code: int
    reason: str


class Drop(Effect, frozen=True):
    """Abort the attempt in whatever phase it is, without a handshake; report `lost` as soon as no socket is left."""


class State(Effect, frozen=True):
    """The client's state has changed: `connecting`, `connected`, `waiting` or `closed`.

    `retry_in`: with `waiting`, seconds until the next attempt. `error`: with `closed`, why; None if `stop` was called.
    `reason`: with `waiting`, what ended the attempt, for people.
    """

    state: str
    retry_in: float | None = None
    error: Stopped | None = None
    reason: str = ""


class Subscribed(Effect, frozen=True):
    """The server has accepted a stream, for the first time or after a reconnect: all events from now on are delivered."""

    stream: int


class Deliver(Effect, frozen=True):
    """Put an item into a stream."""

    stream: int
    item: Event | Gap


class End(Effect, frozen=True):
    """A stream has ended and gets no more items; what is queued may still be read. `error`: why, None after `unsubscribe`.

    `positions` are its last ones, as `Core.positions` returned them until now.
    """

    stream: int
    error: NexusError | None
    positions: dict[str, str]


class Broadcast(Effect, frozen=True):
    """A message of an administrator to everybody."""

    data: Any


class Invoke(Effect, frozen=True):
    """Run the handler of a command, then call `Core.succeed` or `Core.fail` exactly once, also after `CancelInvocation`.

    `caller` is the calling subject; `agent` is present if the server named the executing agent. `attempt` counts from 1.
    `deadline` is in the time of `now`.
    """

    execution: int
    command: str
    parameters: Any
    caller: str | None
    agent: str | None
    attempt: int
    deadline: float


class CancelInvocation(Effect, frozen=True):
    """Cancel a running handler: nobody waits for it any more. `reason`: `cancelled`, `timeout` or `closed`."""

    execution: int
    reason: str


class Progress(Effect, frozen=True):
    """Progress of a command that this client has called. `agent` is None if the server itself executes it."""

    request: int
    agent: str | None
    data: Any


class Outcome(Effect, frozen=True):
    """One of several agents has ended a command that this client has called; told once for each, before `Settle`.

    `outcome` is as in the result of `Settle`.
    """

    request: int
    outcome: dict[str, Any]


class Settle(Effect, frozen=True):
    """A request has ended: with `result` if `error` is None.

    The result of `publish` is the position or None, that of `call` what the handler returned; for a list of targets the
    list of `{agentId, status, result or message, code}`.
    """

    request: int
    result: Any = None
    error: NexusError | None = None


class Fetch(Effect, frozen=True):
    """Answer by `Core.batch` with the next samples of the spool, at most `limit`, that were not given before."""

    limit: int


class Stored(Effect, frozen=True):
    """The server has stored these samples: remove them from the spool."""

    ids: list[str]


class Refused(Effect, frozen=True):
    """The server will never store these samples: remove them from the spool, count them, and tell their senders."""

    ids: list[str]
    error: NexusError


class Report(Effect, frozen=True):
    """Something that a person should see; belongs in the log.

    `kind`: `connection`, `protocol`, `token`, `registration`, `subscription`, `command` or `telemetry`.
    """

    kind: str
    message: str
