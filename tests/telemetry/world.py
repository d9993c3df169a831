"""The intake with a store under the test's control."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from nexus_tw.interfaces.plugins import IOnce, IStore, Sample
from nexus_tw.interfaces.realm import SubmittedSample
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Limits
from nexus_tw.telemetry.intake import Telemetry

NOW = 1_800_000_000.123
METRICS = b'{"cpu":45.2,"ok":true}'


@implementer(IStore)
class RecordingStore:
    """Records the samples to commit; each commit ends when the test decides."""

    def __init__(self) -> None:
        self.batches: list[list[Sample]] = []
        self.pending: list[Deferred[None]] = []
        self.pruned: list[int] = []
        self.prune_answer: Any = 0

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def commit(self, samples: Any) -> Deferred[None]:
        assert not self.pending, "called again before the last call has fired"
        self.batches.append(list(samples))
        self.pending.append(Deferred())
        return self.pending[0]

    def samples(self, agent_id: str, since: int, until: int, limit: int) -> Deferred[list[Sample]]:
        return succeed([])

    async def prune(self, before: int) -> int:
        self.pruned.append(before)
        if isinstance(self.prune_answer, Exception):
            raise self.prune_answer
        return int(self.prune_answer)

    def ends(self, error: Exception | None = None) -> None:
        ended = self.pending.pop()
        if error is None:
            ended.callback(None)
        else:
            ended.errback(error)


@implementer(IOnce)
class RememberingStore(RecordingStore):
    """Also records the ids of samples. `ends` tells which were stored before."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[list[str | None]] = []
        self.repeated: list[int] = []

    def commit_once(self, samples: Any, ids: Any) -> Deferred[Any]:
        self.ids.append(list(ids))
        return self.commit(samples).addCallback(lambda _none: self.repeated)


class World:
    """The service under test, its clock and store, and all its callbacks, in order."""

    def __init__(self, retention: float = 0, store: Any = None, clock: Any = None, **limits: int) -> None:
        self.clock = clock or Clock()
        self.clock.advance(NOW)
        self.store: Any = store or RecordingStore()
        self.metrics = Metrics()
        self.said: list[tuple[Any, ...]] = []
        self.principal = Principal("admin", "admin", ADMIN)
        self.telemetry = Telemetry(
            self.store,
            lambda event_type, data, _account: self.said.append(("event", event_type, data)),
            self.clock,
            self.metrics,
            Limits(**limits),
            retention,
        )

    def submit(self, agent_id: str = "a", metrics: bytes = METRICS, timestamp: str | None = None, name: Any = None) -> None:
        name = name or agent_id
        self.telemetry.submit(
            self.principal,
            agent_id,
            Raw(metrics),
            timestamp,
            lambda millis: self.said.append(("ok", name, millis)),
            lambda error: self.said.append(("fail", name, error.code, error.message)),
        )

    def batch(self, *samples: SubmittedSample, agent_id: str = "a", name: Any = "batch") -> bool:
        return self.telemetry.submit_batch(
            self.principal,
            agent_id,
            samples,
            lambda stored, repeated: self.said.append(("ok", name, stored, repeated)),
            lambda error: self.said.append(("fail", name, error.code, error.message)),
        )

    def turn(self) -> None:
        self.clock.advance(0)

    def next(self) -> None:
        """Run one turn, with `Turns`."""
        self.clock.advance(0.001)

    def oks(self) -> list[Any]:
        return [entry[1] for entry in self.said if entry[0] == "ok"]

    def events(self) -> list[bytes]:
        return [entry[2] for entry in self.said if entry[0] == "event"]


def unexpected(error: NexusError) -> None:
    raise AssertionError(error)
