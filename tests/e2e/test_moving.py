"""examples/moving, step by step: an old server of Node and Nexus on one Redis, and nobody misses an event or gets one twice."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.web.http_headers import Headers

from tests.e2e.agent import Agent, connect
from tests.e2e.server import FOREIGN, ROOT, Child, NexusServer, answers, free_port, until
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

MOVING = ROOT / "examples" / "moving"
TYPE = "order.placed"
KEY = "dashboard-key-of-the-old-server"


class House:
    """The two servers, their clients, and what is published."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.directory = directory
        self.redis = redis
        self.old_port = free_port()
        self.old = Child("old", directory)
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.published: list[int] = []
        self.nexus = NexusServer(directory, "--config", str(self.configuration()), env={"NEXUS_STORE": "sqlite:nexus.db"})

    def configuration(self) -> Path:
        """The example's file, with this Redis and the key of the dashboard."""
        text = (MOVING / "nexus.toml").read_text()
        text = re.sub(r"^listen = .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("redis://localhost:6379/0", self.redis.url)
        file = self.directory / "nexus.toml"
        file.write_text(text)
        return file

    def start_old(self) -> None:
        environ = {"PORT": str(self.old_port), "REDIS_PORT": str(self.redis.port), "TOKEN": KEY}
        modules = {"NODE_PATH": str(ROOT / "tests" / "node_modules")}
        self.old.spawn(["node", str(Path(__file__).parent / "moving" / "server.cjs")], self.environ | environ | modules, ROOT)

    @property
    def old_url(self) -> str:
        return f"ws://127.0.0.1:{self.old_port}/?token={KEY}"

    async def client(self, url: str, token: str | None = None) -> Agent:
        agent = await connect(url, token) if token else await connect(url)
        agent.tell(type="subscribe", events=[TYPE])
        await agent.next("subscribed")
        return agent

    async def publish(self, url: str, token: str = "") -> None:
        number = len(self.published)
        headers = Headers({"Authorization": [f"Bearer {token}"]} if token else {})
        body = json.dumps({"eventType": TYPE, "data": {"number": number}}).encode()
        answer = await treq.post(url, body, headers=headers, timeout=10, persistent=False)
        assert answer.code == 200, await treq.text_content(answer)
        await treq.content(answer)
        self.published.append(number)

    async def heard(self, *agents: Agent) -> None:
        """Everybody gets the last event that was published, and nothing before it that they had already."""
        for agent in agents:
            event = await agent.next("event")
            assert (event["eventType"], event["data"]) == (TYPE, {"number": self.published[-1]})

    async def compare(self) -> str:
        """Run compare.py while both publish; return what it prints."""
        child = Child("compare", self.directory)
        arguments = [self.old_url, self.nexus.ws, "1", TYPE]
        child.spawn(
            [sys.executable, str(MOVING / "compare.py"), *arguments],
            self.environ | {"NEXUS_TOKEN": self.nexus.token},
            self.directory,
        )
        await until(lambda: "comparing" in child.output or not child.running, what=child.output)
        for _ in range(5):
            await self.publish(f"http://127.0.0.1:{self.old_port}")
            await self.publish(f"{self.nexus.http}/api/v1/events", self.nexus.token)
        assert await child.ended() == 0, child.output
        return child.output


@pytest.fixture
def house(tmp_path: Path, redis_server: RedisServer) -> Iterator[House]:
    house = House(tmp_path, redis_server)
    yield house
    house.nexus.discard()
    house.old.discard()


def test_the_key_of_the_example_is_that_of_the_old_server() -> None:
    assert f'hash = "sha256:{sha256(KEY.encode()).hexdigest()}"' in (MOVING / "nexus.toml").read_text()


@pytest_twisted.ensureDeferred
async def test_clients_then_publishers_move_while_the_old_server_still_runs_and_then_it_goes(house: House) -> None:
    house.start_old()
    await until(lambda: answers(house.old_port), what=house.old.output)
    first, second = await house.client(house.old_url), await house.client(house.old_url)
    by_old, by_nexus = f"http://127.0.0.1:{house.old_port}", f"{house.nexus.http}/api/v1/events"
    await house.publish(by_old)
    await house.heard(first, second)

    await house.nexus.start()
    assert f"{TYPE}: 10 events, the same from both" in await house.compare()
    for number in range(1, 11):
        for agent in (first, second):
            assert (await agent.next("event"))["data"] == {"number": number}

    moved = await house.client(house.nexus.ws, KEY)
    await first.leave()
    await house.publish(by_old)
    await house.heard(second, moved)
    await house.publish(by_nexus, house.nexus.token)
    await house.heard(second, moved)

    also = await house.client(house.nexus.ws, KEY)
    await second.leave()
    await house.old.stop()
    await house.publish(by_nexus, house.nexus.token)
    await house.heard(moved, also)
    # What the old server published has its place in the history: a client that was away since then misses nothing.
    await moved.leave()
    returned = await connect(house.nexus.ws, KEY)
    returned.tell(type="subscribe", events=[TYPE], since={})
    subscribed: dict[str, Any] = await returned.next("subscribed")
    assert subscribed["positions"][TYPE].endswith(f":{len(house.published) - 1}"), "all but the one from before Nexus came"
