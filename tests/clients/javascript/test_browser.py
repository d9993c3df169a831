"""The JavaScript client in headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from tests.clients.faults.wire import Wire
from tests.clients.javascript.world import CLIENT, HERE
from tests.e2e.agent import connect
from tests.e2e.chromium import Chromium, Pages, Tab
from tests.e2e.server import NexusServer, clock, until

HEARTBEAT = "1"  # s
PATIENCE = 20  # s


@dataclass
class Browser:
    """A browser, a server, and pages with a client."""

    server: NexusServer
    pages: Pages
    chromium: Chromium
    wire: Wire
    tabs: list[Tab] = field(default_factory=list)

    async def open(self, agent: str, spool: str = "", url: str = "") -> Tab:
        """Open a page in a tab of its own; return once it has subscribed."""
        tab = await (self.chromium.another() if self.tabs else self.chromium.tab())
        self.tabs.append(tab)
        given = {"url": url or self.server.http, "token": self.server.token, "agent": agent, "spool": spool}
        await tab.show(f"{self.pages.origin}/index.html?{urlencode(given)}")
        await holds(tab, "globalThis.page")
        await tab.evaluate("page.stream.accepted()")
        return tab

    async def publish(self, name: str, *data: Any) -> None:
        agent = await connect(self.server.ws, self.server.token)
        for number, each in enumerate(data):
            agent.tell(type="publish", eventType=name, data=each, id=number)
            await agent.answer(number)
        await agent.leave()

    def stored(self, agent: str) -> list[int]:
        """The numbers of the samples that the server has, in the order in which it stored them."""
        with closing(sqlite3.connect(self.server.database)) as database:
            rows = database.execute(
                "SELECT metrics FROM samples JOIN agents ON agents.id = agent WHERE name = ? ORDER BY samples.id", (agent,)
            )
            return [json.loads(metrics)["n"] for (metrics,) in rows]


# Ends all timers, and allows no others.
NO_TIMERS = "void (() => { for (let last = setTimeout(() => {}); last; last--) clearTimeout(last); setTimeout = () => 0; })()"


async def equals(tab: Tab, expression: str, wanted: Any) -> None:
    """Wait until an expression has that value in a page."""
    end = clock.seconds() + PATIENCE
    while (found := await tab.evaluate(expression)) != wanted:
        assert clock.seconds() < end, f"waited in vain for {expression} to be {wanted}; it is {found}"
        await deferLater(clock, 0.02)


async def holds(tab: Tab, expression: str) -> None:
    """Wait until an expression is true in a page."""
    await equals(tab, f"!!({expression})", True)


@pytest_twisted.async_yield_fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("browser")
    root = directory / "pages"
    shutil.copytree(HERE / "page", root)
    shutil.copytree(CLIENT / "src", root / "package" / "src")
    pages = Pages(root)
    server = NexusServer(directory, env={"NEXUS_HTTP__ORIGINS": pages.origin, "NEXUS_HEARTBEAT__INTERVAL": HEARTBEAT})
    chromium = Chromium(directory)
    chromium.launch()
    wire = Wire(server.port)
    try:
        await server.start()
        yield Browser(server, pages, chromium, wire)
    finally:
        wire.discard()
        chromium.discard()
        server.discard()
        pages.stop()


@pytest_twisted.ensureDeferred
async def test_a_page_recovers_after_a_restart_and_executes_commands(browser: Browser) -> None:
    tab = await browser.open("page-1")
    await equals(tab, "page.states", ["connecting", "connected"])
    await browser.publish("page.a", 1)
    await equals(tab, "page.seen", [1])
    await browser.server.stop()
    await holds(tab, "page.states.includes('waiting')")
    await browser.server.start()
    await tab.evaluate("page.nexus.woke()")
    await holds(tab, "page.nexus.state === 'connected'")
    await browser.publish("page.a", 2, 3)
    # The history of a single server ends with it: one gap for the known type, one for those that the pattern may mean.
    await equals(tab, "page.seen", [1, "reconnect", "reconnect", 2, 3])
    caller = await connect(browser.server.ws, browser.server.token)
    caller.tell(type="command", command="title", target="page-1", parameters={"title": "hello"}, id=1)
    assert (await caller.answer(1))["data"]["result"] == "hello"
    await caller.leave()
    assert await tab.evaluate("document.title") == "hello"
    assert await tab.evaluate("page.problems") == []
    assert await tab.evaluate("page.nexus.close().then(() => page.nexus.state)") == "closed"


@pytest_twisted.ensureDeferred
async def test_a_network_that_was_offline_is_used_at_once(browser: Browser) -> None:
    wire = browser.wire
    tab = await browser.open("page-2", url=wire.url)
    await equals(tab, "page.states", ["connecting", "connected"])
    await browser.publish("page.b", 1)
    await equals(tab, "page.seen", [1])
    await tab.ask("Network.enable")
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    # The browser says so to the page, and the wire holds what is sent, as a network does that has gone.
    wire.freeze()
    await tab.ask("Network.emulateNetworkConditions", offline=True, **conditions)
    await browser.publish("page.b", 2, 3)
    await holds(tab, "page.states.includes('waiting')")
    await wire.refuse()
    wire.thaw()
    # Without timers only the browser's word can be a reason to try again.
    await tab.evaluate(NO_TIMERS)
    await holds(tab, "page.nexus.state === 'waiting'")
    attempts = await tab.evaluate("page.nexus.stats.attempts")
    wire.listen()
    await tab.ask("Network.emulateNetworkConditions", offline=False, **conditions)
    await equals(tab, "page.seen", [1, 2, 3])
    assert await tab.evaluate("page.nexus.stats.attempts") == attempts + 1
    assert wire.most == 1


@pytest_twisted.ensureDeferred
async def test_a_page_in_the_background_listens_on_and_a_frozen_one_catches_up(browser: Browser) -> None:
    tab = await browser.open("page-3")
    await equals(tab, "page.states", ["connecting", "connected"])
    front = await browser.open("page-4")
    await equals(tab, "document.visibilityState", "hidden")
    await browser.publish("page.c", 1)
    await equals(tab, "page.seen", [1])
    await tab.ask("Page.setWebLifecycleState", state="frozen")
    await browser.publish("page.c", 2, 3)
    await equals(front, "page.seen", [1, 2, 3])
    assert await tab.evaluate("page.seen") == [1]
    await tab.ask("Page.setWebLifecycleState", state="active")
    await tab.ask("Page.bringToFront")
    await equals(tab, "page.seen", [1, 2, 3])
    # It asks whether the server is still there as soon as it is seen again.
    await holds(tab, "page.nexus.state === 'connected'")
    await tab.evaluate("void (page.sent = [], WebSocket.prototype.send = function (text) { page.sent.push(text) })")
    await front.ask("Page.bringToFront")
    await equals(tab, "document.visibilityState", "hidden")
    await tab.evaluate("void (page.sent.length = 0)")
    await tab.ask("Page.bringToFront")
    await holds(tab, """page.sent.includes('{"type":"ping"}')""")


@pytest_twisted.ensureDeferred
async def test_one_of_several_tabs_sends_for_all(browser: Browser) -> None:
    one = await browser.open("page-5", "common")
    await equals(one, "page.nexus.state", "connected")
    other = await browser.open("page-6", "common")
    await equals(other, "page.nexus.state", "connected")
    await other.evaluate("page.measure(1, 3)")
    await equals(other, "page.stored", [1, 2, 3])
    assert await one.evaluate("page.nexus.stats.stored") == 3
    assert await other.evaluate("page.nexus.stats.batches") == 0
    # A frozen tab gives it up, a closed one as well.
    await one.ask("Page.setWebLifecycleState", state="frozen")
    await other.evaluate("page.measure(4, 5)")
    await equals(other, "page.stored", [1, 2, 3, 4, 5])
    assert await other.evaluate("page.nexus.stats.stored") == 2
    await one.ask("Page.setWebLifecycleState", state="active")
    await one.evaluate("page.measure(6, 6)")
    await equals(one, "page.stored", [6])
    assert await one.evaluate("page.nexus.stats.stored") == 3
    await other.ask("Page.close")
    await one.evaluate("page.measure(7, 7)")
    await equals(one, "page.stored", [6, 7])
    assert await one.evaluate("page.nexus.stats.stored") == 4
    assert browser.stored("page-5") == [6, 7]
    assert browser.stored("page-6") == [1, 2, 3, 4, 5]
    assert await one.evaluate("page.problems") == []


@pytest_twisted.ensureDeferred
async def test_samples_survive_a_browser_that_is_killed(browser: Browser) -> None:
    tab = await browser.open("page-7", "lasting")
    await equals(tab, "page.states", ["connecting", "connected"])
    await tab.evaluate("page.measure(1, 3)")
    await equals(tab, "page.stored", [1, 2, 3])
    await browser.server.kill()
    await tab.evaluate("page.measure(4, 60)")
    os.killpg(browser.chromium.pid, signal.SIGKILL)
    await browser.chromium.ended()
    browser.tabs.clear()
    await browser.server.start()
    browser.chromium.launch()
    again = await browser.open("page-7", "lasting")
    # Of 57, the spool keeps 50.
    await until(lambda: browser.stored("page-7") == [1, 2, 3, *range(11, 61)], PATIENCE, "for the samples")
    await equals(again, "page.nexus.stats.stored", 50)
