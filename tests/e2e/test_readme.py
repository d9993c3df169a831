"""README.md, done as it is written: a clone, `bin/serve`, and every block of `Five minutes`, with other ports and token."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from tests.e2e.agent import connect
from tests.e2e.chromium import Chromium
from tests.e2e.server import FOREIGN, ROOT, Child, answers, clock, free_port, until

INSTALL = 300  # s for pip to make the environment of a new clone
PATIENCE = 60  # s; on a busy machine programs take long to start
ONE_OFF = re.compile(r"^ +export NEXUS_TOKEN=([\w-]{43})$", re.MULTILINE)
NEXT = re.compile(r"^ +(\.venv/bin/nexus .*)$", re.MULTILINE)


class Reader:
    """A reader who follows README.md in a clone, in as many terminals as needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.pages = free_port(), free_port()
        self.token = ""
        text = (directory / "README.md").read_text()
        self.chapters = {chapter.partition("\n")[0]: chapter for chapter in text.split("\n## ")}
        self._children: list[Child] = []

    def blocks(self, chapter: str, language: str) -> list[str]:
        found = re.findall(rf"^```{language}\n(.*?)^```$", self.chapters[chapter], re.MULTILINE | re.DOTALL)
        return [self.adapted(block) for block in found]

    def adapted(self, text: str) -> str:
        text = text.replace("localhost:3000", f"localhost:{self.port}").replace("NEXUS_TOKEN=…", f"NEXUS_TOKEN={self.token}")
        return text.replace("localhost:8000", f"localhost:{self.pages}").replace("server 8000", f"server {self.pages}")

    def terminal(self, name: str, commands: str) -> Child:
        """Start these commands in a terminal of its own."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        env |= {"PORT": str(self.port), "NEXUS_URL": f"http://localhost:{self.port}", "PYTHONUNBUFFERED": "1"}
        child = Child(name, self.directory.parent)
        child.spawn(["bash", "-ec", commands], env, self.directory)
        self._children.append(child)
        return child

    async def interrupt(self, child: Child) -> None:
        """Press Ctrl-C in its terminal, and wait for its end."""
        os.killpg(child.pid, signal.SIGINT)
        await child.ended()

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


@pytest.fixture(scope="module")
def serving(reader: Reader) -> Child:
    """`bin/serve` in the first terminal, which may still be installing."""
    return reader.terminal("serve", "bin/serve")


def test_start_is_a_clone_and_one_command(reader: Reader) -> None:
    assert reader.blocks("Start", "sh") == ["git clone <this repository> nexus && cd nexus\nbin/serve\n"]


@pytest_twisted.ensureDeferred
async def test_five_minutes_go_as_they_are_described(reader: Reader, serving: Child) -> None:
    await until(lambda: ONE_OFF.search(serving.output) or not serving.running, INSTALL, "for bin/serve")
    printed = ONE_OFF.search(serving.output)
    assert printed, serving.output
    reader.token = printed[1]
    blocks = reader.blocks("Five minutes", "sh")
    login, demo, subscribe, run_agent, command, restart, watch, post, publish, serve_page, run_wamp = blocks
    advice = NEXT.search(serving.output)
    assert advice, serving.output
    assert f"{advice[1]}\n" == demo, "what is printed is what the README continues with"
    names = re.findall(r"Save as `(\w+\.py)`", reader.chapters["Five minutes"])
    assert names == ["agent.py", "wamp.py"]
    for name, text in zip(names, reader.blocks("Five minutes", "python"), strict=True):
        (reader.directory / name).write_text(text)

    # A fleet, and what is seen of it.
    fleet = reader.terminal("demo", login + demo)
    watcher = reader.terminal("watcher", login + subscribe)
    await until(lambda: "telemetry.received" in watcher.output, PATIENCE, f"{watcher.output}\n{fleet.output}")

    # An agent of one's own, and a command for it.
    agent = reader.terminal("agent", login + run_agent)
    await until(lambda: numbers("stored", agent.output)[-1:] >= [2], PATIENCE, agent.output)
    commanded = reader.terminal("command", login + command)
    assert await commanded.ended(PATIENCE) == 0, commanded.output
    assert "1.2.3" in commanded.output
    assert "50" in commanded.output, "its progress"
    await until(lambda: re.search(r"task\.updated.*completed.*agent-100", watcher.output), what=watcher.output)

    # Nothing is lost.
    await reader.interrupt(serving)
    measured = len(numbers("measured", agent.output))
    await until(lambda: len(numbers("measured", agent.output)) >= measured + 3, PATIENCE, agent.output)
    assert len(numbers("stored", agent.output)) <= measured, "nobody stores meanwhile"
    again = reader.terminal("serve-again", restart)
    await until(lambda: len(numbers("stored", agent.output)) >= measured + 4, PATIENCE, f"{agent.output}\n{again.output}")
    stored = numbers("stored", agent.output)
    assert stored == list(range(1, len(stored) + 1))
    assert reader.token not in again.output, "the token is the same, and is not printed again"
    assert NEXT.search(again.output), again.output
    await until(lambda: "may be missing" in watcher.output, PATIENCE, watcher.output)

    # Nothing is missed.
    watching = reader.terminal("watching", login + watch)
    end = clock.seconds() + PATIENCE
    while "task-789" not in watching.output:  # what is published before it has subscribed is none of its events
        assert clock.seconds() < end, watching.output
        publisher = reader.terminal("poster", login + post)
        assert await publisher.ended() == 0, publisher.output
    await reader.interrupt(watching)
    publisher = reader.terminal("publisher", login + publish)
    assert await publisher.ended(PATIENCE) == 0, publisher.output
    returned = reader.terminal("returned", login + watch)
    await until(lambda: "task-790" in returned.output, PATIENCE, returned.output)
    assert "may be missing" not in returned.output

    await the_page_shows_the_fleet(reader, serve_page)
    await plain_json_is_answered(reader)

    caller = reader.terminal("wamp", login + run_wamp)
    await until(lambda: "'version': '1.2.5'" in caller.output, PATIENCE, caller.output)


def numbers(word: str, output: str) -> list[int]:
    return [int(number) for number in re.findall(rf"^{word} (\d+)$", output, re.MULTILINE)]


async def the_page_shows_the_fleet(reader: Reader, serve_page: str) -> None:
    pages = reader.terminal("pages", serve_page)
    await until(lambda: answers(reader.pages) or not pages.running, PATIENCE, pages.output)
    browser = Chromium(reader.directory.parent)
    browser.launch()
    try:
        tab = await browser.tab()
        await tab.show(f"http://localhost:{reader.pages}/")
        filled = {"url": f"http://localhost:{reader.port}", "token": reader.token}
        fill = "".join(f"login.elements.{name}.value = {json.dumps(value)};" for name, value in filled.items())
        await tab.evaluate(f"{fill} login.requestSubmit()")
        await tab.evaluate(seen("document.getElementById('agents').textContent.includes('agent-100')"))
        assert await tab.evaluate("state.textContent") == "connected"
        order = {"agent": "agent-100", "command": "deploy", "parameters": '{"version": "9.9.9"}'}
        fill = "".join(f"order.elements.{name}.value = {json.dumps(value)};" for name, value in order.items())
        await tab.evaluate(f"{fill} order.requestSubmit()")
        await tab.evaluate(seen("""order.elements.answer.value === '{"version":"9.9.9"}'"""))
    finally:
        browser.discard()


def seen(condition: str) -> str:
    """A promise that is kept once the condition holds on the page."""
    look = f"const look = () => {{ if ({condition}) resolve(); else setTimeout(look, 20); }}; look();"
    return f"new Promise((resolve) => {{ {look} }})"


async def plain_json_is_answered(reader: Reader) -> None:
    """The conversation in the text: what is sent is sent, and what is received has at least the members that are shown."""
    (conversation,) = reader.blocks("Five minutes", "text")
    client = None
    for line in conversation.splitlines():
        direction, shown = line[0], json.loads(line[2:])
        if client is None:
            assert (direction, shown["type"]) == ("<", "connected")
            client = await connect(f"ws://localhost:{reader.port}/api/v1/events", reader.token)
        elif direction == ">":
            client.tell(**shown)
        else:
            came = await client.next(shown["type"])
            assert {name: came.get(name) for name in shown} == shown
    assert client is not None
    await client.leave()
