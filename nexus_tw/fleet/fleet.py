"""The fleet over a bus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.interfaces import IReactorTime

from nexus_tw.fleet.envelopes import Kind, Letter, Word
from nexus_tw.fleet.membership import PACE, Membership, Pace
from nexus_tw.fleet.names import numbered
from nexus_tw.fleet.parts import Parts
from nexus_tw.fleet.post import Post
from nexus_tw.fleet.questions import Questions
from nexus_tw.interfaces.fleet import Asked, Part
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import DEFAULT_REALM


class BusFleet:
    """Implements `nexus_tw.interfaces.fleet.Fleet`: the nodes of one realm. Without `IBus.roll` it has no other members."""

    def __init__(
        self,
        bus: IBus,
        end_of_turn: Callable[[Callable[[], None]], None],
        clock: IReactorTime,
        metrics: Metrics,
        pace: Pace = PACE,
        realm: str = DEFAULT_REALM,
    ) -> None:
        """`end_of_turn` calls its argument at the end of the reactor turn."""
        self._parts = Parts()
        self._questions = Questions(clock)
        self._post = Post(bus, end_of_turn, metrics, numbered(bus.node, 1), realm)
        self._membership = Membership(bus, clock, self._post, self._parts, metrics, pace, realm, self._questions.gone)
        self._post.recipient = self
        self.lost = self._membership.lost
        self.restored = self._membership.restored

    def start(self) -> None:
        """Join the others; called once the bus is started."""
        self._membership.start()

    def stop(self) -> None:
        """Leave, so that another node takes over at once; called before the bus is stopped."""
        self._questions.stop()
        self._membership.stop()

    def message(self, body: bytes) -> None:
        """Take what another node has sent; it begins with `nexus_tw.fleet.envelopes.MARK`."""
        self._membership.check()
        self._post.message(body)

    # --- Fleet

    @property
    def node(self) -> str:
        return self._membership.node

    @property
    def members(self) -> Mapping[str, float]:
        return self._membership.members

    @property
    def fenced(self) -> bool:
        return self._membership.fenced

    def take_part(self, name: str, part: Part, asked: Asked | None = None) -> None:
        self._parts.add(name, part, asked)

    def tell(self, node: str | None, part: str, body: bytes) -> None:
        self._membership.check()
        letter = Letter(Kind.TOLD, part, 0, body)
        for member in list(self.members) if node is None else (node,):
            self._put(member, letter)

    def room(self, node: str, size: int) -> bool:
        self._membership.check()
        return self._post.room(node, size)

    def silent(self, node: str) -> bool:
        self._membership.check()
        return self._membership.silent(node)

    def ask(
        self, nodes: list[str] | None, part: str, body: bytes, done: Callable[[Mapping[str, bytes]], None]
    ) -> None:
        self._membership.check()
        there = [self.node, *self.members]
        asked = there if nodes is None else [node for node in there if node in nodes]
        number = self._questions.put(asked, done)
        if number is None:
            return
        for node in asked:
            if node == self.node:
                self._parts.asked(part, node, body, _once(partial(self._questions.answered, number, node)))
            else:
                self._put(node, Letter(Kind.ASKED, part, number, body))

    def hold(self, node: str) -> Callable[[], None]:
        return self._membership.legacy.hold(node)

    # --- Recipient

    def known(self, node: str) -> bool:
        return self._membership.known(node)

    def said(self, node: str, word: Word) -> None:
        self._membership.said(node, word)

    def arrived(self, node: str, letter: Letter) -> None:
        kind, part, number, body = letter
        if kind is Kind.ANSWER:
            self._questions.answered(number, node, body)
        elif part not in self._parts:
            self._post.invalid("for a part that is not here")
        elif kind is Kind.TOLD:
            self._parts.received(part, node, body)
        elif not self._parts.answers(part):
            self._post.invalid("a question to a part that answers none")
        else:
            answer = _once(lambda answer: self._put(node, Letter(Kind.ANSWER, part, number, answer)))
            self._parts.asked(part, node, body, answer)

    # ---

    def _put(self, node: str, letter: Letter) -> None:
        if node in self.members and not self._post.put(node, letter):
            self._membership.break_with(node)


def _once(answer: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return a function that passes on the first answer only."""
    waiting = [answer]

    def first(body: bytes) -> None:
        if waiting:
            waiting.pop()(body)

    return first
