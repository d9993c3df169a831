"""README.md, done as it is written: a clone, `bin/serve`, and every block of `Five minutes`, with another port and token."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.e2e.chromium import Chromium
from tests.e2e.server import FOREIGN, ROOT, Child, free_port, until

INSTALL = 300  # s for pip to make the environment of a new clone
ONE_OFF = re.compile(r"^ +export NEXUS_TOKEN=([\w-]{43})$", re.MULTILINE)


class Reader:
    """A reader who follows README.md in a clone, in as many terminals as needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.token = ""
        text = (directory / "README.md").read_text()
        self.chapters = {chapter.partition("\n")[0]: chapter for chapter in text.split("\n## ")}
        self._children: list[Child] = []

    def blocks(self, chapter: str, language: str) -> list[str]:
        found = re.findall(rf"^```{language}\n(.*?)^```$", self.chapters[chapter], re.MULTILINE | re.DOTALL)
        return [self.adapted(block) for block in found]

    def adapted(self, text: str) -> str:
        return text.replace("localhost:3000", f"localhost:{self.port}").replace("NEXUS_TOKEN=…", f"NEXUS_TOKEN={self.token}")

    def terminal(self, name: str, commands: str) -> Child:
        """Start these commands in a terminal of its own."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        env |= {"PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        child = Child(name, self.directory.parent)
        child.spawn(["bash", "-ec", commands], env, self.directory)
        self._children.append(child)
        return child

    def leave(self) -> None:
        for child in reversed(self._children):
            child.discard()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout that could be cloned")
    directory = tmp_path_factory.mktemp("readme") / "nexus"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(directory)], check=True, timeout=60)
    reader = Reader(directory)
    yield reader
    reader.leave()


@pytest_twisted.async_yield_fixture(scope="module")
async def served(reader: Reader) -> Any:
    """With `bin/serve` in the first terminal."""
    serving = reader.terminal("serve", "bin/serve")
    await until(lambda: ONE_OFF.search(serving.output) or not serving.running, INSTALL, "for bin/serve")
    found = ONE_OFF.search(serving.output)
    assert found, serving.output
    reader.token = found[1]
    yield reader


def test_start_is_a_clone_and_one_command(reader: Reader) -> None:
    assert reader.blocks("Start", "sh") == ["git clone <this repository> nexus && cd nexus\nbin/serve\n"]


@pytest_twisted.ensureDeferred
async def test_five_minutes_go_as_they_are_described(served: Reader) -> None:
    chapter = served.chapters["Five minutes"]
    login, run_agent, run_watcher, publish, come_back, run_wamp = served.blocks("Five minutes", "sh")
    names = re.findall(r"Save as `(\w+\.py)`", chapter)
    assert names == ["agent.py", "watch.py", "wamp.py"]
    for name, text in zip(names, served.blocks("Five minutes", "python"), strict=True):
        (served.directory / name).write_text(text)

    agent = served.terminal("agent", login + run_agent)
    await until(lambda: "'registered'" in agent.output and "'telemetry_ack'" in agent.output, 120, agent.output)
    watcher = served.terminal("watcher", login + run_watcher)

    def heard() -> list[dict[str, Any]]:
        return [json.loads(line) for line in watcher.output.splitlines() if line.startswith('{"type"')]

    await until(lambda: {"command_result", "event"} <= {message["type"] for message in heard()}, what=watcher.output)
    result = next(message for message in heard() if message["type"] == "command_result")
    assert result["data"]["result"] == {"done": {"version": "1.2.3"}}
    assert "'command': 'deploy'" in agent.output
    # "the events around it (`task.updated`: sent, completed)"
    await until(lambda: _states(heard()) == ["sent", "completed"], what=watcher.output)

    publisher = served.terminal("publisher", login + publish)
    assert await publisher.ended() == 0, publisher.output
    promised = re.search(r"The watcher prints `(.*)`", chapter)
    assert promised is not None
    line = re.compile(re.escape(promised[1]).replace("…", r"[^\"]+"))
    await until(lambda: any(map(line.fullmatch, watcher.output.splitlines())), what=f"for {promised[1]}:\n{watcher.output}")

    watcher.discard()
    watcher = served.terminal("watcher-again", login + come_back)
    await until(lambda: {"event"} <= {message["type"] for message in heard()}, what=watcher.output)
    subscribed = next(message for message in heard() if message["type"] == "subscribed")
    assert subscribed["recovered"]["task.updated"]
    first = next(message for message in heard() if message["type"] == "event")
    assert first["data"] == {"taskId": "task-790", "status": "completed"}

    caller = served.terminal("wamp", login + run_wamp)
    await until(lambda: "{'version': '1.2.4'}" in caller.output, what=caller.output)


def _states(heard: list[dict[str, Any]]) -> list[str]:
    return [message["data"]["status"] for message in heard if message.get("eventType") == "task.updated"]


@pytest_twisted.ensureDeferred
async def test_the_browsers_lines_work_on_a_page_of_the_same_host(served: Reader) -> None:
    (lines,) = served.blocks("Five minutes", "js")
    login = served.blocks("Five minutes", "sh")[0]
    browser = Chromium(served.directory.parent)
    browser.launch()
    try:
        tab = await browser.tab()
        await tab.show(f"http://localhost:{served.port}/health/live")
        await tab.evaluate("globalThis.logged = []; console.log = (message) => logged.push(message)")
        await tab.evaluate(f"globalThis.token = {json.dumps(served.token)}; {lines}; undefined")
        await tab.evaluate(_logged("subscribed"))
        event = {"eventType": "task.done", "data": {"agentId": "agent-001"}}
        for agent_id in ("agent-002", "agent-001"):
            body = json.dumps({"eventType": "task.done", "data": {"agentId": agent_id}})
            publisher = served.terminal(
                f"publisher-of-{agent_id}",
                f"{login} curl --fail -X POST localhost:{served.port}/api/v1/events"
                f" -H \"Authorization: Bearer $NEXUS_TOKEN\" -d '{body}'",
            )
            assert await publisher.ended() == 0, publisher.output
        logged = await tab.evaluate(_logged("event"))
        assert logged.pop("position")
        assert logged == {"type": "event", **event}
    finally:
        browser.discard()


def _logged(type_: str) -> str:
    """The first message of that type that the page has logged."""
    find = f"logged.find((message) => message.type === {json.dumps(type_)})"
    look = f"const look = () => {{ const found = {find}; if (found) resolve(found); else setTimeout(look, 20); }}; look();"
    return f"new Promise((resolve) => {{ {look} }})"
