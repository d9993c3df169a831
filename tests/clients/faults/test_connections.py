"""Connections that end, fall silent, are slow, or carry what no server has sent."""

from __future__ import annotations

import pytest_twisted

from tests.client import BINARY, TEXT
from tests.clients.faults.bed import Bed, Scenario, scenarios
from tests.clients.faults.conftest import SideBySide
from tests.clients.faults.program import PATIENCE
from tests.e2e.server import until

LETTERS = 20_000  # of an event that takes a while


def sent(opcode: int, payload: bytes) -> bytes:
    """Return a frame as a server sends it; with less than 126 bytes."""
    return bytes((0x80 | opcode, len(payload))) + payload


RANDOM = b"\xff\xfe\xfd\xfc\xfb\xfa"
MASKED = b"\x81\x85\x01\x02\x03\x04abcde"
UNKNOWN = sent(3, b"x")
ENDLESS = b"\x81\x7f\x40\0\0\0\0\0\0\0x"  # a frame of 2**62 bytes begins
NOT_UTF8 = sent(TEXT, b"\xff\xff")
NOT_JSON = sent(TEXT, b"<html>")
NO_MESSAGE = sent(TEXT, b"[1,2]")
NOT_TEXT = sent(BINARY, b"\0\1\2")


async def cut(bed: Bed) -> None:
    client = await bed.watch()
    for end in (bed.wire.reset, bed.wire.finish):
        arrivals = len(bed.wire.arrivals)
        end()
        await bed.back(client, arrivals)
    await bed.check(client)


async def deaf(bed: Bed) -> None:
    """Nothing reaches the client any more."""
    client = await bed.watch()
    bed.wire.freeze(to_server=False)
    await until(lambda: not bed.wire.open, PATIENCE, "for the client to give the connection up")
    bed.wire.thaw()
    await bed.back(client, 1)
    await bed.check(client)


async def mute(bed: Bed) -> None:
    """Nothing reaches the server any more, which notices it."""
    client = await bed.watch()
    bed.wire.freeze(to_client=False)
    await until(lambda: not bed.wire.open, PATIENCE, "for the end of the connection")
    bed.wire.thaw()
    await bed.back(client, 1)
    await bed.check(client)


async def dark(bed: Bed) -> None:
    """As if there were no network at all: new connections are not even refused."""
    client = await bed.watch()
    bed.wire.cut()
    waiting = client.facts.index(await client.fact("state", state="waiting"))
    await client.fact("state", after=waiting, state="connecting")
    bed.wire.repair()
    await bed.back(client, 1)
    await bed.check(client)


async def slow(bed: Bed) -> None:
    """A slow network is no broken one."""
    client = await bed.watch()
    bed.source.rest()
    bed.wire.slow(rate=40_000, latency=0.3)
    for _ in range(6):
        assert await bed.source.send(letters="x" * LETTERS)
    await bed.reaches(client, bed.source.number)
    await bed.check(client)
    assert len(bed.wire.arrivals) == 1


async def receive(bed: Bed, *garbage: bytes) -> None:
    """Each costs a connection and no event."""
    client = await bed.watch()
    for number, data in enumerate(garbage, 1):
        bed.wire.inject(data)
        await bed.back(client, number)
        assert len(bed.wire.arrivals) == number + 1
    await bed.check(client)


async def broken_frames(bed: Bed) -> None:
    await receive(bed, RANDOM, MASKED, UNKNOWN)


async def strange_text(bed: Bed) -> None:
    await receive(bed, NOT_UTF8, NOT_JSON, NO_MESSAGE)


async def frames_that_do_not_fit(bed: Bed) -> None:
    await receive(bed, NOT_TEXT, ENDLESS)


@scenarios(cut, deaf, mute, dark, slow, broken_frames, strange_text, frames_that_do_not_fit)
@pytest_twisted.ensureDeferred
async def test_nothing_is_lost_in_silence_or_comes_twice(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)
