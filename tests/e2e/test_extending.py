"""docs/extending.md, done as it is written: every file saved, every command given, and what it prints compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_twisted

from tests.e2e.clients import Clients
from tests.e2e.server import FOREIGN, ROOT, Child, NexusServer
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

TEXT = (ROOT / "docs" / "extending.md").read_text()
TOKEN = "the-token-of-this-tutorial"


class Tutorial:
    """A reader's folder, with the files that the text has them save."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.site = directory / "site"
        for name, text in re.findall(r"^Save as `([\w./]+)`.*?\n\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
            file = directory / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)

    def configure(self, *more: str) -> None:
        """Replaces where to listen, which is a test's own choice, and adds further blocks of the text."""
        file = self.directory / "nexus.toml"
        text, count = re.subn(r'^listen = .*\n', "", file.read_text())
        assert count == 1
        file.write_text("\n".join([text, *more]))

    def server(self, *twistd: str, **env: str) -> NexusServer:
        # Started elsewhere: Python finds by itself what is in the working directory.
        elsewhere = self.directory / "elsewhere"
        elsewhere.mkdir()
        config = str(self.directory / "nexus.toml")
        made = NexusServer(elsewhere, "--config", config, token=TOKEN, env=env, twistd=twistd)
        script = self.directory / "call.py"
        text = script.read_text().replace("localhost:3000", f"localhost:{made.port}")
        assert text != script.read_text()
        script.write_text(text)
        return made

    async def call(self, *arguments: str, token: str = TOKEN) -> list[str]:
        """Return the output of `python call.py …`."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        child = Child(f"call-{len(list(self.directory.glob('call-*')))}", self.directory)
        child.spawn([sys.executable, "call.py", *arguments], env | {"NEXUS_TOKEN": token}, self.directory)
        try:
            assert await child.ended() == 0, child.output
        finally:
            child.discard()
        return child.output.splitlines()

    def install(self, package: str) -> None:
        """`pip install ./PACKAGE`, beside the environment of the tests and without asking the network for setuptools."""
        options = ["--quiet", "--no-build-isolation", "--no-deps", "--target", str(self.site)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, package], cwd=self.directory, check=True, timeout=120)


def block(language: str, containing: str) -> str:
    """The one block of the text in which this is."""
    found = [each for each in re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL) if containing in each]
    assert len(found) == 1, f"{len(found)} blocks with {containing}"
    return str(found[0])


def given(containing: str) -> list[list[str]]:
    """The arguments of `python call.py` in that block."""
    return [[name, parameters] for name, parameters in re.findall(r"call\.py (\w+) '(.*)'", block("sh", containing))]


@pytest.fixture
def tutorial(tmp_path: Path) -> Tutorial:
    return Tutorial(tmp_path)


@pytest_twisted.ensureDeferred
async def test_commands_of_the_tutorial_plain_in_a_thread_as_deferred_and_coroutine(tutorial: Tutorial) -> None:
    tutorial.configure(block("toml", "naps:nap"))
    server = tutorial.server()
    try:
        await server.start()
        said = [line for arguments in given("call.py add") for line in await tutorial.call(*arguments)]
        assert said == block("text", "'rows': 100").splitlines()
        # Without asyncio's reactor the remedy is named.
        (refused,) = await tutorial.call("nap", "{}")
        remedy = re.search(r"the command fails with ``(.*?) ``", TEXT)
        assert remedy is not None
        assert refused == f"Command execution failed: {remedy[1]}"
        assert "Traceback" in server.output, "of the coroutine that failed"
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_coroutines_await_asyncio_when_the_reactor_is_asyncios(tutorial: Tutorial) -> None:
    tutorial.configure(block("toml", "naps:nap"))
    server = tutorial.server("--reactor=asyncio")
    try:
        await server.start()
        assert await tutorial.call("nap", "{}") == ["rested"]
        assert await tutorial.call("twice", "{}") == ["['later', 'later']"], "Deferreds are awaited there, too"
        assert await tutorial.call("add", "[1]") == ["{'sum': 1}"]
        assert await server.stop() in (0, -15)
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_workers_have_the_reactor_that_was_chosen_for_their_parent(
    tutorial: Tutorial, redis_server: RedisServer
) -> None:
    tutorial.configure(block("toml", "naps:nap"))
    server = tutorial.server("--reactor=asyncio", NEXUS_WORKERS="2", NEXUS_BUS=redis_server.url)
    try:
        await server.start()
        assert await tutorial.call("nap", "{}") == ["rested"]
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_an_authenticator_of_ones_own_returns_a_principal_of_subject_and_role(tutorial: Tutorial) -> None:
    tutorial.install("./badges")
    tutorial.configure(block("toml", 'plugins = ["badge"]'))
    server = tutorial.server(PYTHONPATH=f"{ROOT}:{tutorial.site}")
    try:
        await server.start()
        token = re.search(r"NEXUS_TOKEN=(badge-\S+)", TEXT)
        assert token is not None
        assert await tutorial.call("whoami", "{}", token=token[1]) == block("text", "'subject': 'sven'").splitlines()
        assert await tutorial.call("add", "[1]", token=token[1]) == ["Not allowed to call add"]
        assert token[1] not in server.output
    finally:
        server.discard()


STORE = """
import asyncio

from nexus_tw.store.sqlite.store import SqliteStore


class Store(SqliteStore):
    async def start(self):
        await asyncio.sleep(0.01)
        await super().start()

    async def commit(self, samples):
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
            await super().commit(samples)


def open_store(url, reactor):
    return Store(":memory:", reactor)
"""


@pytest_twisted.ensureDeferred
async def test_a_store_of_ones_own_may_await_asyncio(tutorial: Tutorial, clients: Clients) -> None:
    info = tutorial.site / "shelf-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nexus.stores]\nshelf = shelf:open_store\n")
    (tutorial.site / "shelf.py").write_text(STORE)
    tutorial.configure()
    server = tutorial.server("--reactor=asyncio", PYTHONPATH=f"{ROOT}:{tutorial.site}", NEXUS_STORE="shelf:")
    try:
        await server.start()
        agent = await clients.connect(server, agent="agent-1")
        await (await agent.telemetry(cpu=1)).stored()
        assert await server.stop() in (0, -15)
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_a_handler_that_blocks_the_reactor_is_logged_once_by_name(tutorial: Tutorial) -> None:
    (tutorial.directory / "slow.py").write_text("import time\n\n\ndef nod(call):\n    time.sleep(0.15)\n    return 'nodded'\n")
    tutorial.configure('[[commands]]\nname = "nod"\nhandler = "slow:nod"\n')
    server = tutorial.server()
    try:
        await server.start()
        for _ in range(2):
            assert await tutorial.call("nod", "{}") == ["nodded"]
        assert server.output.count("The handler of nod held up all clients for 0.") == 1
        assert "held up" not in server.output.replace("The handler of nod held up", "")
    finally:
        server.discard()


WRONG = {
    "def nod():\n    return 1\n": "'slow:nod' is nod(), but a command handler is called with 1 argument: (call)",
    "def nod(call, more):\n    return 1\n": "'slow:nod' is nod(call, more), but a command handler is called with 1 argument",
    "def nod(call):\n    yield 1\n": "'slow:nod' is a generator; a command handler must return its result, not yield it",
    "async def nod(call):\n    return 1\n": "'slow:nod' is a coroutine function, which `thread = true` cannot execute",
    "nod = 1\n": "'slow:nod' cannot be called",
    "import nothing_of_this_name\n": "'slow:nod' cannot be imported: ModuleNotFoundError",
}


@pytest.mark.parametrize("code", WRONG)
@pytest_twisted.ensureDeferred
async def test_a_wrong_signature_is_named_at_the_start_with_the_expected_one(tutorial: Tutorial, code: str) -> None:
    (tutorial.directory / "slow.py").write_text(code)
    tutorial.configure('[[commands]]\nname = "nod"\nhandler = "slow:nod"\nthread = true\n')
    server = tutorial.server()
    try:
        server.launch()
        assert await server.ended() == 1
        (line,) = [line for line in server.output.splitlines() if line.startswith("nexus: ")]
        assert line.startswith(f"nexus: commands[5].handler: {WRONG[code]}")
        assert "Traceback" not in server.output
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_the_folder_of_the_configuration_is_importable_after_all_else_unless_everybody_may_write_to_it(
    tutorial: Tutorial,
) -> None:
    (tutorial.directory / "json.py").write_text("raise RuntimeError('not this one')\n")
    tutorial.configure()
    server = tutorial.server()
    try:
        await server.start()
        await server.stop()
        tutorial.directory.chmod(0o777)
        server.launch()
        assert await server.ended() == 1
        assert f"nexus: python_path: everybody may write to {tutorial.directory}" in server.output
    finally:
        server.discard()


def test_every_file_of_the_tutorial_is_saved(tutorial: Tutorial) -> None:
    names = ["fleet.py", "nexus.toml", "call.py", "naps.py", "badges/pyproject.toml", "badges/badges.py"]
    assert [name for name in names if not (tutorial.directory / name).exists()] == []

