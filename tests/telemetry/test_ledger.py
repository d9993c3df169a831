"""Quotas' counts that outlive a restart."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred
from zope.interface import implementer

from nexus_tw.interfaces.plugins import ITallies, Tally
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from tests.telemetry.world import METRICS, NOW, RecordingStore, World


@implementer(ITallies)
class CountingStore(RecordingStore):
    """Keeps counts too; `answers` are what saving them comes to, None: it works."""

    def __init__(self, kept: list[Tally]) -> None:
        super().__init__()
        self.kept = kept
        self.answers: list[Exception | None] = []

    async def tally(self, tallies: Any) -> None:
        error = self.answers.pop(0) if self.answers else None
        if error is not None:
            raise error
        self.kept += tallies

    async def tallies(self, since: int, most: int) -> list[Tally]:
        if self.answers:
            raise self.answers[0] or AssertionError
        return [tally for tally in self.kept if tally.began >= since]


def test_what_is_kept_of_whom_is_saved_in_steps_and_at_the_end_and_loaded_at_the_start(logged: list[Any]) -> None:
    kept: list[Tally] = []
    size, began = len(METRICS), int(NOW * 1000)
    limits = {"telemetry_kept": 256 * 3 * size, "agent_telemetry_kept": 256 * 9 * size}
    store = CountingStore(kept)
    world = World(3600, store, **limits)
    world.principal = Principal("one", "agent", Role(telemetry=("**",)))
    assert ensureDeferred(world.telemetry.load()).called

    def commit() -> None:
        world.submit("a")
        world.turn()
        world.store.ends()

    for _ in range(2):
        commit()
    assert kept == []
    store.answers = [NexusError("store_unavailable", "the disk is full")]
    commit()
    assert kept == [] and len(logged) == 1
    commit()
    assert kept == [Tally("subject one", began, 4 * size)], "with what could not be saved before"
    commit()
    assert world.telemetry.stop().called
    assert kept[1:] == [Tally("subject one", began, size), Tally("agent a", began, 5 * size)]

    again = World(3600, CountingStore(kept), telemetry_kept=6 * size, agent_telemetry_kept=0)
    again.principal = world.principal
    assert ensureDeferred(again.telemetry.load()).called
    for name in "bc":
        again.submit(name)
    assert [entry[:3] for entry in again.said] == [("fail", "c", "limit_exceeded")]


def test_a_store_that_cannot_say_what_is_kept_of_whom_does_not_keep_the_server_from_starting(logged: list[Any]) -> None:
    store = CountingStore([])
    store.answers = [NexusError("store_unavailable", "locked")]
    world = World(3600, store)
    assert ensureDeferred(world.telemetry.load()).called and len(logged) == 1
    world.submit("a")
    assert world.said == []
