"""`twistd nexus` as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.e2e.agent import connect
from tests.e2e.clients import Clients
from tests.e2e.server import NexusServer, clock, until

ONE_OFF = re.compile(r"export NEXUS_TOKEN=([\w-]{43})")


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Makes servers that do not outlive the test."""
    made: list[NexusServer] = []

    def make_one(*args: str, **options: Any) -> NexusServer:
        made.append(NexusServer(tmp_path, *args, **options))
        return made[-1]

    yield make_one
    for server in made:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_sigterm_ends_it_cleanly_after_telling_clients(make: Any) -> None:
    server = make()
    await server.start()
    agent = await connect(server.ws, server.token)
    server.signal(signal.SIGTERM)
    assert await agent.closed.addTimeout(10, clock) == (1000, "Server shutting down")
    assert await server.ended() in (0, -signal.SIGTERM)
    assert " error " not in server.output


@pytest_twisted.ensureDeferred
async def test_every_line_of_a_json_log_is_an_object(make: Any, clients: Clients) -> None:
    server = make(env={"NEXUS_LOG__FORMAT": "json"})
    await server.start()
    client = await clients.connect(server)
    await client.close()
    await server.stop()
    lines = [json.loads(line) for line in server.output.splitlines()]
    assert lines
    assert all({"timestamp", "level", "namespace", "message"} <= set(line) for line in lines)
    assert server.token not in server.output


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"NEXUS_HEARTBEAT__INTERVAL": "often"}, ["heartbeat.interval"]),
        ({"NEXUS_LISTEN": "tls:0"}, ["tls.certificate"]),
        ({"NEXUS_LISTEN": "tcp:no-port"}, ["listen"]),
    ],
)
async def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(
    make: Any, env: dict[str, str], words: list[str]
) -> None:
    server = make(env=env, listen=False)
    server.launch()
    assert await server.ended() == 1
    assert server.output.count("\n") == 1
    assert all(word in server.output for word in words)


@pytest_twisted.ensureDeferred
async def test_without_a_token_one_is_made_and_printed_once(make: Any, clients: Clients) -> None:
    server = make(env={"NEXUS_TOKEN": ""})
    await server.start()
    await until(lambda: ONE_OFF.search(server.output), what=server.output)
    found = ONE_OFF.search(server.output)
    assert found is not None
    await clients.connect(server.http, found[1])
    await server.stop()
    assert server.output.count(found[1]) == 1
