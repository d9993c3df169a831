"""Tickets: what the node of a caller and the node that drives its command tell each other. Each caller has a number there, its
ticket, which all answers carry."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from nexus_tw.model.commands import NULL, Outcome, ProgressReport


class Attach(Struct, tag="attach", array_like=True, gc=False):
    """To the driver: a caller of this session waits for the command; answers carry the ticket."""

    ticket: int
    command_id: str
    session: int


class Detach(Struct, tag="detach", array_like=True, gc=False):
    """To the driver: the session is gone."""

    session: int


class Cancel(Struct, tag="cancel", array_like=True, gc=False):
    """To the driver: cancel the command for this caller."""

    ticket: int
    command_id: str
    identity: str
    admin: bool


class Progress(Struct, tag="progress", array_like=True, gc=False):
    """From the driver."""

    ticket: int
    report: ProgressReport


class Told(Struct, array_like=True, gc=False):
    """An outcome, whose JSON is passed on as it is: a result, or with a code an error."""

    agent_id: str | None
    result: Raw = NULL
    code: str = ""
    message: str = ""

    @classmethod
    def of(cls, outcome: Outcome) -> Told:
        if outcome.result is not None:
            return cls(outcome.agent_id, outcome.result)
        return cls(outcome.agent_id, NULL, outcome.code or "failed", outcome.message or "")

    @property
    def outcome(self) -> Outcome:
        if self.code:
            return Outcome(self.agent_id, None, self.code, self.message)
        return Outcome(self.agent_id, Raw(bytes(self.result)))


class Result(Struct, tag="result", array_like=True, gc=False):
    """From the driver: the result, or the outcome of one of several targets; at the end those of all."""

    ticket: int
    command_id: str
    command: str
    one: Told | None = None
    all: list[Told] = []


class Error(Struct, tag="error", array_like=True, gc=False):
    """From the driver: the final error."""

    ticket: int
    code: str
    message: str


class Unknown(Struct, tag="unknown", array_like=True, gc=False):
    """From a node that does not drive the command, or does not any more."""

    ticket: int


encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder(Attach | Detach | Cancel | Progress | Result | Error | Unknown).decode
