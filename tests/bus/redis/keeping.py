"""A node with a history on Redis, and functions that wait for its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import Missed, Position
from nexus_tw.model.settings import History
from tests.bus.recording import Recorder, pattern, placed, reactor


class Keeper:
    """A bus with a history, a recording listener and its own metrics."""

    def __init__(self, url: str, name: str = "one", history: History | None = None, **arguments: Any) -> None:
        self.metrics = Metrics()
        self.heard = Recorder()
        kept = History() if history is None else history
        self.bus = RedisBus(parse(url), reactor, self.metrics, name, history=kept, **arguments)

    async def start(self) -> None:
        await self.bus.start(self.heard)

    async def publish(self, event_type: str, *data: bytes, metadata: bytes = b"") -> Position:
        """Publish one event after the other. Return the position of the last."""
        at: Position | NexusError | None = None
        for one in data:
            at = await placed(self.bus, event_type, one, metadata)
        assert isinstance(at, Position), at
        return at

    async def burst(self, event_type: str, *data: bytes) -> list[Position]:
        """Publish all events in one turn."""
        waiting: list[Deferred[Any]] = []
        for one in data:
            done: Deferred[Any] = Deferred()
            waiting.append(done)
            self.bus.publish(event_type, one, done.callback)
        return [await done for done in waiting]

    async def read(self, event_type: str, since: Position) -> Missed:
        (missed,) = await self.read_all((event_type, since))
        return missed

    async def read_all(self, *requests: tuple[str, Position]) -> list[Missed]:
        answers: list[Missed] = await self._asked("read", requests)
        return answers

    async def tops(self, *types: str) -> dict[str, Position]:
        found: dict[str, Position] = await self._asked("tops", types)
        return found

    async def known(self, text: str) -> dict[str, Position]:
        found: dict[str, Position] = await self._asked("known", pattern(text))
        return found

    async def page(self, event_type: str, since: Position | None, limit: int) -> Missed:
        missed: Missed = await self._asked("page", event_type, since, limit)
        return missed

    async def refused(self, way: str, *arguments: Any) -> str:
        """Return the code of the resulting error."""
        done: Deferred[Any] = Deferred()
        assert self.bus.history is not None
        getattr(self.bus.history, way)(*arguments, done.callback)
        error = await done
        assert isinstance(error, NexusError), error
        return error.code

    async def _asked(self, way: str, *arguments: Any) -> Any:
        done: Deferred[Any] = Deferred()
        assert self.bus.history is not None
        getattr(self.bus.history, way)(*arguments, done.callback)
        answer = await done
        assert not isinstance(answer, NexusError), answer
        return answer


def texts(missed: Missed) -> Sequence[bytes] | None:
    """Return the data of the missed events, or None if they were not recovered; offsets must be consecutive up to the top."""
    if not missed.recovered:
        assert missed.events == ()
        return None
    assert [event.offset for event in missed.events] == list(
        range(missed.top.offset - len(missed.events) + 1, missed.top.offset + 1)
    )
    return [event.data for event in missed.events]
