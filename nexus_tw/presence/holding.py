"""Holding: the explicit registrations of this node's connections, as the bus is to know them.

An agent is held by one connection of all nodes. A connection of another node is replaced only after `vet` has allowed it; the
bus refuses to replace any that was not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.attendance import ANYBODY, NOBODY, Held, Hold, Outcome
from nexus_tw.model.errors import NexusError

Done = Callable[[NexusError | None], None]
Vet = Callable[[Hold, Done], None]
"""Passes on None if a connection of another node, which holds an agent, may be replaced, else why it may not."""


class Surroundings(NamedTuple):
    """What presence needs of the node."""

    attendance: Callable[[], IAttendance]
    node: Callable[[], str]  # returns its name in the fleet
    others: Callable[[], bool]  # returns whether there are other nodes
    missed: Callable[[], None]  # tells all subscribers that changes of status are left out


SOMEBODY: Final = Hold("", 0, 0)


class Holding:
    """The explicit registrations of this node. What the bus does not take is told again, by `owed`."""

    def __init__(
        self,
        around: Surroundings,
        clock: IReactorTime,
        name: Callable[[], str],
        displaced: Callable[[str, Hold, int], None],
        outdone: Callable[[str, int], None],
        again: Callable[[], None],
    ) -> None:
        """`name` returns that of the node. `displaced` gets an agent, who held it on another node (`SOMEBODY` if that was said
        in an answer that was lost), and the number of the registration that has replaced that; `outdone` an agent and the
        session of this node whose registration another node has replaced. `again` is called if something is owed to the bus."""
        self.refused = False  # the bus has refused at once what it was asked last
        self._around = around
        self._clock = clock
        self._name = name
        self._displaced = displaced
        self._outdone = outdone
        self._again = again
        self._holds: dict[str, Hold] = {}  # number 0 until it is known
        self._unheld: dict[str, float] = {}  # those of which the bus does not know, and when they were made
        self._unheard: set[str] = set()  # of these, those of which it may know: only its answer was lost

    @property
    def owes(self) -> bool:
        """Whether the bus does not know of all registrations."""
        return bool(self._unheld)

    def hold(self, agent_id: str, session: int, vet: Vet, done: Done) -> None:
        """A session has registered the agent explicitly, and has replaced whoever did so before on this node. Call `done` once
        that holds for all nodes; at once while the bus is away, and then they hear of it later. `vet` is asked whether a
        connection of another node may be replaced; if it has an error, that is passed to `done`, and the agent is not held."""
        self._holds[agent_id] = Hold(self._name(), session, 0)
        self._hold(agent_id, session, NOBODY if self._around.others() else ANYBODY, self._clock.seconds(), vet, done)

    def _hold(self, agent_id: str, session: int, over: int, since: float, vet: Vet, done: Done) -> None:
        """Claim the agent, over the session of another node that was looked at, until the bus knows no other one."""

        def refused(holder: Hold) -> None:
            vet(holder, partial(vetted, holder))

        def vetted(holder: Hold, error: NexusError | None) -> None:
            if error is None and self.number(agent_id, session) is not None:
                self._hold(agent_id, session, holder.session, since, vet, done)
            else:
                self.free(agent_id, session)
                done(error)

        self._claim(agent_id, session, 0, over, since, refused, done)

    def free(self, agent_id: str, session: int) -> None:
        """A session that has registered the agent explicitly is gone."""
        if self.number(agent_id, session) is not None:
            del self._holds[agent_id]
            self._unheld.pop(agent_id, None)
            self._unheard.discard(agent_id)
            self._around.attendance().free(agent_id, session)

    def number(self, agent_id: str, session: int) -> int | None:
        """Return the number of the session's registration of the agent, 0 if that has none yet; None if there is none."""
        held = self._holds.get(agent_id)
        return None if held is None or held.session != session else held.number

    def put_again(self) -> None:
        """The bus may know nothing any more: all registrations are owed to it."""
        now = self._clock.seconds()
        self._unheld = {agent_id: self._unheld.get(agent_id, now) for agent_id in self._holds}

    def owed(self) -> list[Callable[[], None]]:
        """Return the steps that tell the bus what it does not know."""
        return [partial(self._claim_again, agent_id) for agent_id in self._unheld]

    def _claim_again(self, agent_id: str) -> None:
        held = self._holds.get(agent_id)
        if agent_id not in self._unheld or held is None:
            return
        session, since = held.session, self._unheld.pop(agent_id)

        def refused(_holder: Hold) -> None:
            self._outdone(agent_id, session)

        # One of which the bus hears late gives way to those that were made since.
        number = held.number or min(-1, -int((self._clock.seconds() - since) * 1000))
        self._claim(agent_id, session, number, ANYBODY, since, refused, _nothing)

    def _claim(
        self,
        agent_id: str,
        session: int,
        number: int,
        over: int,
        since: float,
        refused: Callable[[Hold], None],
        done: Done,
    ) -> None:
        """Tell the bus of a registration made at the time `since`; `refused` gets whoever holds the agent instead."""
        calling = True

        def answered(held: Held | Outcome | NexusError) -> None:
            if self.number(agent_id, session) is None:
                if isinstance(held, Held) and held.now.session == session:
                    self._give_back(agent_id, held)
            elif not isinstance(held, Held):
                self.refused = self.refused or calling
                self._unheld[agent_id] = since
                if not calling:
                    self._unheard.add(agent_id)
                self._again()
            elif held.now.session == session:
                self._holds[agent_id] = held.now
                unheard = agent_id in self._unheard
                self._unheard.discard(agent_id)
                if held.former is not None:
                    if held.former.node != self._name():
                        self._displaced(agent_id, held.former, held.now.number)
                elif unheard:
                    self._displaced(agent_id, SOMEBODY, held.now.number)
            else:
                refused(held.now)
                return
            done(None)

        self._around.attendance().hold(self._name(), agent_id, session, number, over, answered)
        calling = False

    def _give_back(self, agent_id: str, held: Held) -> None:
        """A session that has just registered an agent is gone: whoever it has replaced on another node holds it again, as that
        was not told. Otherwise a later registration would replace nobody, and there would be two."""
        attendance, former = self._around.attendance(), held.former
        if former is None or former.node == self._name():
            attendance.free(agent_id, held.now.session)
            return

        def answered(again: Held | Outcome | NexusError) -> None:
            if not isinstance(again, Held):
                attendance.free(agent_id, held.now.session)
            elif again.now.session != former.session:
                self._displaced(agent_id, former, again.now.number)

        attendance.hold(former.node, agent_id, former.session, held.now.number, ANYBODY, answered)


def _nothing(_error: NexusError | None) -> None:
    """Do nothing at the end of a claim that nobody waits for."""
