"""The audit trail of commands: what is written, and what becomes of it while the store fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import pytest_twisted
from msgspec import Raw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import providedBy

from nexus_tw.commands import audit
from nexus_tw.commands.audit import AGAIN, GATHER, Audit
from nexus_tw.commands.stored import StoredLedger
from nexus_tw.interfaces.ledger import AuditLine, IAudit
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import Room
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.store import open_store
from tests.bus.recording import until
from tests.commands.world import World
from tests.commands.world import succeed as answer
from tests.recording import RecordingReply


class Trail:
    """A store that can fail."""

    def __init__(self) -> None:
        self.lines: list[AuditLine] = []
        self.failing = False
        self.calls = 0

    def note(self, lines: Sequence[AuditLine]) -> Deferred[None]:
        self.calls += 1
        if self.failing:
            return fail(NexusError("store_unavailable", "the store's disk is full"))
        self.lines += lines
        return succeed(None)

    def trail(self, realm: str, command_id: str, most: int) -> Deferred[list[AuditLine]]:
        return succeed([line for line in self.lines if line[:2] == (realm, command_id)][:most])

    def said(self) -> list[Any]:
        return [msgspec.json.decode(line.line) for line in self.lines]


@pytest.fixture
def world() -> World:
    world = World()
    world.trail = Trail()  # type: ignore[attr-defined]
    guest = PluginRunner("The store")
    world.audit = Audit(world.trail, guest, "nexus", world.clock, world.metrics)  # type: ignore[attr-defined]
    world.commands.noted(world.audit)  # type: ignore[attr-defined]
    return world


def test_each_state_has_a_line_that_says_who_what_and_when(world: Any) -> None:
    world.clock.advance(5)
    agent = world.agent("a")
    world.call(command_id="c", target="a", parameters=Raw(b'{"secret":1}'))
    answer(world, agent)
    world.call(command_id="d", target=["b"])
    assert world.trail.lines == []
    world.clock.advance(GATHER)
    about = {"command": "deploy", "caller": "caller"}
    at = {"agentId": "a", "attempt": 1, "node": "one"}
    assert world.trail.said() == [
        about | {"status": "sent"} | at,
        about | {"status": "completed"} | at,
        about | {"status": "failed", "agentId": "b", "code": "agent_offline"},
        about | {"status": "completed"},
    ]
    assert [line[:3] for line in world.trail.lines] == [("nexus", name, 5000) for name in "ccdd"]
    assert world.trail.calls == 1


def test_commands_do_not_wait_for_a_store_that_fails_and_its_lines_come_later(world: Any) -> None:
    world.trail.failing = True
    agent = world.agent("a")
    reply = world.call(command_id="c")
    answer(world, agent)
    assert reply.ends == 1
    world.clock.advance(GATHER)
    assert world.trail.calls == 1 and world.trail.lines == []
    world.trail.failing = False
    world.call(command_id="d")
    answer(world, agent)
    world.clock.advance(AGAIN)
    assert [line["status"] for line in world.trail.said()] == ["sent", "completed"] * 2
    assert world.metrics.audit_dropped == 0


def test_what_waits_for_the_store_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WAITING", 3)
    world.trail.failing = True
    agent = world.agent("a")
    for _ in range(2):
        world.call()
        answer(world, agent)
    world.clock.advance(GATHER)
    assert world.metrics.audit_dropped == 1
    world.trail.failing = False
    world.clock.advance(AGAIN)
    assert [line["status"] for line in world.trail.said()] == ["sent", "completed", "sent"]


def test_reading_includes_what_has_just_happened(world: Any) -> None:
    world.agent("a")
    world.call(command_id="c")
    read: list[Any] = []
    world.audit.trail("c", read.append)
    ((at, line),) = read[0]
    assert at == 0 and msgspec.json.decode(line)["status"] == "sent"


class Refusing:
    """A store that keeps no command at present."""

    def record(self, *_what: Any) -> Deferred[Any]:
        return fail(NexusError("store_unavailable", "the store's disk is full"))


@pytest_twisted.ensureDeferred
async def test_a_ledger_in_the_store_notes_each_state_in_the_transaction_that_writes_it(tmp_path: Any) -> None:
    """So that a process that is killed leaves no line out."""
    store: Any = open_store(f"sqlite:{tmp_path}/nexus.db", reactor)
    await store.start()
    clock, metrics, guest = Clock(), Metrics(), PluginRunner("The store")
    trail = Audit(store, guest, "nexus", clock, metrics)
    ledger = StoredLedger(store, guest, "nexus", clock, metrics, Room(Limits()), trail)
    world: Any = World(clock=clock, ledger=ledger)
    world.commands.noted(trail)

    def answered() -> bool:
        clock.advance(0)
        return not ledger._under_way and not ledger._waiting

    async def settled(count: int) -> list[Any]:
        """Wait for the ledger. Return the lines that the store has by then, so many, though no time has passed."""
        await until(answered)
        lines = [line for name in "cd" for line in await store.trail("nexus", name, 9)]
        assert len(lines) == count
        return [msgspec.json.decode(line.line) for line in lines]

    agent = world.agent("a")
    reply = world.call(command_id="c", target="a")
    world.call(command_id="d", target=["b"], ttl=9.0)
    said = await settled(2)
    assert [line["status"] for line in said] == ["sent", "queued"]
    answer(world, agent)
    assert [line["status"] for line in await settled(3)] == ["sent", "completed", "queued"]
    assert reply.ends == 1
    world.commands.cancel(world.caller.principal, "d", RecordingReply())
    said = await settled(5)
    assert said[1:] == [
        {"command": "deploy", "caller": "caller", "status": "completed", "agentId": "a", "attempt": 1, "node": "one"},
        {"command": "deploy", "caller": "caller", "status": "queued", "agentId": "b"},
        {"command": "deploy", "caller": "caller", "status": "cancelled", "agentId": "b", "code": "cancelled"},
        {"command": "deploy", "caller": "caller", "status": "cancelled"},
    ]
    # What could not be noted there comes as soon as the store works.
    ledger._store = Refusing()
    world.call(command_id="c2", target="a")
    clock.advance(0)
    clock.advance(GATHER)
    await until(lambda: not trail._under_way)
    (line,) = await store.trail("nexus", "c2", 9)
    assert msgspec.json.decode(line.line)["status"] == "sent"
    trail.stop()
    ledger.stop()
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_the_store_keeps_lines_in_order_until_they_are_pruned(tmp_path: Any) -> None:
    store: Any = open_store(f"sqlite:{tmp_path}/nexus.db", reactor)
    await store.start()
    assert IAudit in providedBy(store)
    lines = [AuditLine("nexus", "c\0", at, b'{"n":%d,"t":"\\u0000"}' % at) for at in (1, 3, 2, 9)]
    await store.note([*lines[:2], AuditLine("nexus", "other", 2, b"{}")])
    await store.note([AuditLine("another", "c\0", 2, b"{}"), *lines[2:]])
    assert await store.trail("nexus", "c\0", 10) == lines
    assert await store.trail("nexus", "c\0", 2) == lines[:2]
    await store.prune(5)
    assert await store.trail("nexus", "c\0", 10) == lines[3:]
    await store.stop()
