"""The programs in examples/, run as their headers say, against a real server. examples/moving has tests of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import pytest
import pytest_twisted
import treq
from nexus_client.twisted import Nexus
from twisted.web.http_headers import Headers

from tests.e2e.chromium import Chromium, Tab
from tests.e2e.clients import Clients, Orders, listen
from tests.e2e.server import FOREIGN, ROOT, TWISTD, Child, NexusServer, answers, free_port, until

EXAMPLES = ROOT / "examples"


class Shell:
    """Starts programs as a reader would, and ends them after the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._children: list[Child] = []

    def start(self, *command: str, **environ: str) -> Child:
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        child = Child(f"{len(self._children)}-{Path(command[-1]).name[:20]}", self.directory)
        self._children.append(child)
        child.spawn(list(command), env | {"PYTHONUNBUFFERED": "1"} | environ, self.directory)
        return child

    def leave(self) -> None:
        for child in reversed(self._children):
            child.discard()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.leave()


@pytest_twisted.async_yield_fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = NexusServer(tmp_path_factory.mktemp("examples"))
    await server.start()
    yield server
    server.discard()


# --- backend


class Careless(BaseHTTPRequestHandler):
    """A proxy that passes the first request on and loses the answer; later ones it passes both ways."""

    target = ""
    keys: list[str]

    def do_POST(self) -> None:
        self.keys.append(self.headers["Idempotency-Key"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in ("Authorization", "Idempotency-Key", "Content-Type")}
        with urlopen(Request(self.target + self.path, body, headers), timeout=10) as answer:
            answered = answer.read()
        if len(self.keys) > 1:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answered)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest_twisted.ensureDeferred
async def test_the_backend_publishes_once_although_the_first_answer_is_lost(
    shell: Shell, server: NexusServer, clients: Clients
) -> None:
    orders = await listen(await clients.connect(server), "order.*")
    handler = type("Handler", (Careless,), {"target": server.http, "keys": []})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        script = str(EXAMPLES / "backend" / "publish.py")
        command = [sys.executable, script, f"http://127.0.0.1:{proxy.server_port}", "order.placed", '{"number": 1}']
        backend = shell.start(*command, NEXUS_TOKEN=server.token)
        assert await backend.ended() == 0, backend.output
        first, second = handler.keys  # type: ignore[attr-defined]  # made above
        assert first == second
    finally:
        proxy.shutdown()
        proxy.server_close()
    assert (await treq.post(
        f"{server.http}/api/v1/events",
        json={"eventType": "order.closed", "data": None},
        headers=Headers({"Authorization": [f"Bearer {server.token}"]}),
        persistent=False,
    )).code == 200
    placed = await orders.next()
    assert (placed.data, f"{placed.position}\n") == ({"number": 1}, backend.output)
    assert (await orders.next()).type == "order.closed", "no second order.placed"


@pytest_twisted.ensureDeferred
async def test_the_backend_says_what_the_server_refuses(shell: Shell, server: NexusServer) -> None:
    script = str(EXAMPLES / "backend" / "publish.py")
    for token, event_type, reason in (
        ("wrong", "order.placed", "unauthorized: "),
        (server.token, "order..placed", "invalid_message: "),
    ):
        backend = shell.start(sys.executable, script, server.http, event_type, "1", NEXUS_TOKEN=token)
        assert await backend.ended() == 1
        assert backend.output.startswith(f"publish.py: {reason}"), backend.output


# --- wamp


@pytest_twisted.ensureDeferred
async def test_the_wamp_client_calls_an_agent_that_speaks_json_and_is_called_by_it(
    shell: Shell, server: NexusServer, clients: Clients
) -> None:
    orders = Orders()
    agent = await clients.connect(server, agent="agent-001", commands={"deploy": orders.handle})
    script = str(EXAMPLES / "wamp" / "watch.py")
    url = f"{server.ws.removesuffix('/api/v1/events')}/ws"
    watch = shell.start(
        sys.executable, script, url, "agent-001", "deploy", '{"version": "1.2.3"}', NEXUS_TOKEN=server.token
    )
    order = await orders.next(30)
    assert order.parameters == {"version": "1.2.3"}
    order.progress({"percent": 50})
    order.result.callback({"version": "1.2.3"})
    await until(lambda: "result {'version': '1.2.3'}" in watch.output, what=watch.output)
    assert "progress {'percent': 50}" in watch.output
    assert (await agent.call("watch.who"))["session"] > 0
    await agent.publish("task.updated", {"taskId": "task-1", "status": "completed"})
    await until(lambda: "task-1 is completed" in watch.output, what=watch.output)


# --- a Twisted application


@pytest_twisted.ensureDeferred
async def test_the_application_serves_commands_and_its_own_page(shell: Shell, clients: Clients) -> None:
    nexus, web = free_port(), free_port()
    tac = shell.directory / "shop.tac"
    for path in (EXAMPLES / "twisted_app").glob("*"):
        if path.suffix in (".tac", ".py"):
            (shell.directory / path.name).write_bytes(path.read_bytes())
    (header,) = re.findall(r"twistd (-n --pidfile= -y shop\.tac)$", tac.read_text(), re.MULTILINE)
    shop = shell.start(
        *TWISTD[:3],
        *header.split(),
        NEXUS_TOKEN="the-token-of-the-shop",
        SHOP_NEXUS=f"tcp:{nexus}:interface=127.0.0.1",
        SHOP_WEB=f"tcp:{web}:interface=127.0.0.1",
        PYTHONPATH=str(ROOT),
    )
    await until(lambda: (answers(nexus) and answers(web)) or not shop.running, 30, shop.output)
    client, watcher = [await clients.connect(f"http://127.0.0.1:{nexus}", "the-token-of-the-shop") for _ in range(2)]
    orders = await listen(watcher, "order.*")
    order = {"number": 1, "item": "tea", "by": "admin"}
    assert await client.call("order.place", {"item": "tea"}) == order
    assert (await orders.next()).data == order
    page = await treq.get(f"http://127.0.0.1:{web}/", persistent=False)
    assert await treq.text_content(page) == "1 orders\n"
    assert await shop.stop() in (0, -15)


@pytest_twisted.ensureDeferred
async def test_the_applications_own_tests_pass(shell: Shell) -> None:
    tested = shell.start(sys.executable, "-m", "pytest", "-q", str(EXAMPLES / "twisted_app"))
    assert await tested.ended(60) == 0, tested.output
    assert "3 passed" in tested.output


@pytest_twisted.ensureDeferred
async def test_an_application_whose_nexus_cannot_start_ends_and_says_why(shell: Shell) -> None:
    for path in (EXAMPLES / "twisted_app").glob("*"):
        if path.suffix in (".tac", ".py"):
            (shell.directory / path.name).write_bytes(path.read_bytes())
    (shell.directory / "shop.db").write_bytes(b"no database at all, " * 50)
    shop = shell.start(
        *TWISTD[:3],
        *["-n", "--pidfile=", "-y", "shop.tac"],
        NEXUS_TOKEN="the-token-of-the-shop",
        SHOP_NEXUS=f"tcp:{free_port()}:interface=127.0.0.1",
        SHOP_WEB=f"tcp:{free_port()}:interface=127.0.0.1",
        PYTHONPATH=str(ROOT),
    )
    await shop.ended()
    assert "Nexus cannot start: " in shop.output


# --- an agent under systemd


class Unit:
    """The example's unit, with the folders of its installation in a folder of the test."""

    def __init__(self, directory: Path) -> None:
        self.opt = directory / "opt"
        (self.opt / "bin").mkdir(parents=True)
        python = self.opt / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        shutil.copy(EXAMPLES / "systemd" / "agent.py", self.opt)
        self.file = directory / "nexus-agent.service"
        self.file.write_text((EXAMPLES / "systemd" / self.file.name).read_text().replace("/opt/nexus-agent", str(self.opt)))

    def settings(self, name: str) -> list[str]:
        return re.findall(rf"^{name}=(.*)$", self.file.read_text(), re.MULTILINE)


def test_systemd_finds_nothing_wrong_with_the_unit_of_the_agent(tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(Unit(tmp_path).file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest_twisted.ensureDeferred
async def test_the_agent_of_the_unit_reports_executes_and_outlives_a_kill_of_the_server(
    shell: Shell, clients: Clients
) -> None:
    server = NexusServer(shell.directory)
    await server.start()
    unit = Unit(shell.directory)
    credentials, state = shell.directory / "credentials", shell.directory / "state"
    credentials.mkdir()
    state.mkdir()
    (name,) = [each.partition(":")[0] for each in unit.settings("LoadCredential")]
    (credentials / name).write_text(f"{server.token}\n")
    environ = dict(each.split("=", 1) for each in unit.settings("Environment"))
    assert environ.keys() == {"NEXUS_URL"}
    (command,) = unit.settings("ExecStart")
    try:
        agent = shell.start(
            *command.split(),
            NEXUS_URL=server.http,
            CREDENTIALS_DIRECTORY=str(credentials),
            STATE_DIRECTORY=str(state),
            AGENT_ID="machine-7",
            INTERVAL="0.1",
        )
        await reports(await clients.connect(server), agent)
        await server.kill()
        await server.start()
        await reports(await clients.connect(server), agent)
        assert (state / "spool.db").exists()
        assert await agent.stop() == 0, agent.output
        assert server.token not in agent.output
    finally:
        server.discard()


async def reports(watcher: Nexus, agent: Child) -> None:
    """Its samples arrive, and it executes its command."""
    sample = (await (await listen(watcher, "telemetry.received")).next(30)).data
    assert sample["agentId"] == "machine-7", agent.output
    assert sample["metrics"]["load"].keys() == {"1m", "5m", "15m"}
    assert (await watcher.call("uptime", target="machine-7"))["agent"] > 0


# --- a page


@pytest_twisted.ensureDeferred
async def test_the_page_shows_agents_and_sends_commands_and_returns_after_a_restart(shell: Shell, clients: Clients) -> None:
    port = free_port()
    server = NexusServer(shell.directory, env={"NEXUS_HTTP__ORIGINS": f"http://localhost:{port}"})
    browser = Chromium(shell.directory)
    browser.launch()
    await server.start()
    text = (EXAMPLES / "browser" / "index.html").read_text()
    (command,) = re.findall(r"^ +python3 (-m http\.server 8000 .*)$", text, re.MULTILINE)
    arguments = command.replace("8000", str(port)).replace("examples/", f"{EXAMPLES}/").split()
    pages = shell.start(sys.executable, *arguments)
    try:
        await until(lambda: answers(port) or not pages.running, what=pages.output)
        tab = await browser.tab()
        await tab.show(f"http://localhost:{port}/")
        await tab.evaluate(filled("login", url=server.http, token=server.token))
        await tab.evaluate(seen("state.textContent === 'connected'"))
        orders = Orders()
        agent = await clients.connect(server, agent="agent-001", commands={"deploy": orders.handle})
        await the_page_shows(agent, tab)
        await tab.evaluate(filled("order", **ORDER))
        await is_carried_out(orders, tab)

        await server.kill()
        await tab.evaluate(seen("state.textContent.startsWith('waiting, again in ')"))
        await tab.evaluate(filled("order", **ORDER))
        await server.start()
        await tab.evaluate(seen("state.textContent === 'connected'"))
        # The memory bus has lost its history with the process, and the page says so in its place.
        await tab.evaluate(seen("document.querySelector('#events .gap') !== null"))
        # What was ordered while the server was away reaches the agent, once both have returned.
        await is_carried_out(orders, tab)
        await the_page_shows(agent, tab)
        assert server.token not in await tab.evaluate("document.body.textContent")
    finally:
        browser.discard()
        server.discard()


ORDER = {"agent": "agent-001", "command": "deploy", "parameters": '{"version": "1.2.3"}'}


async def the_page_shows(agent: Nexus, tab: Tab) -> None:
    """Report another sample, which the page shows beside the agent's state."""
    load = agent.stats.stored + 0.5
    await agent.telemetry(load=load)
    await tab.evaluate(seen(f"""agents.rows[0]?.textContent === 'agent-001online{{"load":{load}}}'"""))


async def is_carried_out(orders: Orders, tab: Tab) -> None:
    """Carry out the page's order, which shows how far it is."""
    order = await orders.next(30)
    order.progress({"percent": 50})
    await tab.evaluate(seen("""order.elements.answer.value === '… {"percent":50}'"""))
    order.result.callback({"done": order.parameters})
    await tab.evaluate(seen("""order.elements.answer.value === '{"done":{"version":"1.2.3"}}'"""))


def filled(form: str, **values: str) -> str:
    """Fill in a form of the page and send it."""
    fill = "".join(f"{form}.elements.{name}.value = {json.dumps(value)};" for name, value in values.items())
    return f"{fill} {form}.requestSubmit()"


def seen(condition: str) -> str:
    """A promise that is kept once the condition holds on the page."""
    look = f"const look = () => {{ if ({condition}) resolve(); else setTimeout(look, 20); }}; look();"
    return f"new Promise((resolve) => {{ {look} }})"
