"""Every sample that was spooled is in the server's store in the end, once."""

from __future__ import annotations

from collections import Counter

import pytest_twisted

from tests.clients.faults.bed import Bed, Scenario, scenarios
from tests.clients.faults.conftest import SideBySide
from tests.e2e.server import until

MANY = 300


async def without_a_server(bed: Bed) -> None:
    await bed.wire.refuse()
    client = bed.program(agent=bed.agent)
    orders = [client.tell("telemetry", first=1, last=MANY)]
    await client.fact("spooled", n=orders[0])
    bed.wire.listen()
    for number in range(1, 4):
        await client.fact("state", after=len(client.facts) if number > 1 else 0, state="connected")
        orders.append(client.tell("telemetry", first=number * MANY + 1, last=(number + 1) * MANY))
        await client.fact("spooled", n=orders[-1])
        bed.wire.reset()
    for order in orders:
        await client.result(order)
    await client.close()
    assert bed.stored() == Counter(range(1, 4 * MANY + 1))
    bed.check_attempts(bed.wire)


async def killed_client(bed: Bed) -> None:
    """What is spooled in a file survives the client."""
    await bed.wire.refuse()
    client = bed.program(agent=bed.agent, spool=str(bed.directory / "spool.db"))
    for number in range(4):
        order = client.tell("telemetry", first=number * MANY + 1, last=(number + 1) * MANY)
        await client.fact("spooled", n=order)
        await client.kill()
        if number == 0:
            bed.wire.listen()
        client.launch()
        await client.fact("state", after=len(client.facts), state="connected")
    await until(lambda: sum(bed.stored().values()) >= 4 * MANY, what="for the samples")
    await client.close()
    assert bed.stored() == Counter(range(1, 4 * MANY + 1))
    bed.check_attempts(bed.wire)


@scenarios(without_a_server)
@pytest_twisted.ensureDeferred
async def test_every_sample_is_stored_once(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)


@scenarios(killed_client)
@pytest_twisted.ensureDeferred
async def test_a_spool_on_disk_survives_its_client(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)
