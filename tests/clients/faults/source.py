"""A publisher that goes straight to a node: a numbered event of one type every few milliseconds."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from tests.client import clock
from tests.e2e.server import NexusServer, until
from tests.reliability.book import Book, Message
from tests.reliability.line import Line, connected

TICK = 0.02  # s between two events
NAME = "source"


class Source:
    """Tells the book what was acknowledged. What had no answer when the node ended may have been published or not."""

    def __init__(self, event_type: str, book: Book) -> None:
        self.event_type = event_type
        self.number = 0
        self._book = book
        self._line: Line | None = None
        self._answers: dict[int, Deferred[bool]] = {}
        self._load = LoopingCall(self.send)
        self._load.clock = clock

    async def connect(self, node: NexusServer) -> None:
        """Publish at this node from now on."""
        self.leave()
        self._line = await connected(node.port, node.token, self._arrived, self._ended)

    def load(self) -> None:
        self._load.start(TICK)

    def rest(self) -> None:
        if self._load.running:
            self._load.stop()

    def leave(self) -> None:
        if self._line is not None:
            self._line.drop()
            self._ended()

    def send(self, **more: str) -> Deferred[bool]:
        """Publish the next event. Return whether it was accepted."""
        answer: Deferred[bool] = Deferred()
        if self._line is None:
            answer.callback(False)
            return answer
        self.number += 1
        self._answers[self.number] = answer
        data = {"source": NAME, "number": self.number, **more}
        self._line.send({"type": "publish", "eventType": self.event_type, "data": data, "id": self.number})
        return answer

    async def last(self) -> int:
        """Publish one event after all others. Return its number."""
        self.rest()
        await until(lambda: not self._answers, what="for the answers of the node")
        assert await self.send(), "the node accepts no event"
        return self.number

    def _arrived(self, message: Message) -> None:
        number = message["id"]
        answer = self._answers.pop(number, None)
        if answer is None:
            self._book.fault(f"the publisher got a second answer to {number}")
            return
        taken = message["type"] == "published"
        if taken:
            self._book.taken(self.event_type, NAME, number, message.get("position"))
        elif message.get("code") not in ("shutting_down", "bus_unavailable"):
            self._book.fault(f"the publisher was answered {message}")
        answer.callback(taken)

    def _ended(self) -> None:
        self._line = None
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.callback(False)
