"""Room: how many commands a ledger keeps, of all callers together and of one."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from nexus_tw.model.errors import NexusError
from nexus_tw.model.settings import Limits

DAY: Final = 86400.0  # seconds for which an ended command is kept
MAX_COMMANDS: Final = 100_000  # of a realm
MAX_BYTES: Final = 268_435_456  # of all that was written of them


class Bounds(NamedTuple):
    """The bounds of a ledger. Past `own_commands` or `own_bytes` of one account its oldest ended commands are forgotten, past
    the other two the oldest ended ones of all; where none is left, a new command is refused."""

    commands: int
    bytes: int
    own_commands: int
    own_bytes: int

    def lacks(self, taken: Taken, own: Taken, more: int, size: int) -> Lack | None:
        """Return the bound beyond which so many commands of this size would be, of an account that has taken `own`."""
        if own.commands + more > self.own_commands:
            return Lack.OWN_COMMANDS
        if own.bytes + size > self.own_bytes:
            return Lack.OWN_BYTES
        if taken.commands + more > self.commands:
            return Lack.COMMANDS
        return Lack.BYTES if taken.bytes + size > self.bytes else None

    def refusal(self, lack: Lack) -> NexusError:
        """Return the error for a command that has no room."""
        most, what, whose = {
            Lack.OWN_COMMANDS: (self.own_commands, "commands", "one subject (limits.share)"),
            Lack.OWN_BYTES: (self.own_bytes, "bytes of commands", "one subject (limits.share)"),
            Lack.COMMANDS: (self.commands, "commands", "all subjects"),
            Lack.BYTES: (self.bytes, "bytes of commands", "all subjects"),
        }[lack]
        return NexusError("limit_exceeded", f"The ledger has no room for more than {most} {what} of {whose}")


class Lack(Enum):
    """The bound that leaves no room for a command."""

    OWN_COMMANDS = "c"
    OWN_BYTES = "b"
    COMMANDS = "C"
    BYTES = "B"

    @property
    def own(self) -> bool:
        """Whether the account has used up its share."""
        return self in (Lack.OWN_COMMANDS, Lack.OWN_BYTES)


class Taken:
    """What the commands of an account take up, or all."""

    __slots__ = ("bytes", "commands")

    def __init__(self, commands: int = 0, size: int = 0) -> None:
        self.commands = commands
        self.bytes = size

    def add(self, commands: int, size: int) -> None:
        self.commands += commands
        self.bytes += size


class Room:
    """The bounds of a ledger by the limits as they are now."""

    def __init__(self, limits: Limits | None = None, commands: int = MAX_COMMANDS, size: int = MAX_BYTES) -> None:
        self._limits = limits or Limits()
        self._bounds = Bounds(commands, size, 0, 0)
        self._share = 0.0  # by which the bounds were made

    @property
    def bounds(self) -> Bounds:
        share, bounds = self._limits.share, self._bounds
        if share != self._share:
            own_commands, own_bytes = max(1, int(bounds.commands * share)), max(1, int(bounds.bytes * share))
            self._bounds = bounds = bounds._replace(own_commands=own_commands, own_bytes=own_bytes)
            self._share = share
        return bounds
