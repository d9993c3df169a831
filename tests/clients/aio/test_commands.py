"""Commands called and executed by the asyncio client."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import nexus_client
import pytest
from nexus_client import Call, Step

from tests.clients.aio.world import AGENT, Make, data, take
from tests.clients.looped import looped, until, within
from tests.e2e.server import NexusServer


@looped
async def test_commands_are_executed_by_coroutines_and_plain_functions(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    agent, caller = make(agent="agent-kinds"), make()
    home = threading.get_ident()

    @agent.command("coroutine")
    async def coroutine(call: Call, version: str, count: int = 1) -> dict[str, Any]:
        await call.progress({"percent": 40})
        call.progress({"percent": 80})
        assert 0 < call.remaining() < 31
        return {"version": version, "count": count, "caller": call.caller, "attempt": call.attempt}

    @agent.command("plain")
    def plain(call: Call) -> bool:
        call.progress("half")
        return threading.get_ident() != home

    agent.command("returns.coroutine")(lambda call: asyncio.sleep(0, "late"))

    @agent.command("fails")
    async def fails(call: Call) -> None:
        raise nexus_client.CommandFailed("disk full")

    @agent.command("breaks")
    def breaks(call: Call) -> None:
        raise RuntimeError("with a secret")

    @agent.command("strange")
    async def strange(call: Call) -> object:
        return object()

    async with agent, caller:
        run = caller.call("coroutine", {"version": "1.2"}, target="agent-kinds", ttl=5)
        steps = [step async for step in run.progress]
        assert steps == [Step("agent-kinds", {"percent": 40}), Step("agent-kinds", {"percent": 80})]
        assert await run == {"version": "1.2", "count": 1, "caller": "admin", "attempt": 1}
        run = caller.call("plain")
        assert [step.data async for step in run.progress] == ["half"]
        assert run.done()
        assert await run is True
        assert await within(caller.call("returns.coroutine")) == "late"
        many = await within(caller.call("plain", target=["agent-kinds", "nobody"]))
        assert [(each["agentId"], each["status"]) for each in many] == [("agent-kinds", "success"), ("nobody", "error")]
        for command, parameters, reason in (
            ("coroutine", {"version": 5}, "parameter version: Expected `str`, got `int`"),
            ("coroutine", {}, "missing parameter version"),
            ("fails", None, "disk full"),
            ("breaks", None, "internal error in handler breaks"),
            ("strange", None, "internal error in handler strange"),
        ):
            with pytest.raises(nexus_client.CommandError, match=reason) as raised:
                await within(caller.call(command, parameters))
            assert raised.value.code == "failed"
            assert "secret" not in str(raised.value)
        assert "the handler of breaks failed" in caplog.text
        assert "with a secret" in caplog.text
        agent.forget_command("plain")
        await agent.publish("task.after")
        with pytest.raises(nexus_client.CommandError) as unknown:
            await within(caller.call("plain"))
        assert unknown.value.code == "no_such_command"


@looped
async def test_the_outcome_of_each_of_several_agents_comes_as_it_ends(make: Make) -> None:
    released = asyncio.Event()
    async with make(agent="agent-quick") as quick, make(agent="agent-slow") as slow, make() as caller:

        @quick.command("go")
        async def go(call: Call) -> int:
            return 1

        @slow.command("go")
        async def wait(call: Call) -> None:
            await released.wait()
            raise nexus_client.CommandFailed("too late")

        await within(quick.connected())
        await within(slow.connected())
        run = caller.call("go", target=["agent-quick", "agent-slow"], ttl=5)
        outcomes = aiter(run.outcomes)
        assert await within(anext(outcomes)) == {"agentId": "agent-quick", "status": "success", "result": 1}
        assert not run.done()
        released.set()
        late = await within(anext(outcomes))
        assert (late["agentId"], late["status"], late["code"]) == ("agent-slow", "error", "failed")
        assert [each async for each in outcomes] == []
        assert (await within(run))[1] == late


@looped
async def test_it_knows_whom_the_server_takes_it_for(make: Make) -> None:
    nexus = make(token=AGENT)
    assert nexus.user is None
    async with nexus:
        await within(nexus.connected())
        assert nexus.user == nexus_client.User("a-1", "agent")


@looped
async def test_a_handler_may_use_its_client(make: Make) -> None:
    async with make(agent="agent-inner") as nexus, nexus.subscribe("task.inner") as stream:

        @nexus.command("inner")
        async def inner(call: Call, n: int) -> int:
            await nexus.publish("task.inner", n)
            return n + 1

        @nexus.command("outer")
        async def outer(call: Call) -> Any:
            return await nexus.call("inner", {"n": 1})

        assert await within(nexus.call("outer", ttl=5)) == 2
        assert data(await take(stream, 1)) == [1]


@looped
async def test_cancelling_reaches_the_handler(make: Make) -> None:
    cancelled: list[str] = []
    async with make(agent="agent-cancel") as agent, make() as caller:

        @agent.command("hang")
        async def hang(call: Call, by: str) -> None:
            call.progress("running")
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(by)

        @agent.command("thread")
        def thread(call: Call) -> None:
            call.progress("running")
            while not call.cancelled:
                time.sleep(0.001)
            cancelled.append("thread")

        run = caller.call("hang", {"by": "run"}, ttl=5)
        await within(anext(run.progress))
        run.cancel()
        with pytest.raises(nexus_client.CommandCancelled):
            await within(run)
        run.cancel()  # has no effect any more
        run = caller.call("hang", {"by": "task"})
        task = asyncio.ensure_future(run)
        await within(anext(run.progress))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: cancelled == ["run", "task"])
        run = caller.call("thread")
        await within(anext(run.progress))
        run.cancel()
        with pytest.raises(nexus_client.CommandCancelled):
            await within(run)
        await until(lambda: cancelled[2:] == ["thread"])
        run = caller.call("hang", {"by": "close"})
        await within(anext(run.progress))
        await agent.close()
        assert cancelled[3:] == ["close"]
        with pytest.raises(nexus_client.CommandError) as lost:
            await within(run)
        assert lost.value.code == "agent_lost"


@looped
async def test_handlers_in_threads_stop_nothing_else_and_are_bounded(make: Make) -> None:
    gates = threading.Barrier(3)
    async with make(agent="agent-busy", handlers=2) as agent, make() as caller:

        @agent.command("wait")
        def wait(call: Call) -> str:
            call.progress("running")
            gates.wait(20)
            return "done"

        runs = [caller.call("wait", ttl=5) for _ in range(2)]
        for run in runs:
            await within(anext(run.progress))
        with pytest.raises(nexus_client.CommandError, match="too busy"):
            await within(caller.call("wait"))
        assert await within(agent.publish("task.meanwhile")) is not None
        await asyncio.to_thread(gates.wait, 20)
        assert [await within(run) for run in runs] == ["done", "done"]


@looped
async def test_the_end_of_the_client_waits_for_no_thread_for_ever(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_client.aio.client.PATIENCE", 0.05)
    released = threading.Event()
    async with make(agent="agent-thread") as agent:

        @agent.command("stuck")
        def stuck(call: Call) -> None:
            call.progress("running")
            released.wait(20)

        async with make() as caller:
            run = caller.call("stuck", ttl=5)
            await within(anext(run.progress))
            await within(agent.close())
            released.set()
            with pytest.raises(nexus_client.CommandError):
                await within(run)
    await until(lambda: len(asyncio.all_tasks()) == 1)


CTRL_C = """
import asyncio, sys
from nexus_client import Nexus

async def main():
    async with Nexus(sys.argv[1], token=sys.argv[2]) as nexus:
        run = nexus.call("hang", ttl=30)
        async for step in run.progress:
            print(step.data, flush=True)
            await run

asyncio.run(main())
"""


@looped
async def test_ctrl_c_cancels_the_command_that_is_waited_for(make: Make, server: NexusServer) -> None:
    cancelled = asyncio.Event()
    async with make(agent="agent-ctrl-c") as agent:

        @agent.command("hang")
        async def hang(call: Call) -> None:
            call.progress("running")
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CTRL_C, server.http, server.token, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert program.stdout is not None
        assert await within(program.stdout.readline()) == b"running\n"
        program.send_signal(signal.SIGINT)
        await within(cancelled.wait())
        _, complaint = await within(program.communicate())
        assert complaint.strip().endswith(b"KeyboardInterrupt")
        assert b"never retrieved" not in complaint
