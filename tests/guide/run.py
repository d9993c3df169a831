"""Runs the programs of a guide to this protocol, unmodified, against Nexus: `python -m tests.guide.run GUIDE.md`.

The guide is a Markdown document with two clients (`client.js` for Node, `client-browser.js`) and a server (`server.js`).
Writes a line for each check; the exit status tells whether all of them passed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from shutil import copy
from typing import Any

import treq
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from twisted.web.http_headers import Headers

from tests.certificates import authority, issue
from tests.e2e.agent import Agent, connect
from tests.e2e.chromium import Chromium, Pages, Tab
from tests.e2e.server import Child, NexusServer, clock, free_port, until
from tests.guide import document
from tests.redis_server import RedisServer

HERE = Path(__file__).parent
IDLE = 150  # s without a word from the client
PROGRAMS = {"client.js", "client-browser.js", "server.js"}
TYPE = "task.updated"
LAST = {"last": True}


class Report:
    """Checks, each a sentence with its result."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0

    async def check(self, sentence: str, act: Callable[[], Awaitable[None]]) -> None:
        began = time.monotonic()
        try:
            await act()
        except Exception as error:  # the next check is still worth making
            self.failed += 1
            print(f"FAILED {sentence}: {type(error).__name__}: {error}", flush=True)
        else:
            self.passed += 1
            print(f"passed {sentence} ({time.monotonic() - began:.1f} s)", flush=True)


class Bench:
    """The extracted programs in `directory`, and the started processes; `stack` stops them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.stack = stack
        (directory / "authority.pem").write_bytes(authority().certificate_pem())
        copy(HERE / "page.html", directory)
        self.pages = Pages(directory)
        stack.callback(self.pages.stop)

    def server(self, name: str, *args: str, **options: Any) -> NexusServer:
        (self.directory / name).mkdir()
        server = NexusServer(self.directory / name, *args, name=name, **options)
        self.stack.callback(server.discard)
        return server

    def node(self, name: str, script: Path, *arguments: str, **env: str) -> Child:
        child = Child(name, self.directory)
        trust = {"NODE_EXTRA_CA_CERTS": str(self.directory / "authority.pem")}
        child.spawn(["node", str(script), *arguments], {**os.environ, **trust, **env}, self.directory)
        self.stack.callback(child.discard)
        return child

    def driver(self, name: str, url: str, token: str) -> Child:
        return self.node(name, HERE / "driver.cjs", str(self.directory / "client.js"), url, token)


async def says(child: Child, *words: str, times: int = 1, seconds: float = 30) -> None:
    for word in words:
        await until(lambda word=word: child.output.count(word) >= times, seconds, f"for {word!r}:\n{child.output}")


async def publish(server: NexusServer, data: Any, event_type: str = TYPE) -> None:
    agent = await connect(server.ws, server.token)
    agent.tell(type="publish", eventType=event_type, data=data)
    await agent.next("published")
    await agent.leave()


async def executor(server: NexusServer) -> Agent:
    """An agent that has registered the command of the guide's client."""
    agent = await connect(server.ws, server.token)
    agent.tell(type="register", commands=["deploy"])
    await agent.next("registered")
    return agent


async def execute(agent: Agent) -> None:
    command = await agent.next("command")
    assert command["parameters"] == {"version": "1.2.3", "target": "production"}
    agent.tell(type="command_result", commandId=command["commandId"], data="done")


# --- the client on Node


async def node_client(server: NexusServer, child: Child, agent: Agent) -> None:
    await says(child, "Connection established:", "Subscribed to events: [ 'task.updated', 'agent.status' ]")
    await says(child, "Telemetry acknowledged")
    await execute(agent)
    await says(child, "Command result:", "'executed'", "Unsubscribed from events: [ 'build.done' ]")
    await publish(server, 1, "build.done")
    await publish(server, {"taskId": "task-789"})
    await says(child, '{"heard":{"taskId":"task-789"}}')
    # Its own telemetry has made its agent appear, and its command was sent and completed.
    heard = [json.loads(line)["heard"] for line in child.output.splitlines() if line.startswith('{"heard"')]
    statuses = [data["status"] for data in heard if "status" in data]
    assert {"sent", "completed"} <= set(statuses), child.output
    assert "unwanted" not in child.output
    assert "Server error" not in child.output, child.output
    assert "Unknown message type" not in child.output, child.output


async def node_client_by(bench: Bench, server: NexusServer, scheme: str, url: str) -> None:
    agent = await executor(server)
    child = bench.driver(scheme, url, server.token)
    await node_client(server, child, agent)
    await agent.leave()
    child.discard()


async def node_client_comes_back(bench: Bench, server: NexusServer) -> None:
    child = bench.driver("returning", server.ws, server.token)
    await says(child, "Connection established:")
    await server.stop()
    await says(child, "WebSocket closed: 1000 - Server shutting down")
    await server.start()
    await says(child, "Connection established:", times=2)
    child.discard()


async def node_client_without_a_token(bench: Bench, server: NexusServer) -> None:
    child = bench.driver("stranger", server.ws, "wrong")
    await says(child, "WebSocket closed: 1008 - Unauthorized")
    child.discard()


async def node_client_as_main(bench: Bench, port: int, token: str) -> None:
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    server = bench.server("main", *listen, token=token, listen=False)
    server.ws = f"ws://127.0.0.1:{port}/api/v1/events"
    server.launch()
    await says(server, "listens on")
    agent = await executor(server)
    child = bench.node("main-client", bench.directory / "client.js")
    await says(child, "Connection established:", "Subscribed to events:")
    await execute(agent)
    await says(child, "Command result:", "Telemetry acknowledged")
    await publish(server, "a task was updated")
    await says(child, "Event received: a task was updated")
    assert "Server error" not in child.output, child.output
    child.discard()
    server.discard()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# --- clients that say nothing


class Idlers:
    """Both clients on a server of their own, connected and then silent except for automatic answers."""

    def __init__(self, bench: Bench) -> None:
        self.server = bench.server("idle", env={"NEXUS_HTTP__ORIGINS": bench.pages.origin})
        self._bench = bench
        self._browser = Chromium(bench.directory)
        self._began = 0.0
        self.tab: Tab
        self.child: Child

    async def begin(self) -> None:
        self._bench.stack.callback(self._browser.discard)
        self._browser.launch()
        await self.server.start()
        self.child = self._bench.driver("idler", self.server.ws, self.server.token)
        await says(self.child, "Telemetry acknowledged")
        self.tab = await self._browser.tab()
        await self.tab.show(f"{self._bench.pages.origin}/page.html")
        await self.tab.evaluate(f"begin({json.dumps(self.server.ws)}, {json.dumps(self.server.token)})")
        self._began = clock.seconds()

    async def browser_hears(self) -> None:
        await publish(self.server, "early")
        assert await self.tab.evaluate("hears(1)") == ["early"]

    async def browser_after_idling(self) -> None:
        await until(lambda: clock.seconds() > self._began + IDLE, IDLE + 10)
        await publish(self.server, "late")
        assert await self.tab.evaluate("hears(2)") == ["early", "late"]
        assert await self.tab.evaluate("state.closed") is None

    async def node_after_idling(self) -> None:
        await says(self.child, '{"heard":"late"}')
        assert self.child.output.count("Connection established:") == 1, self.child.output
        assert "WebSocket closed" not in self.child.output


# --- the server beside two nodes


class Fleet:
    """The guide's server and two nodes of Nexus on one Redis.

    Subscribers stay until the end: the guide's server does not survive that one leaves it.
    """

    def __init__(self, bench: Bench) -> None:
        self.redis = RedisServer()
        bench.stack.callback(self.redis.close)
        self.nodes = [bench.server(name, "--bus", self.redis.url) for name in ("one", "two")]
        self._bench = bench
        self._port = free_port()
        self.guide = f"ws://127.0.0.1:{self._port}/api/v1/events"

    async def begin(self) -> None:
        self.redis.start()
        env = {"PORT": str(self._port), "REDIS_URL": self.redis.url}
        theirs = self._bench.node("guide-server", self._bench.directory / "server.js", **env)
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            await node.ready()
            await says(node, "The bus is connected")
        await says(theirs, "Server listening", "Connected to Redis")

    async def agent(self, place: int) -> Agent:
        """Connect an agent to one of the nodes, or (2) to the guide's server."""
        if place == 2:
            return await connect(self.guide, "any")
        return await connect(self.nodes[place].ws, self.nodes[place].token)

    async def subscriber(self, place: int, *subscriptions: dict[str, Any]) -> Agent:
        agent = await self.agent(place)
        for members in subscriptions:
            agent.tell(type="subscribe", **members)
            await agent.next("subscribed")
        return agent

    async def stands(self, event_type: str) -> None:
        """Wait until all three subscriptions are active in Redis: the guide's server reports `subscribed` too early."""
        channel = f"nexus:events:{event_type}"
        await until(lambda: self.redis.ask("PUBSUB", "NUMSUB", channel)[1] == 3, what=f"for {channel}")

    def publish(self, data: Any) -> None:
        self.redis.ask("PUBLISH", f"nexus:events:{TYPE}", json.dumps(data))

    async def matrix(self) -> None:
        one, last = {"round": 1}, LAST
        ways: dict[str, list[dict[str, Any]]] = {
            "by type": [{"events": [TYPE]}],
            "filtered": [{"events": [TYPE], "filters": one}, {"events": [TYPE], "filters": last}],
            "by pattern": [{"events": ["task.*"]}],
            "by pattern, filtered": [{"events": ["**"], "filters": one}, {"events": ["**"], "filters": last}],
        }
        # The guide's server knows no patterns.
        places = [(way, place) for way in ways for place in (0, 1, 2) if place < 2 or "pattern" not in way]
        agents = {(way, place): await self.subscriber(place, *ways[way]) for way, place in places}
        await self.stands(TYPE)
        published = []
        for number in range(3):
            for by in ("one", "two", "http", "redis"):
                published.append({"by": by, "round": number})
                await self._publish_by(by, published[-1])
        for _ in range(2):
            self.publish(LAST)
        first = [data for data in published if data["round"] == 1]
        for (way, place), agent in agents.items():
            heard: list[Any] = []
            while heard.count(LAST) < 2:
                heard.append((await agent.next("event"))["data"])
            wanted = first if "filtered" in way else published
            assert heard == [*wanted, LAST, LAST], f"{way} at {place}: {heard}"

    async def _publish_by(self, by: str, data: Any) -> None:
        if by == "redis":
            self.publish(data)
        elif by == "http":
            node = self.nodes[0]
            body = json.dumps({"eventType": TYPE, "data": data}).encode()
            url = f"{node.http}/api/v1/events"
            headers = Headers({"Authorization": [f"Bearer {node.token}"]})
            answer = await treq.post(url, body, headers=headers, persistent=False)
            assert answer.code == 200, await treq.text_content(answer)
        else:
            await publish(self.nodes[by == "two"], data)

    async def telemetry(self) -> None:
        event_type = "telemetry.received"
        watchers = [await self.subscriber(place, {"events": [event_type]}) for place in (0, 1, 2)]
        await self.stands(event_type)
        for place in (0, 1, 2):
            agent = await self.agent(place)
            for number in (1, 2):
                agent.tell(type="telemetry", agentId=f"agent-{place}", metrics={"number": number})
                await agent.next("telemetry_ack")
            await agent.leave()
            # The second of a place shows that the first came once.
            for watcher in watchers:
                heard = [(await watcher.next("event"))["data"] for _ in range(2)]
                assert [data["agentId"] for data in heard] == [f"agent-{place}"] * 2, heard
                assert [data["metrics"]["number"] for data in heard] == [1, 2], heard


async def run(guide: Path, directory: Path, stack: ExitStack) -> Report:
    report = Report()
    found = document.extract(guide, directory)
    assert found == PROGRAMS, f"{guide} has {sorted(found)}"
    document.install(guide, directory)
    bench = Bench(directory, stack)
    certificate, key = issue().write(directory, "server")
    port = free_port()
    server = bench.server(
        "nexus",
        *("--listen", f"tls:{port}:interface=127.0.0.1"),
        env={"NEXUS_TLS__CERTIFICATE": certificate, "NEXUS_TLS__KEY": key},
    )
    idlers = Idlers(bench)
    fleet = Fleet(bench)
    check = report.check
    wss = f"wss://localhost:{port}/api/v1/events"

    await check("both clients connect and fall silent", idlers.begin)
    await check("the browser's client hears an event", idlers.browser_hears)
    await check("the server with ws and wss starts", server.start)
    await check("the client on Node works by ws", lambda: node_client_by(bench, server, "ws", server.ws))
    await check("the client on Node works by wss", lambda: node_client_by(bench, server, "wss", wss))
    await check("the client on Node stays away without a token", lambda: node_client_without_a_token(bench, server))
    await check("the client on Node comes back after a restart", lambda: node_client_comes_back(bench, server))
    fixed, token = document.address(directory / "client.js")
    if is_free(fixed):
        await check(f"client.js runs as it is, on port {fixed}", lambda: node_client_as_main(bench, fixed, token))
    else:
        print(f"left out: client.js as it is, because port {fixed} is taken", flush=True)
    await check("the guide's server and two nodes start on one Redis", fleet.begin)
    await check("each event is heard exactly once, wherever it is published and subscribed", fleet.matrix)
    await check("telemetry sent to any of the three is heard once on all of them", fleet.telemetry)
    await check(f"the browser's client hears an event after {IDLE} s of silence", idlers.browser_after_idling)
    await check("the client on Node was connected all that time, too", idlers.node_after_idling)
    return report


async def main(guide: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="nexus-guide-") as name, ExitStack() as stack:
        report = await run(guide, Path(name), stack)
    print(f"{report.passed} passed, {report.failed} failed", flush=True)
    if report.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.guide.run GUIDE.md")
    react(lambda _reactor: ensureDeferred(main(Path(sys.argv[1]))))
