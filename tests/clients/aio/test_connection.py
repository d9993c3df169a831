"""Tokens, refusals, garbage, ends: the life of the asyncio client."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import nexus_client
import pytest
from nexus_client import Nexus, State, errors
from websockets.asyncio.client import connect

from tests.clients.aio.world import Make, TlsServer, data, impatient, take
from tests.clients.looped import looped, node, started, until, within
from tests.e2e.server import NexusServer


def test_all_public_names_are_there_and_nothing_else() -> None:
    for name in nexus_client.__all__:
        assert getattr(nexus_client, name).__name__ == name
    assert set(nexus_client.__all__) <= set(dir(nexus_client))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        nexus_client.Nothing  # type: ignore[attr-defined]  # noqa: B018 - the access is the test


def test_every_error_is_public() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.NexusError)}
    assert kinds <= set(nexus_client.__all__)


@looped
async def test_it_returns_within_the_time_that_a_ping_of_the_server_has_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each client draws its place in that time; here all are in the middle."""
    monkeypatch.setattr("nexus_client.aio.client.random", SimpleNamespace(random=lambda: 0.5))
    config = tmp_path / "nexus.toml"
    config.write_text("[heartbeat]\ninterval = 1\ntimeout = 5\n\n[limits]\nconnect_rate = 4\n")
    server = NexusServer(tmp_path, "--config", str(config))
    await started(server)
    waits: list[float | None] = []
    try:
        async with AsyncExitStack() as stack:
            nexus = Nexus(server.http, token=server.token)
            nexus.on_state(lambda state: waits.append(state.retry_in) if state.state == "waiting" else None)
            await stack.enter_async_context(nexus)
            await within(nexus.connected())
            header = {"Authorization": f"Bearer {server.token}"}
            witness = await stack.enter_async_context(connect(server.ws, additional_headers=header, ping_interval=None))
            assert json.loads(await within(witness.recv()))["reconnect"] == {"delay": 1000}
            others = [await stack.enter_async_context(Nexus(server.http, token=server.token)) for _ in range(4)]
            for each in others:
                await within(each.connected())
            # Six clients, of which the server takes four in a second: how long it wants depends on when it looked.
            told, quiet = 1000, 0
            while told == 1000 or quiet < 2:  # after two more pings each client has had the last change
                delay = json.loads(await within(witness.recv())).get("delay")
                told, quiet = (told, quiet + 1) if delay in (None, told) else (delay, 0)
            assert waits == []
            server.discard()
            await until(lambda: waits)
            assert waits[0] == told / 1000 / 2
    finally:
        server.discard()


@looped
async def test_a_token_may_come_from_a_function_of_any_kind(make: Make, server: NexusServer) -> None:
    asked: list[str] = []

    def plain() -> str:
        asked.append("plain")
        return server.token

    async def coroutine() -> str:
        asked.append("coroutine")
        return server.token

    def plain_that_returns_a_coroutine() -> Any:
        return coroutine()

    for token in (plain, coroutine, plain_that_returns_a_coroutine):
        async with make(token=token) as nexus:
            await within(nexus.connected())
    assert asked == ["plain", "coroutine", "coroutine"]


@looped
async def test_a_refused_token_stops_the_client_and_is_never_shown(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    nexus = make(token="a-wrong-token-that-is-secret")
    async with nexus, nexus.subscribe("task.**") as stream:
        pending = asyncio.create_task(nexus.publish("task.a", 1))
        for waiting in (nexus.connected(), pending, nexus.closed(), anext(stream), nexus.telemetry(agent="a", n=1)):
            with pytest.raises(nexus_client.Unauthorized):
                await within(waiting)
        with pytest.raises(nexus_client.Unauthorized):
            nexus.call("anything")
    assert nexus.state == "closed"
    assert "the client has stopped" in caplog.text
    assert "that-is-secret" not in caplog.text


@looped
async def test_a_function_is_asked_for_another_token_if_it_fails_or_its_token_is_refused(
    make: Make, server: NexusServer, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [OSError("a secret"), "a secret with spaces", "a-wrong-token", server.token]

    async def token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    async with impatient(make(token=token)) as nexus:
        await within(nexus.connected())
        assert nexus.stats.attempts == 4
    assert "no token could be obtained: OSError" in caplog.text
    assert "secret" not in caplog.text


def test_a_malformed_token_or_address_is_refused_at_once() -> None:
    for token in ("", "two words", "line\r\nX-Header: injected", "ä"):
        with pytest.raises(ValueError, match="token: expected printable ASCII") as refused:
            Nexus("http://127.0.0.1", token=token)
        assert not token or token not in str(refused.value)
    with pytest.raises(ValueError, match="url"):
        Nexus("ftp://127.0.0.1")


@looped
async def test_an_end_while_the_token_is_awaited(make: Make) -> None:
    cancelled = asyncio.Event()

    async def token() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "unreachable"

    async with make(token=token) as nexus:
        await until(lambda: nexus.state == "connecting")
        await asyncio.sleep(0)
        await within(nexus.close())
    assert cancelled.is_set()


@looped
async def test_addresses_that_are_wrong_stop_the_client(make: Make, server: TlsServer) -> None:
    with pytest.raises(nexus_client.Unreachable, match="404"):
        await make(f"{server.http}/nothing/here").run()
    with pytest.raises(nexus_client.Unreachable, match="certificate verify failed"):
        await make(server.https).run()
    async with make(server.https, tls=ssl.create_default_context(cadata=server.authority)) as nexus:
        assert await within(nexus.publish("task.tls")) is not None


REFUSALS = [
    (b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 3\r\n\r\nno\n", "503 Service Unavailable", 7.0),
    (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "302 Found", 0.0),
    (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "InvalidUpgrade", 0.0),
    (b"SSH-2.0-OpenSSH\r\n", "InvalidMessage", 0.0),
    (b"", "", 0.0),
]


@pytest.mark.parametrize(("answer", "reason", "least"), REFUSALS, ids=["busy", "redirect", "no upgrade", "ssh", "nothing"])
@looped
async def test_what_answers_instead_of_a_server_is_tried_again(make: Make, answer: bytes, reason: str, least: float) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(answering, "127.0.0.1", 0) as listening:
        nexus = make(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        states: list[State] = []
        nexus.on_state(states.append)
        async with nexus:
            await until(lambda: nexus.state == "waiting")
        waiting = next(state for state in states if state.state == "waiting")
        assert reason in waiting.reason
        assert waiting.retry_in is not None
        assert waiting.retry_in >= least


@looped
async def test_messages_of_any_length_and_in_fragments_arrive_whole(make: Make) -> None:
    async with node() as far, make(far.http) as nexus, nexus.subscribe("task.long") as stream:
        await within(stream.accepted())
        text = json.dumps({"type": "event", "eventType": "task.long", "data": "ä" * 3_000_000}, ensure_ascii=False)
        await far.peers[0].send(text)
        await far.peers[0].send([text[:50], text[50:1000], text[1000:]])
        await far.peers[0].ping()
        assert [len(item) for item in data(await take(stream, 2))] == [3_000_000, 3_000_000]


@looped
async def test_garbage_ends_the_connection_and_is_survived(make: Make) -> None:
    async with node() as far, impatient(make(far.http)) as nexus:
        await within(nexus.connected())
        await far.peers[0].send("<html>")
        await until(lambda: nexus.stats.connections == 2)
        await far.peers[0].send(b"{}")
        await until(lambda: nexus.stats.connections == 3)
        far.peers[0].transport.write(b"\xff\xff")  # no frame of RFC 6455
        await until(lambda: nexus.stats.connections == 4)
        assert far.closes == [1002, 1003, 1002]
        assert nexus.stats.garbage == 2


@looped
async def test_a_machine_that_slept_checks_its_connection(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_client.aio.client.GLANCE", 0.01)
    async with node() as far, make(far.http) as nexus:
        await within(nexus.connected())
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 3600)
        await until(lambda: {"type": "ping"} in far.received)
        monkeypatch.undo()
        assert nexus.stats.connections == 1


@looped
async def test_an_orderly_end_settles_what_is_pending(make: Make) -> None:
    nexus = make()
    run = asyncio.create_task(nexus.run())
    await within(nexus.connected())
    async with nexus.subscribe("task.end") as stream:
        call = nexus.call("nobody.executes.this", ttl=100)
        await nexus.close()
        with pytest.raises(nexus_client.Stopped):
            await call
        assert [item async for item in stream] == []
    await within(run)
    with pytest.raises(nexus_client.Stopped):
        await nexus.connected()
    with pytest.raises(nexus_client.Stopped):
        await nexus.subscribe("task.end").__aenter__()
    with pytest.raises(RuntimeError, match="started before"):
        await nexus.run()
    await nexus.close()  # again: nothing is left to do


@looped
async def test_broadcasts_reach_everybody_and_callbacks_may_fail(
    make: Make, server: NexusServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    async with make() as nexus:

        @nexus.on_broadcast
        def fails(data: Any) -> None:
            raise RuntimeError("a callback")

        @nexus.on_broadcast
        async def fails_later(data: Any) -> None:
            raise RuntimeError("a coroutine")

        @nexus.on_broadcast
        async def hear(data: Any) -> None:
            heard.append(data)

        await within(nexus.connected())
        body = json.dumps({"data": {"text": "noon"}}).encode()
        headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
        request = Request(f"{server.http}/api/v1/broadcast", body, headers)
        await asyncio.to_thread(lambda: urlopen(request, timeout=10).close())
        await until(lambda: heard == [{"text": "noon"}])
        await until(lambda: caplog.text.count("a callback failed") == 2)
