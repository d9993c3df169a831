"""Events, publications, recovery: the asyncio client against a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nexus_client
import pytest
from nexus_client import Event, Gap, State

from tests.clients.aio.world import AGENT, Make, data, take
from tests.clients.looped import looped, started, until, within
from tests.e2e.server import NexusServer, free_port


@looped
async def test_events_go_to_those_who_asked(make: Make) -> None:
    nexus = make()
    async with nexus, nexus.subscribe("task.**", "other") as all_of, nexus.subscribe("task.*", where={"n": 2}) as some:
        await within(all_of.accepted())
        await within(some.accepted())
        positions = [await nexus.publish("task.a", {"n": n}) for n in (1, 2)]
        assert await nexus.publish("elsewhere", None) is not None
        await nexus.publish("other")
        items = await take(all_of, 3)
        assert items[0] == Event("task.a", {"n": 1}, positions[0])
        assert data(items) == [{"n": 1}, {"n": 2}, None]
        assert data(await take(some, 1)) == [{"n": 2}]
        assert all_of.positions["task.a"] == positions[1]
        assert nexus.stats.events == 3
        all_of.close()
        assert [item async for item in all_of] == []


@looped
async def test_positions_are_those_of_what_was_taken_also_after_the_end(make: Make) -> None:
    async with make() as nexus:
        async with nexus.subscribe("task.saved") as stream:
            await within(stream.accepted())
            positions = [await nexus.publish("task.saved", number) for number in range(3)]
            await until(lambda: nexus.stats.events == 3)
            await take(stream, 1)
            assert stream.positions == {"task.saved": positions[0]}
        saved = stream.positions
        assert saved == {"task.saved": positions[0]}
        assert data([item async for item in stream]) == [1, 2]
    async with make() as other, other.subscribe("task.saved", since=saved) as back:
        assert data(await take(back, 2)) == [1, 2]
        await other.close()
        assert back.positions == {"task.saved": positions[2]}


@looped
async def test_a_consumer_that_is_too_slow_gets_a_gap(make: Make) -> None:
    async with make(queue=2) as nexus, nexus.subscribe("task.slow") as stream:
        await within(stream.accepted())
        positions = [await nexus.publish("task.slow", number) for number in range(5)]
        await until(lambda: nexus.stats.events == 5)
        first, second, gap = await take(stream, 3)
        assert data([first, second]) == [0, 1]
        assert gap == Gap("task.slow", "overflow", positions[4], positions[1])
        assert stream.dropped == 3
        await nexus.publish("task.slow", 5)
        assert data(await take(stream, 1)) == [5]


@looped
async def test_a_subscription_is_used_once_and_says_what_is_wrong(make: Make) -> None:
    async with make(token=AGENT) as nexus:
        with pytest.raises(ValueError, match="patterns"):
            await nexus.subscribe().__aenter__()
        with pytest.raises(ValueError, match=r"task\.\.a"):
            await nexus.subscribe("task..a").__aenter__()
        stream = nexus.subscribe("secret.**")
        with pytest.raises(RuntimeError, match="async with"):
            aiter(stream)
        async with stream:
            for attempt in (stream.accepted(), anext(stream)):
                with pytest.raises(nexus_client.RequestError) as refused:
                    await within(attempt)
                assert refused.value.code == "forbidden"
        with pytest.raises(RuntimeError, match="before"):
            await stream.__aenter__()


@looped
async def test_requests_that_are_refused_say_why(make: Make) -> None:
    async with make(token=AGENT) as nexus:
        with pytest.raises(nexus_client.RequestError) as refused:
            await within(nexus.publish("secret.a"))
        assert (refused.value.code, refused.value.retryable) == ("forbidden", False)
        with pytest.raises(ValueError, match="type"):
            await nexus.publish("a b")
        with pytest.raises(TypeError):
            await nexus.publish("task.a", object())
        with pytest.raises(nexus_client.CommandError) as nobody:
            await within(nexus.call("nothing"))
        assert nobody.value.code == "no_such_command"


@looped
async def test_a_publication_without_a_connection_waits_for_its_time(make: Make) -> None:
    nexus = make(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(nexus_client.NotConnected) as before:
        await nexus.publish("task.a", timeout=0.01)
    assert not before.value.maybe_sent
    async with nexus:
        with pytest.raises(nexus_client.NotConnected):
            await nexus.publish("task.a", timeout=0.01)
        waiting = asyncio.create_task(nexus.publish("task.a", timeout=1000))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@looped
async def test_a_client_survives_a_restart_and_says_what_it_may_have_missed(make: Make, tmp_path: Path) -> None:
    server = NexusServer(tmp_path)
    await started(server)
    try:
        nexus = make(server.http, agent="agent-back")
        states: list[State] = []
        nexus.on_state(states.append)
        nexus.command("echo")(lambda call, text: text)
        async with nexus, nexus.subscribe("task.*") as stream:
            await within(stream.accepted())
            await nexus.publish("task.a", 1)
            assert data(await take(stream, 1)) == [1]
            server.discard()
            await until(lambda: nexus.state != "connected")
            waiting = asyncio.create_task(nexus.publish("task.a", 2, timeout=60))
            sample = await nexus.telemetry(cpu=1)  # through the outage
            await started(server)
            nexus.woke()
            await within(waiting)
            await within(sample.stored)
            assert data(await take(stream, 1)) == ["reconnect"]
            while not isinstance(last := await within(anext(stream)), Event):
                assert last.reason == "reconnect"
            assert last.data == 2
            assert await within(nexus.call("echo", {"text": "again"}, ttl=5)) == "again"
            assert nexus.stats.connections == 2
        assert [state.state for state in states][:3] == ["connecting", "connected", "waiting"]
        assert states[2].retry_in is not None
        assert states[-1] == State("closed")
    finally:
        server.discard()
