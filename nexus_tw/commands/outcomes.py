"""Outcomes of executions: the errors of commands, and failures of several targets in a form that these can share."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw

from nexus_tw.model.errors import NexusError


def failed(code: str, why: str) -> NexusError:
    """Return the error of a failed command, in the form that the protocol prescribes."""
    return NexusError(code, f"Command execution failed: {why}")


class Failure(NamedTuple):
    """The error of one of several targets, without the target's name: targets with the same error share it."""

    code: str
    before: str  # the message up to the name of the target
    after: str | None  # the message behind it; None: it does not name the target

    @classmethod
    def of(cls, error: NexusError, target: str) -> Failure:
        before, named, after = error.message.partition(target)
        return cls(error.code, before, after if named else None)

    def message(self, target: str) -> str:
        """Return the error's message for this target."""
        return self.before if self.after is None else f"{self.before}{target}{self.after}"


def json_size(raw: Raw) -> int:
    return memoryview(raw).nbytes
