"""Fakes that remember what they were told: a peer, a caller, the events announced."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count
from typing import Any, TypeVar

import msgspec

from nexus_tw.errors import Close, NexusError
from nexus_tw.interfaces import Peer
from nexus_tw.messages import CommandProgress, CommandResult, ServerMessage
from nexus_tw.policy import ADMIN, Principal
from nexus_tw.sessions.verbs import CommandReply
from nexus_tw.settings import Role

M = TypeVar("M", bound=ServerMessage)
_numbers = count(1)


def principal(subject: str = "somebody", role: Role = ADMIN) -> Principal:
    """One with all rights, unless a role is given."""
    return Principal(subject, "test", role)


class RecordingEncoding:
    """Frames that a test can read: events are `TYPE DATA`, all else is its JSON. Equal keys, equal bytes."""

    def __init__(self, key: Hashable = "recording") -> None:
        self.key = key

    def event(self, event_type: str, data: bytes) -> bytes:
        return b"%b %b\n" % (event_type.encode(), data)

    def message(self, message: ServerMessage) -> bytes:
        return msgspec.json.encode(message) + b"\n"


class RecordingPeer:
    """A client that takes everything: `sent` are messages, `delivered` frames, `closed` what it was closed with."""

    def __init__(
        self,
        client_id: str | None = None,
        who: Principal | None = None,
        address: str = "127.0.0.1",
        encoding: RecordingEncoding | None = None,
    ) -> None:
        self.client_id = client_id or f"client-{next(_numbers)}"
        self.principal = who or principal()
        self.address = address
        self.encoding = encoding or RecordingEncoding()
        self.sent: list[ServerMessage] = []
        self.delivered: list[bytes] = []
        self.closed: list[Close] = []
        self.deliver = self.delivered.append

    def send(self, message: ServerMessage) -> None:
        self.sent.append(message)

    def close(self, close: Close) -> None:
        if not self.closed:
            self.closed.append(close)

    def got(self, kind: type[M]) -> list[M]:
        """The messages of this kind."""
        return [message for message in self.sent if isinstance(message, kind)]

    def __repr__(self) -> str:
        return f"RecordingPeer({self.client_id!r})"


class RecordingReply:
    """A caller: `results` and `errors` are all that it was told at the end, `progressed` all before."""

    def __init__(self) -> None:
        self.progressed: list[CommandProgress] = []
        self.results: list[CommandResult] = []
        self.errors: list[NexusError] = []
        self.command_ids: list[str] = []  # of the errors

    def progress(self, message: CommandProgress) -> None:
        self.progressed.append(message)

    def result(self, message: CommandResult) -> None:
        self.results.append(message)

    def error(self, error: NexusError, command_id: str) -> None:
        self.errors.append(error)
        self.command_ids.append(command_id)

    @property
    def ends(self) -> int:
        """How many times the caller was told that its command has ended."""
        return len(self.errors) + sum(result.agent_id is None for result in self.results)

    @property
    def answer(self) -> Any:
        """The JSON of the one result there is."""
        (result,) = self.results
        assert not self.errors
        return msgspec.json.decode(msgspec.json.encode(result))

    @property
    def code(self) -> str:
        """The code of the one error there is."""
        (error,) = self.errors
        assert not self.results
        return error.code


class RecordingAnnouncer:
    """Takes the events that the server publishes itself: pairs of type and decoded data."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def __call__(self, event_type: str, data: bytes) -> None:
        self.events.append((event_type, msgspec.json.decode(data)))

    def of(self, event_type: str) -> list[Any]:
        return [data for kind, data in self.events if kind == event_type]


def _keep_their_shape(peer: RecordingPeer, reply: RecordingReply) -> tuple[Peer, CommandReply]:
    """Never called: here the type checker sees that the fakes are what they stand for."""
    return peer, reply
