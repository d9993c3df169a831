"""One round: some concurrent connections, each with its own stream, and its own kind of end."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater

from tests.client import Wire, dial
from tests.e2e.server import clock
from tests.fuzz.streams import STREAMS
from tests.fuzz.target import TOKEN, Target

CONNECTIONS = 30
LONGEST_PAUSE = 0.01  # s between two pieces


async def play(target: Target, seed: int) -> None:
    """Play the round of this seed; at its end, no connection of it is open on this side."""
    random = Random(seed)
    seeds = [random.getrandbits(64) for _ in range(CONNECTIONS)]
    await gatherResults([ensureDeferred(_attack(target, Random(own))) for own in seeds], consumeErrors=True)


async def _attack(target: Target, random: Random) -> None:
    try:
        wire: Wire = await dial(target.endpoint)
    except ConnectError:  # this process was so busy that the node had given up before it looked
        return
    try:
        if random.random() < 0.2:
            wire.transport.pauseProducing()  # it never reads
        for piece in random.choice(STREAMS)(random, TOKEN):
            if wire.over:
                break
            wire.write(piece)
            await deferLater(clock, random.uniform(0, LONGEST_PAUSE) if random.random() < 0.5 else 0)
        if random.random() < 0.5:
            wire.transport.loseConnection()
            await deferLater(clock, LONGEST_PAUSE)
    finally:
        wire.drop()
