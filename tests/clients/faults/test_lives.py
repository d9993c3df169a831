"""Clocks that jump, processes that sleep, slow consumers, replaced agents, and commands that outlive their connections."""

from __future__ import annotations

import signal

import pytest_twisted

from tests.clients.faults.bed import Bed, Scenario, scenarios
from tests.clients.faults.conftest import SideBySide
from tests.clients.faults.program import PATIENCE
from tests.clients.faults.wire import Wire
from tests.e2e.server import until

HOUR = 3600
LETTERS = 100_000
MANY = 80  # events of so many letters: more than the server and the kernels' buffers hold
SLOW = ": 4001 Slow consumer"  # in the server's log


async def jump(bed: Bed, by: int) -> None:
    """The clock ends no connection, and no sample is lost for it."""
    client = await bed.watch(agent=bed.agent)
    await client.result(client.tell("clock", by=by))
    # Two heartbeats: timers of before the jump and of after it have run.
    pings = bed.wire.seen["ping"]
    await until(lambda: bed.wire.seen["ping"] > pings + 1, what="for two heartbeats")
    await client.result(client.tell("telemetry", first=1, last=3))
    await bed.flows(client)
    await bed.check(client)
    assert len(bed.wire.arrivals) == 1
    assert bed.stored() == {1: 1, 2: 1, 3: 1}


async def jump_ahead(bed: Bed) -> None:
    await jump(bed, HOUR)


async def jump_back(bed: Bed) -> None:
    await jump(bed, -HOUR)


async def sleep(bed: Bed) -> None:
    """The machine sleeps for so long that the server gives its client up."""
    client = await bed.watch()
    client.signal(signal.SIGSTOP)
    await until(lambda: bed.wire.seen["disconnect"], PATIENCE, "for the server to give the client up")
    client.signal(signal.SIGCONT)
    await bed.back(client, 1)
    await bed.check(client)


async def slow_consumer(bed: Bed) -> None:
    """It is told what it has missed."""
    client = await bed.watch()
    bed.source.rest()
    bed.wire.freeze(to_server=False)
    closed = bed.node.output.count(SLOW)
    for _ in range(MANY):
        assert await bed.source.send(letters="x" * LETTERS)
    await until(lambda: bed.node.output.count(SLOW) > closed, PATIENCE, "for the server to give the client up")
    bed.wire.thaw()
    gap = await client.fact("gap")
    assert gap["reason"] == "reconnect", "so much is not kept in the history"
    await bed.check(client, gaps=1)
    assert len(bed.wire.arrivals) == 2


async def replaced(bed: Bed) -> None:
    """A client whose agent's id another one has taken stops, and does not fight for it."""
    other_wire = Wire(bed.node.port)
    try:
        first = bed.program("first", agent=bed.agent)
        await first.result(first.tell("serve", command="count"))
        await first.fact("state", state="connected")
        other = bed.program("other", wire=other_wire, agent=bed.agent)
        await other.result(other.tell("serve", command="count"))
        assert (await first.fact("state", state="closed"))["error"] == "Replaced"
        call = other.tell("call", command="count", number=1, target=bed.agent, retries=0)
        await other.fact("ran", number=1)
        await other.result(other.tell("release", number=1))
        assert await other.result(call) == {"number": 1}
        for program in (first, other):
            await program.close()
        for wire in (bed.wire, other_wire):
            bed.check_attempts(wire)
            assert len(wire.arrivals) == 1
    finally:
        other_wire.discard()


async def commands(bed: Bed) -> None:
    """Each is executed once and its outcome reaches the caller, whoever of the two loses the connection meanwhile."""
    far = Wire(bed.node.port)
    try:
        executor = bed.program("executor", wire=far, agent=bed.agent)
        await executor.result(executor.tell("serve", command="count"))
        await executor.fact("state", state="connected")
        caller = bed.program("caller")
        for number, wires in enumerate(([bed.wire], [far], [bed.wire, far]), 1):
            call = caller.tell("call", command="count", number=number, target=bed.agent, retries=3)
            await executor.fact("ran", number=number)
            for wire in wires:
                arrivals = len(wire.arrivals)
                wire.reset()
                await until(lambda wire=wire, arrivals=arrivals: len(wire.arrivals) > arrivals, PATIENCE, "for a return")
            await executor.result(executor.tell("release", number=number))
            assert await caller.result(call) == {"number": number}
        # The executor is away when it has the outcome.
        call = caller.tell("call", command="count", number=4, target=bed.agent, retries=3)
        await executor.fact("ran", number=4)
        await far.refuse()
        await executor.fact("state", after=len(executor.facts), state="waiting")
        await executor.result(executor.tell("release", number=4))
        far.listen()
        assert await caller.result(call) == {"number": 4}
        for program in (caller, executor):
            await program.close()
        assert [fact["number"] for fact in executor.facts if fact["fact"] == "ran"] == [1, 2, 3, 4]
        for wire in (bed.wire, far):
            bed.check_attempts(wire)
    finally:
        far.discard()


@scenarios(jump_ahead, jump_back, sleep, slow_consumer, replaced, commands)
@pytest_twisted.ensureDeferred
async def test_clients_go_on_or_say_why_not(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)
