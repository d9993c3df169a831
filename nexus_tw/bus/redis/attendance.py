"""Attendance over Redis: all steps that a node takes in a turn of the reactor, in one call of a script."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import implementer

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.redis.batch import MAX_BYTES, new_birth, words_of
from nexus_tw.bus.redis.channels import Channels
from nexus_tw.bus.redis.connection import Publisher, Put, away, guarded
from nexus_tw.bus.redis.connection import told as quoted
from nexus_tw.bus.redis.scripts import ABSENT as ABSENT_SCRIPT
from nexus_tw.bus.redis.scripts import AT, ATTEND, Call, bulk
from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.attendance import ABSENT, ABSENT_AGE, STATUS, Held, Hold, Outcome, Sure, Told
from nexus_tw.model.errors import NexusError

MAX_STEPS: Final = 256  # in one call; Redis does nothing else while it carries out a script
ABSENT_AT_ONCE: Final = 1000  # offline agents in one answer

Done = Callable[[Any], None]

_OUTCOMES: Final = {outcome.value.encode(): outcome for outcome in Outcome}


class _Steps:
    """The steps of one call, until it is sent."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.put: Put | None = None
        self.words: list[bytes] = []
        self.done: list[Done] = []
        self.size = 0
        self.sent = False


@implementer(IAttendance)
class RedisAttendance:
    """A node's access to the attendance of its realm."""

    _log = Logger()

    def __init__(
        self,
        channels: Channels,
        bounds: Bounds,
        publisher: Callable[[], Publisher | None],
    ) -> None:
        """`publisher` returns the connection to use, or None while the bus is away."""
        self._channels = channels
        self._bounds = bounds
        self._publisher = publisher
        self._timeline = b""
        self._steps: _Steps | None = None
        self._complained = False

    def opened(self, timeline: bytes) -> None:
        """Call the scripts under this timeline from now on."""
        self._timeline = timeline

    # --- IAttendance

    @property
    def epoch(self) -> str:
        return self._timeline.decode()

    def come(
        self, node: str, agent_id: str, sure: Sure, told: Told, done: Callable[[Outcome | NexusError], None]
    ) -> None:
        self._add(b"come", node, agent_id, sure.encode(), told.data, done)

    def go(
        self, node: str, agent_id: str, sure: Sure, told: Told, done: Callable[[Outcome | NexusError], None]
    ) -> None:
        self._add(b"go", node, agent_id, sure.encode(), told.data, done)

    def hold(
        self,
        node: str,
        agent_id: str,
        session: int,
        number: int,
        over: int,
        done: Callable[[Held | Outcome | NexusError], None],
    ) -> None:
        self._add(b"hold", node, agent_id, b"%d %d %d" % (session, number, over), b"", done)

    def free(self, agent_id: str, session: int) -> None:
        self._add(b"free", "", agent_id, b"%d" % session, b"", _ignored)

    def at(self, node: str, most: int, done: Callable[[list[str] | NexusError], None]) -> None:
        def answered(reply: list[bytes] | NexusError) -> None:
            done(reply if isinstance(reply, NexusError) else [agent_id.decode() for agent_id in reply])

        self._ask(Call(AT, self._channels.prefix, self._timeline), (node.encode(), b"%d" % most), answered)

    def absent(self, done: Callable[[dict[str, float] | NexusError], None]) -> None:
        found: dict[str, float] = {}

        def answered(reply: list[bytes] | NexusError) -> None:
            if isinstance(reply, NexusError):
                done(reply)
                return
            for agent_id, millis in zip(reply[::2], reply[1::2], strict=True):
                found[agent_id.decode()] = float(millis) / 1000
            if len(reply) < 2 * ABSENT_AT_ONCE:
                done(found)
            else:
                ask()

        def ask() -> None:
            call = Call(ABSENT_SCRIPT, self._channels.prefix, self._timeline)
            self._ask(call, (b"%d" % len(found), b"%d" % ABSENT_AT_ONCE), answered)

        ask()

    # ---

    def _ask(self, call: Call, arguments: tuple[bytes, ...], done: Done) -> None:
        publisher = self._publisher()
        if publisher is None:
            done(away())
        else:
            publisher.put_script(call.command((), [bulk(word) for word in arguments]), done)

    def _add(self, verb: bytes, node: str, agent_id: str, word: bytes, data: bytes, done: Done) -> None:
        publisher = self._publisher()
        if publisher is None:
            done(away())
            return
        if publisher.behind:
            done(NexusError("bus_unavailable", "The event bus is behind"))
            return
        steps = self._steps
        if (
            steps is None
            or steps.sent
            or steps.publisher is not publisher
            or len(steps.done) >= MAX_STEPS
            or steps.size >= MAX_BYTES
        ):
            steps = self._steps = _Steps(publisher)
            steps.put = publisher.put_script(partial(self._command, steps), partial(self._answered, steps))
        assert steps.put is not None
        size = len(agent_id) + len(node) + len(data)
        steps.words += (verb, node.encode(), agent_id.encode(), word, data)
        steps.done.append(done)
        steps.size += size
        publisher.grow(steps.put, size)

    def _command(self, steps: _Steps) -> bytes:
        steps.sent = True
        names, kept = self._channels, self._bounds.of(STATUS)
        bounds = b"" if kept is None else words_of(kept, self._bounds.total)
        name = STATUS.encode()
        head = (new_birth(), names.metadata + name, names.events + name, bounds, b"%d" % ABSENT, b"%d" % (ABSENT_AGE * 1000))
        keys = [bulk(names.hash_of(STATUS)), bulk(names.list_of(STATUS))]
        call = Call(ATTEND, names.prefix, self._timeline)
        return call.command(keys, [bulk(word) for word in (*head, *steps.words)])

    def _answered(self, steps: _Steps, reply: list[bytes] | NexusError) -> None:
        if isinstance(reply, NexusError):
            for done in steps.done:
                guarded(done, reply)
            return
        *outcomes, why = reply
        if why:
            self._complain(why)
        for done, outcome in zip(steps.done, outcomes, strict=True):
            found = _OUTCOMES.get(outcome) or _held(outcome)
            guarded(done, Outcome.LOST if why and found is Outcome.TOLD else found)

    def _complain(self, why: bytes) -> None:
        if not self._complained:
            self._complained = True
            self._log.warn("{status} is not published: {why}", status=STATUS, why=quoted(why.decode(errors="replace")))


def _held(answer: bytes) -> Held:
    lines = answer.decode().split("\n")
    holds = [Hold(lines[at], int(lines[at + 1]), int(lines[at + 2])) for at in range(0, len(lines), 3)]
    return Held(holds[0], holds[1] if len(holds) > 1 else None)


def _ignored(_outcome: object) -> None:
    """A hold that is not taken back gives way to the next one all the same."""
