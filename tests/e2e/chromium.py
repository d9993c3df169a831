"""A headless Chromium, controlled over its DevTools protocol, and pages for it.

The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import treq
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
from twisted.internet.defer import Deferred

from tests.e2e.server import Child, clock, until

PATIENCE = 60  # s; on a busy machine a browser takes many to start
FLAGS = (
    "--headless",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # containers often have little of it
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ::1",
    "--remote-debugging-port=0",
)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class Pages:
    """Serves a directory on a loopback port, from a thread, so that it works while the reactor blocks. Each is its own
    origin."""

    def __init__(self, directory: Path, port: int = 0) -> None:
        handler = functools.partial(_Quiet, directory=str(directory))
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ScriptError(Exception):
    """A page's script has thrown an exception."""


class Tab(WebSocketClientProtocol):
    """A page of the browser, controlled over DevTools."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[int, Deferred[dict[str, Any]]] = {}
        self._loaded: set[str] = set()  # loaders of documents that have loaded with all that belongs to them
        self.console: list[str] = []

    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        if "id" in message:
            self._asked.pop(message["id"]).callback(message)
        elif message["method"] == "Page.lifecycleEvent":
            if message["params"]["name"] == "load":
                self._loaded.add(message["params"]["loaderId"])
        elif message["method"] == "Runtime.consoleAPICalled":
            said = message["params"]
            # Objects come as a preview that nobody could compare; what tests look for are strings.
            self.console.append(" ".join(str(part.get("value", part.get("description"))) for part in said["args"]))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.errback(ConnectionError("the browser has gone"))

    async def ask(self, method: str, patience: float = PATIENCE, **parameters: Any) -> dict[str, Any]:
        number = self.factory.number = self.factory.number + 1
        waiting: Deferred[dict[str, Any]] = Deferred()
        self._asked[number] = waiting
        self.sendMessage(json.dumps({"id": number, "method": method, "params": parameters}).encode())
        answer = await waiting.addTimeout(patience, clock)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def show(self, url: str) -> None:
        """Load an address. Return when this document has loaded; the one before may still report its own end of loading."""
        answer = await self.ask("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        await until(lambda: answer["loaderId"] in self._loaded, PATIENCE, f"for {url} to load")

    async def evaluate(self, expression: str, patience: float = PATIENCE) -> Any:
        """Return the value of a JavaScript expression, or the result of its promise. Raise `ScriptError`."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = await self.ask("Runtime.evaluate", patience, **asked)
        if "exceptionDetails" in answer:
            raise ScriptError(answer["exceptionDetails"].get("exception", {}).get("description", "unknown"))
        return answer["result"].get("value")


class Chromium(Child):
    """The browser, with a profile of its own, at one page; `flags` are further flags."""

    def __init__(self, directory: Path, name: str = "chromium", flags: Sequence[str] = ()) -> None:
        super().__init__(name, directory)
        self._flags = flags
        self._directory = directory
        self._profile = directory / f"{name}.profile"

    def launch(self, url: str = "about:blank") -> None:
        """Start it without waiting."""
        program = shutil.which("chromium") or shutil.which("google-chrome")
        assert program, "there is no chromium; bin/test installs it"
        (self._profile / "DevToolsActivePort").unlink(missing_ok=True)  # of a run that was killed
        self.spawn([program, *FLAGS, *self._flags, f"--user-data-dir={self._profile}", url], os.environ, self._directory)

    async def tab(self) -> Tab:
        """Its page."""
        urls: list[str] = []
        end = clock.seconds() + PATIENCE
        # The browser listens before it has opened its first page.
        while not urls:
            assert clock.seconds() < end, f"the browser opened no page:\n{self.output}"
            tabs = await self._told("GET", "list")
            urls = [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]
        return await self._tab(urls[0])

    async def another(self) -> Tab:
        """Another page, in front of the others."""
        return await self._tab((await self._told("PUT", "new"))["webSocketDebuggerUrl"])

    async def _told(self, method: str, what: str) -> Any:
        listening = self._profile / "DevToolsActivePort"
        await until(lambda: listening.exists() and listening.read_text(), PATIENCE, f"for the browser:\n{self.output}")
        port = listening.read_text().split("\n")[0]
        answer = await treq.request(method, f"http://127.0.0.1:{port}/json/{what}", timeout=PATIENCE, persistent=False)
        return json.loads(await treq.content(answer))

    async def _tab(self, url: str) -> Tab:
        factory = WebSocketClientFactory(url)
        factory.protocol = Tab
        factory.noisy = False
        factory.number = 0
        factory.opened = Deferred()
        connectWS(factory)
        tab: Tab = await factory.opened.addTimeout(PATIENCE, clock)
        for domain in ("Runtime", "Page"):
            await tab.ask(f"{domain}.enable")
        await tab.ask("Page.setLifecycleEventsEnabled", enabled=True)
        return tab

    def discard(self) -> None:
        # The browser killed would leave helpers behind.
        if self.running:
            self.signal(signal.SIGTERM)
            try:
                self.wait(10)
            except subprocess.TimeoutExpired:
                super().discard()
