"""Telemetry of the asyncio client: stored once, kept on disk, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import nexus_client
import pytest
from nexus_client import Spool

from tests.clients.aio.world import AGENT, Make
from tests.clients.looped import looped, node, until, within
from tests.e2e.server import free_port


@looped
async def test_samples_are_stored_by_the_thousand(make: Make) -> None:
    async with make(token=AGENT, agent="a-1") as nexus:
        samples = await asyncio.gather(*(nexus.telemetry({"disk": {"used": n / 10}}, n=n) for n in range(1200)))
        await within(asyncio.gather(*(sample.stored for sample in samples)))
        assert nexus.stats.stored == 1200
        assert nexus.stats.batches <= 6
        with pytest.raises(ValueError, match=r"metrics\.cpu"):
            await nexus.telemetry(cpu=None)
        refused = await nexus.telemetry({"cpu": 1}, agent="a-2")
        with pytest.raises(nexus_client.RequestError) as forbidden:
            await within(refused.stored)
        assert forbidden.value.code == "forbidden"


@looped
async def test_a_spool_on_disk_keeps_samples_for_the_next_start(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    async with node() as far:
        nexus = make(f"http://127.0.0.1:{free_port()}", agent="a-1", spool=Spool(path))
        async with nexus:
            samples = [await nexus.telemetry(n=number) for number in range(3)]
        with pytest.raises(nexus_client.Stopped):
            await samples[0].stored
        with pytest.raises(nexus_client.Stopped):
            await nexus.telemetry(n=4)
        spool = Spool(path)
        async with make(far.http, spool=spool):
            await until(lambda: list(far.model.samples) == [sample.id for sample in samples])
            await until(lambda: len(spool) == 0)


@looped
async def test_the_oldest_samples_are_dropped_and_those_that_wait_are_told(make: Make) -> None:
    async with make(f"http://127.0.0.1:{free_port()}", agent="a-1", spool=Spool(samples=2)) as nexus:
        first, *_ = [await nexus.telemetry(n=number) for number in range(3)]
        with pytest.raises(nexus_client.SampleDropped):
            await first.stored


@looped
async def test_an_end_waits_for_what_is_spooled(make: Make) -> None:
    async with node() as far:
        far.mute.add("telemetry")
        nexus = make(far.http, agent="a-1")
        async with nexus:
            await within(nexus.connected())
            sample = await nexus.telemetry(cpu=1)
            closing = asyncio.create_task(nexus.close(timeout=60))
            await until(lambda: any(message["type"] == "telemetry" for message in far.received))
            assert nexus.state == "connected"
            far.mute.clear()
            far.cut()
            await within(closing)
        assert list(far.model.samples) == [sample.id]
        far.mute.add("telemetry")
        impatient = make(far.http, agent="a-1")
        async with impatient:
            await within(impatient.connected())
            lost = await impatient.telemetry(cpu=2)
            await within(impatient.close(timeout=0.01))
        with pytest.raises(nexus_client.Stopped):
            await lost.stored


class Faulty(Spool):
    """A spool whose disk is full for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.full: set[str] = set()

    def _fail(self, name: str) -> None:
        if name in self.full:
            raise OSError("the spool cannot be written: disk full")

    def add(self, samples: Any) -> list[str]:
        self._fail("add")
        return super().add(samples)

    def next(self, limit: int) -> Any:
        self._fail("next")
        return super().next(limit)

    def remove(self, ids: Any) -> None:
        self._fail("remove")
        super().remove(ids)


@looped
async def test_a_full_disk_is_told_and_survived(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nexus_client.aio.telemetry.AGAIN", 0.01)
    spool = Faulty()
    async with node() as far, make(far.http, agent="a-1", spool=spool) as nexus:
        await within(nexus.connected())
        spool.full = {"add"}
        with pytest.raises(OSError, match="disk full"):
            await nexus.telemetry(cpu=1)
        spool.full = {"next"}
        second = await nexus.telemetry(cpu=2)
        await until(lambda: "the spool cannot be read" in caplog.text)
        spool.full = {"remove"}
        await within(second.stored)
        await until(lambda: "cannot be removed" in caplog.text)
        assert len(spool) == 1
        spool.full = set()
        third = await nexus.telemetry(cpu=3)
        await within(third.stored)
        await until(lambda: len(spool) == 0)
        assert list(far.model.samples) == [second.id, third.id]


@looped
async def test_a_spool_that_cannot_be_opened_is_an_error_at_the_start(make: Make, tmp_path: Path) -> None:
    nexus = make(spool=Spool(tmp_path / "absent" / "spool.db"))
    with pytest.raises(OSError, match=r"spool\.db cannot be opened"):
        await nexus.run()
    await nexus.close()
    assert nexus.state == "closed"
