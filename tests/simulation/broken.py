"""Servers that break what a bus promises: the judge must find each of them out.

What they do cannot be seen by a node, so no core can make up for it.
"""

from __future__ import annotations

from typing import Final

from nexus_tw.interfaces.ledger import Entry, Write
from nexus_tw.model.attendance import Attendance, Held, Outcome
from nexus_tw.model.errors import NexusError
from nexus_tw.model.positions import Missed, Position
from tests.simulation.clock import Time
from tests.simulation.fleet import MakeServer
from tests.simulation.plan import Plan
from tests.simulation.server import Data, Log, Server
from tests.simulation.truth import Truth
from tests.telling_ledger import TellingLedger


class Broken(Server):
    """Goes wrong at one event in `rarely`; at which, the seed says."""

    rarely = 100

    def __init__(self, time: Time, plan: Plan, truth: Truth) -> None:
        super().__init__(time, plan, truth)
        self._left = plan.seed * 7919 % self.rarely + 1

    def now(self) -> bool:
        self._left -= 1
        if self._left:
            return False
        self._left = self.rarely
        return True


class Losing(Broken):
    """Acknowledges an event, and forgets it."""

    rarely = 1000

    def take(self, event_type: str, data: bytes, metadata: bytes) -> Position | None:
        if self.now():
            log = self.log(event_type)
            return None if self.kept(event_type) is None else Position(log.top.epoch, log.offset + 1)
        return super().take(event_type, data, metadata)


class Repeating(Broken):
    """Takes an event twice."""

    def take(self, event_type: str, data: bytes, metadata: bytes) -> Position | None:
        position = super().take(event_type, data, metadata)
        if self.now():
            super().take(event_type, data, metadata)
        return position


class Swapping(Broken):
    """Sends two events in one order to some and in the other order to others, under the same positions."""

    def __init__(self, time: Time, plan: Plan, truth: Truth) -> None:
        super().__init__(time, plan, truth)
        self._held: tuple[str, bytes, bytes, Position | None] | None = None

    def send(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        held, self._held = self._held, None
        if held is not None:
            if held[0] == event_type:
                super().send(event_type, data, metadata, held[3])
                super().send(*held[:3], position)
                return
            super().send(*held)
        elif self.now():
            self._held = event_type, data, metadata, position
            return
        super().send(event_type, data, metadata, position)


class Forgetful(Server):
    """Keeps its names when it loses its data: other events come under positions that clients know."""

    def __init__(self, time: Time, plan: Plan, truth: Truth) -> None:
        super().__init__(time, plan, truth)
        self._births: dict[str, str] = {}

    def new_timeline(self) -> str:
        return "t"

    def log(self, event_type: str) -> Log:
        log = super().log(event_type)
        log.birth = self._births.setdefault(event_type, log.birth)
        return log

    def end(self, data: Data) -> None:
        super().end(data)
        self.data.run = self._run

    def flush(self) -> None:
        super().flush()
        self.open()


class Boasting(Server):
    """Says that it has all that came after a position, where it has only the end of it."""

    def missed(self, event_type: str, since: Position) -> Missed:
        missed = super().missed(event_type, since)
        log = self.data.logs.get(event_type)
        if missed.recovered or log is None or since.offset > log.offset:
            return missed
        return Missed(True, missed.top, [event for event in self._young(event_type, log) if event.offset > since.offset])


class TwiceTaken(TellingLedger):
    """Gives an open command to whoever asks for it, and takes what any of them writes."""

    def take(self, entry: Entry, former: str) -> Entry | NexusError | None:
        there = self.find(entry.command_id)
        return super().take(entry, former if there is None else there.node)

    def write(self, write: Write) -> bool | None:
        there = self.find(write.command_id)
        return super().write(write if there is None else write._replace(node=there.node))


class TwoDrivers(Server):
    """Lets two nodes take the same command."""

    make_ledger = TwiceTaken


class Stuttering(TellingLedger):
    """Tells events again with a write that is repeated."""

    def write(self, write: Write) -> bool | None:
        self._told[write.command_id] = write.told
        return super().write(write)


class Repeats(Server):
    """Announces states of commands again."""

    make_ledger = Stuttering


class Unfenced(Attendance):
    """Forgets who has registered an agent before."""

    def hold(self, node: str, agent_id: str, session: int, number: int, over: int) -> Held | Outcome:
        held = super().hold(node, agent_id, session, number, over)
        return held._replace(former=None) if isinstance(held, Held) else held


class NoFence(Server):
    """Lets two connections on different nodes register the same agent."""

    make_attendance = Unfenced


BROKEN: Final[dict[str, MakeServer]] = {
    "loses 1 in 1,000": Losing,
    "repeats": Repeating,
    "swaps": Swapping,
    "forgets its epoch": Forgetful,
    "says recovered wrongly": Boasting,
}

# Those that only agents and callers can find.
UNFAIR: Final[dict[str, MakeServer]] = {
    "lets two nodes take a command": TwoDrivers,
    "announces states again": Repeats,
    "forgets a fence": NoFence,
}
