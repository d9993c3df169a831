"""The overview of the agents of all nodes: which there are, where and since when, and what they execute.

A page is found in two steps. First all nodes give the keys of the agents that could be on it, by which these are put in order;
then all are asked for the facts of those that are. An agent on two nodes that disagree, as about since when it is there, is
listed once, at the place that both facts together give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.errors import NexusError
from nexus_tw.presence.agents import Presence
from nexus_tw.presence.facts import Choice, Facts, Query, Status, agent_of
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall

PART: Final = "overview"
COMMANDS: Final = 16  # that are listed of each agent in a list
ALL_COMMANDS: Final = 1024  # that are listed of a single agent
STEP: Final = 8  # agents that are looked at in one step


class Wanted(msgspec.Struct, tag="agents", gc=False):
    """Asks for the facts of these agents."""

    agents: list[str]
    commands: int  # at most so many of each


class Found(msgspec.Struct, gc=False):
    """A page of agents, the key of its last one if there are more, and the nodes that have not answered."""

    agents: list[Facts]
    next: str | None
    missing: list[str]


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Query | Wanted).decode
_keys: Final = msgspec.json.Decoder(list[str]).decode
_facts: Final = msgspec.json.Decoder(list[Facts]).decode


class Overview:
    """Implements `nexus_tw.interfaces.fleet.Part`; it tells nothing by itself."""

    def __init__(
        self,
        fleet: Fleet,
        presence: Presence,
        attendance: Callable[[], IAttendance],
        commands: Callable[[Peer, str], Iterable[str]],
        clock: IReactorTime,
        spread: Spread,
    ) -> None:
        """`commands` returns what a connection executes as an agent."""
        self._fleet = fleet
        self._presence = presence
        self._attendance = attendance
        self._commands = commands
        self._clock = clock
        self._spread = spread
        self._reading = False
        self._wanting: list[Deferred[dict[str, float] | NexusError]] = []  # those that wait for the next reading
        fleet.take_part(PART, self, self.asked)

    async def find(self, query: Query) -> Found:
        """Return a page of the agents of all nodes. Raise `bus_unavailable` if it needs those that are offline, and the bus is
        away."""
        choice, count = Choice(query), query.limit + 1  # one more than wanted tells whether there are more
        keys: set[str] = set()
        missing: set[str] = set()
        absent: dict[str, float] = {}
        if query.status != "offline":
            for answer in await self._ask(query, missing):
                keys.update(_keys(answer))
        if query.status != "online":
            absent = await self._absent()
            sifted: Deferred[list[str]] = Deferred()
            self._spread.work(_sift(_offline(absent), choice, count, sifted.callback))
            keys.update(await sifted)
        found = choice.first(keys, count)
        page = found[: query.limit]
        known = await self._known([agent_of(key) for key in page], absent, COMMANDS, missing)
        agents: list[Facts] = []
        for key in page:
            row = known.get(agent_of(key))
            if row is None or query.status not in (None, row.status):
                continue
            # What has changed since, or what another node knows better, belongs to another place.
            if key == choice.key(row.agent_id, row.status, row.since):
                agents.append(row)
        return Found(agents, page[-1] if len(found) > query.limit else None, sorted(missing))

    async def one(self, agent_id: str) -> Facts:
        """Return what is known of this agent. Raise `not_found`, or `bus_unavailable` if it may be where nobody answers."""
        missing: set[str] = set()
        known = await self._known([agent_id], {}, ALL_COMMANDS, missing)
        if not known:
            absent = await self._absent()
            known = await self._known([agent_id], absent, ALL_COMMANDS, missing)
        facts = known.get(agent_id)
        if facts is not None:
            return facts
        if missing:
            raise NexusError("bus_unavailable", "Not every node has answered; the agent may be on one of the others")
        raise NexusError("not_found", "No such agent")

    # --- Part

    def received(self, node: str, body: bytes) -> None:
        """Do nothing: it is only asked."""

    def asked(self, _node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        question = _decode(body)
        if isinstance(question, Wanted):
            self._spread.work(self._describe(question, lambda facts: answer(_encode(facts))))
        else:
            agents = self._online()
            self._spread.work(_sift(agents, Choice(question), question.limit + 1, lambda keys: answer(_encode(keys))))

    def joined(self, node: str) -> None:
        """Do nothing: other nodes know nothing of this one."""

    def left(self, node: str, heir: bool) -> None:
        """Do nothing: this node knows nothing of others."""

    def fenced(self) -> None:
        """Do nothing: connections stay as they are."""

    def renewed(self) -> None:
        """Do nothing: nothing is on the bus."""

    # --- of this node

    def _online(self) -> Iterator[tuple[str, Status, int]]:
        attending = self._presence.attending
        for agent_id in attending.agents():
            stay = attending.stay(agent_id)
            if stay is not None:
                yield agent_id, "online", stay.since

    def _describe(self, wanted: Wanted, done: Callable[[list[Facts]], None]) -> Iterator[None]:
        rows: list[Facts] = []
        agents = iter(wanted.agents)
        while some := list(islice(agents, STEP)):
            rows += [facts for agent_id in some if (facts := self._described(agent_id, wanted.commands)) is not None]
            yield
        done(rows)

    def _described(self, agent_id: str, most: int) -> Facts | None:
        stay = self._presence.attending.stay(agent_id)
        if stay is None:
            return None
        peers = self._presence.peers(agent_id)
        holder = self._presence.holder(agent_id)
        peer = holder or (peers[0] if peers else None)
        commands = sorted({text for each in peers for text in self._commands(each, agent_id)})
        heard = None if stay.heard is None else wall(self._clock) - (self._clock.seconds() - stay.heard)
        return Facts(
            agent_id,
            "online",
            stay.since,
            self._fleet.node,
            None if peer is None else peer.address,
            holder is not None,
            commands[:most],
            None if heard is None else _millis(heard),
        )

    # --- of all nodes

    async def _ask(self, question: Query | Wanted, missing: set[str]) -> Iterable[bytes]:
        """Return the answers of all nodes, and add those that have not answered to `missing`."""
        asked = [self._fleet.node, *self._fleet.members]
        answered: Deferred[Mapping[str, bytes]] = Deferred()
        self._fleet.ask(None, PART, _encode(question), answered.callback)
        answers = await answered
        missing.update(node for node in asked if node not in answers)
        return answers.values()

    async def _known(
        self, agents: list[str], absent: Mapping[str, float], commands: int, missing: set[str]
    ) -> dict[str, Facts]:
        """Return what is known of these agents, of those in `absent` too."""
        known: dict[str, Facts] = {}
        for answer in await self._ask(Wanted(agents, commands), missing) if agents else ():
            for facts in _facts(answer):
                other = known.get(facts.agent_id)
                known[facts.agent_id] = facts if other is None else other.merged(facts)
        for facts in known.values():
            del facts.commands[commands:]
        for agent_id in agents:
            if agent_id not in known and agent_id in absent:
                known[agent_id] = Facts(agent_id, "offline", _millis(absent[agent_id]))
        return known

    async def _absent(self) -> dict[str, float]:
        """Return the agents that are offline. They are read once at a time, however many ask; raise `bus_unavailable`."""
        wanted: Deferred[dict[str, float] | NexusError] = Deferred()
        self._wanting.append(wanted)
        if not self._reading:
            self._read()
        absent = await wanted
        if isinstance(absent, NexusError):
            raise NexusError(absent.code, absent.message)
        return absent

    def _read(self) -> None:
        waiting, self._wanting = self._wanting, []
        self._reading = True

        def read(absent: dict[str, float] | NexusError) -> None:
            self._reading = False
            if self._wanting:
                self._read()  # for those that have asked since, as it may have changed
            for each in waiting:
                each.callback(absent)

        self._attendance().absent(read)


def _offline(absent: Mapping[str, float]) -> Iterator[tuple[str, Status, int]]:
    for agent_id, since in absent.items():
        yield agent_id, "offline", _millis(since)


def _sift(
    agents: Iterator[tuple[str, Status, int]], choice: Choice, count: int, done: Callable[[list[str]], None]
) -> Iterator[None]:
    """Find the first `count` keys of these agents, in steps."""
    first: list[str] = []
    while some := list(islice(agents, STEP)):
        keys = (choice.key(*each) for each in some if choice.takes(each[0]))
        first += [key for key in keys if choice.follows(key)]
        if len(first) > 2 * count:
            first = choice.first(first, count)
        yield
    done(choice.first(first, count))


def _millis(seconds: float) -> int:
    return int(seconds * 1000)
