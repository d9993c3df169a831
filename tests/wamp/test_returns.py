"""Reconnects of each client library, after every way in which its connection can end, and the cases without a reconnect.

One server and one set of programs go through all the endings, one after the other, because a program takes longer to start than
most endings take. The waiting times are the libraries' own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from tests.e2e.server import ROOT, Child, NexusServer, until
from tests.wamp.peer import Peer, connect
from tests.wamp.programs import CLIENTS
from tests.wamp.relay import Relay, clock

PROGRAMS: Final = CLIENTS / "returning"
PATIENCE: Final = 20.0  # s for something that all programs do, on a busy machine
REALM, TOPIC = "open", "com.example.news"
TICKET, WRONG = "a-ticket-of-somebody", "a-wrong-ticket"


def _python(module: str, way: str) -> tuple[list[str], str]:
    return [sys.executable, "-u", "-m", f"tests.wamp.clients.returning.{module}"], way


def _node(script: str, way: str) -> tuple[list[str], str]:
    return ["node", str(PROGRAMS / f"{script}.mjs")], way


COMMANDS: Final = {
    "autobahn-twisted-ws": _python("autobahn_twisted", "ws"),
    "autobahn-twisted-rs": _python("autobahn_twisted", "rs"),
    "autobahn-asyncio-ws": _python("autobahn_asyncio", "ws"),
    "autobahn-asyncio-rs": _python("autobahn_asyncio", "rs"),
    "autobahn-js-ws": _node("autobahn_js", "ws"),
    "autobahn-js-rs": _node("autobahn_js", "rs"),
    "wampy-js": _node("wampy", "ws"),
    "thruway-js": _node("thruway", "ws"),
    "xconn-ws": _python("xconn_client", "ws"),
    "xconn-rs": _python("xconn_client", "rs"),
    "swampyer": _python("swampyer_client", "ws"),
}
RAWSOCKET: Final = [name for name, (_, way) in COMMANDS.items() if way == "rs"]
WEBSOCKET: Final = [name for name in COMMANDS if name not in RAWSOCKET]

DEAF: Final = "autobahn-js-rs"
"""AutobahnJS does not notice that a RawSocket's stream has ended. So it cannot come back where the server is killed; and it is
not relayed, so that its connections end as the server ends them."""

BY_NATURE: Final = ["autobahn-asyncio-rs", "xconn-ws", "xconn-rs", "swampyer"]
"""Libraries that come back after GOODBYE too. Autobahn's on asyncio does so over RawSocket only: it hears of the end of the
connection, which it closes itself, before its component has been told of the GOODBYE."""

GIVE_UP: Final = ["autobahn-js-ws", "autobahn-js-rs", "wampy-js", "swampyer"]
"""Libraries that do not try again after ABORT. The others do so for as long as they are told to."""

CONFIGURATION: Final = f"""
[realms.{REALM}]
anonymous = "admin"

[roles.user]
realms = ["{REALM}"]
subscribe = ["**"]

[[auth.keys]]
subject = "somebody"
role = "user"
hash = "sha256:%s"

[heartbeat]
interval = 1
timeout = 3

[limits]
connections_per_subject = {len(COMMANDS)}
send_queue = 65536
message = 65536
"""


class Program(Child):
    """A client in a process of its own."""

    def __init__(self, name: str, directory: Path, port: int, ticket: str, client: str = "") -> None:
        super().__init__(name, directory)
        command, way = COMMANDS[client or name]
        self.spawn([*command, str(port), way, ticket], {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT)

    def said(self, what: str) -> list[Any]:
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line[what] for line in lines if what in line]


class House:
    """The server, the way to it, and the programs."""

    def __init__(self, directory: Path) -> None:
        file = directory / "open.toml"
        file.write_text(CONFIGURATION % sha256(TICKET.encode()).hexdigest())
        self.directory = directory
        self.server = NexusServer(directory, "--config", str(file))
        self.relay = Relay(self.server.port)
        self.programs: dict[str, Program] = {}
        self._words = 0

    async def start(self) -> None:
        await self.server.start()
        self.port = await self.relay.listen()
        for name in COMMANDS:
            self.run(name)
        await self.all_of(COMMANDS, lambda name: bool(self.programs[name].said("joined")))

    def run(self, name: str) -> None:
        self.programs[name] = Program(name, self.directory, self.server.port if name == DEAF else self.port, TICKET)

    async def stop(self) -> None:
        for program in self.programs.values():
            program.discard()
        await self.relay.stop()
        self.server.discard()

    async def all_of(self, names: Any, true: Callable[[str], bool]) -> list[str]:
        """Wait until the condition holds for all programs, at most `PATIENCE`. Return those for which it does."""
        end = clock.seconds() + PATIENCE
        while not all(true(name) for name in names) and clock.seconds() < end:
            await deferLater(clock, 0.1)
        return [name for name in names if true(name)]

    async def peer(self) -> Peer:
        """A session of nobody's, that may do everything."""
        return await (await connect(self.server.port)).join(REALM, authmethods=["anonymous"])

    async def heard_again(self, names: Any, before: Mapping[str, int]) -> list[str]:
        """Return the programs that have joined again and receive publications."""
        self._words += 1
        word = f"word-{self._words}"
        publisher = await self.peer()

        def hears(name: str) -> bool:
            program = self.programs[name]
            return len(program.said("joined")) > before[name] and word in program.said("heard")

        end = clock.seconds() + PATIENCE
        while not all(hears(name) for name in names) and clock.seconds() < end:
            await publisher.publish(TOPIC, [word])
            await deferLater(clock, 0.2)
        publisher.drop()
        return [name for name in names if hears(name)]

    def joined(self) -> dict[str, int]:
        """Return how often each has joined so far."""
        return {name: len(program.said("joined")) for name, program in self.programs.items()}

    def ended(self, how: str) -> int:
        """Return the number of connections with this end, by the server's log."""
        return self.server.output.count(how)

    def signal(self, names: Any, number: signal.Signals) -> None:
        for name in names:
            self.programs[name].signal(number)


# --- the endings


async def drained(house: House) -> None:
    await house.server.stop()
    await house.server.start()


async def timed_out(house: House) -> None:
    """Check that clients that answer no pings are closed; RawSocket clients that never sent a ping continue."""
    house.signal(WEBSOCKET, signal.SIGSTOP)
    before = house.ended("1000 Heartbeat timeout")
    try:
        await until(lambda: house.ended("1000 Heartbeat timeout") >= before + len(WEBSOCKET), PATIENCE)
    finally:
        house.signal(WEBSOCKET, signal.SIGCONT)


async def slow(house: House) -> None:
    house.signal(COMMANDS, signal.SIGSTOP)
    before = house.ended("somebody from 127.0.0.1 left after ")
    publisher = await house.peer()
    try:
        end = clock.seconds() + PATIENCE
        while house.ended("somebody from 127.0.0.1 left after ") < before + len(COMMANDS) and clock.seconds() < end:
            for _ in range(20):
                publisher.tell(TOPIC, ["x" * 60_000])
            await publisher.publish(TOPIC, [""])
    finally:
        house.signal(COMMANDS, signal.SIGCONT)
        publisher.drop()
    assert house.ended("4001 Slow consumer")


async def killed(house: House) -> None:
    await house.server.kill()
    await house.server.start()


async def reset(house: House) -> None:
    house.relay.reset()


async def crowded(house: House) -> None:
    """They come back to find that their subject has too many connections: each is turned away before its WELCOME."""
    house.relay.closed = True
    house.relay.reset()
    before = house.ended("1013 Try again later")
    await until(lambda: not house.relay.ends, PATIENCE)
    house.programs[DEAF].discard()
    others = [await (await connect(house.server.port)).join(REALM, TICKET) for _ in COMMANDS]
    house.relay.closed = False
    await until(lambda: house.ended("1013 Try again later") >= before + 3 * len(COMMANDS), PATIENCE)
    for other in others:
        other.drop()
    house.run(DEAF)
    await house.all_of([DEAF], lambda name: len(house.programs[name].said("joined")) > 1)


ENDINGS: Final[Mapping[str, Callable[[House], Awaitable[None]]]] = {
    "drained": drained,
    "timed_out": timed_out,
    "slow": slow,
    "killed": killed,
    "reset": reset,
    "crowded": crowded,
}
EXPECTED: Final = {
    ending: [
        name
        for name in COMMANDS
        if not (ending == "timed_out" and name in RAWSOCKET)
        and not (ending in ("killed", "reset", "crowded") and name == DEAF)
    ]
    for ending in ENDINGS
}


class Story:
    """The outcomes of the programs."""

    def __init__(self) -> None:
        self.returned: dict[str, list[str]] = {}
        self.stayed_connected: list[str] = []
        self.stopped: dict[str, list[str]] = {}
        self.intruders: list[str] = []
        self.outputs: dict[str, str] = {}

    async def run(self, house: House) -> None:
        strangers = {name: Program(f"{name}-stranger", house.directory, house.server.port, WRONG, name) for name in COMMANDS}
        try:
            await self._pass(house)
            self.stopped["refused"] = await house.all_of(GIVE_UP, lambda name: bool(strangers[name].said("stopped")))
            self.intruders = [name for name, program in strangers.items() if program.said("joined")]
        finally:
            for program in strangers.values():
                program.discard()

    async def _pass(self, house: House) -> None:
        """Lets the programs go through all the endings."""
        for ending, end in ENDINGS.items():
            before = house.joined()
            await end(house)
            self.returned[ending] = await house.heard_again(EXPECTED[ending], before)
            if ending == "timed_out":
                now = house.joined()
                self.stayed_connected = [name for name in RAWSOCKET if now[name] == before[name]]
        before = house.joined()
        admin = await house.peer()
        await admin.call("wamp.session.kill_all")
        admin.drop()
        returning = await house.heard_again(BY_NATURE, before)
        gone = await house.all_of([name for name in COMMANDS if name not in BY_NATURE], self._has_stopped(house))
        self.returned["killed by an administrator"] = returning
        self.stopped["killed by an administrator"] = gone
        self.outputs = {name: program.output[-3000:] for name, program in house.programs.items()}

    def _has_stopped(self, house: House) -> Callable[[str], bool]:
        return lambda name: bool(house.programs[name].said("stopped"))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    house, told = House(tmp_path_factory.mktemp("returns")), Story()

    async def go() -> None:
        try:
            await house.start()
            await told.run(house)
        finally:
            await house.stop()

    pytest_twisted.blockon(ensureDeferred(go()))
    return told


@pytest.mark.parametrize(("ending", "client"), [(ending, name) for ending, names in EXPECTED.items() for name in names])
def test_each_client_library_comes_back_after_each_ending(story: Story, ending: str, client: str) -> None:
    """JavaScript clients among them, which take a GOODBYE for the wish that they never come back."""
    assert client in story.returned[ending], story.outputs[client]


@pytest.mark.parametrize("client", RAWSOCKET)
def test_rawsocket_clients_that_only_listen_stay_past_two_heartbeats_and_the_timeout(story: Story, client: str) -> None:
    assert client in story.stayed_connected, story.outputs[client]


@pytest.mark.parametrize("client", [name for name in COMMANDS if name not in BY_NATURE])
def test_who_is_disconnected_by_an_administrator_stays_away(story: Story, client: str) -> None:
    assert client in story.stopped["killed by an administrator"], story.outputs[client]


@pytest.mark.parametrize("client", BY_NATURE)
def test_some_libraries_come_back_even_then(story: Story, client: str) -> None:
    """Their users have to look at the reason; docs/conformance.md says so."""
    assert client in story.returned["killed by an administrator"], story.outputs[client]


@pytest.mark.parametrize("client", GIVE_UP)
def test_who_shows_a_wrong_ticket_stays_away(story: Story, client: str) -> None:
    assert client in story.stopped["refused"]
    assert not story.intruders
