"""Sockets that the system gives, or that a dead process left behind: systemd's protocol, and Unix sockets after `kill -9`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from tests.app.test_service import assert_refused, start
from tests.client import Client, dial, greeted, handshake
from tests.e2e.server import NexusServer, clock, until

# What systemd does for a unit with `ListenStream=PORT`: opens the socket, and begins the service with it (sd_listen_fds(3)).
SYSTEMD = """
import os, socket, sys
family, names, *command = sys.argv[1:]
opened = socket.socket(getattr(socket, f"AF_{family}"))
opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == "INET6":
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
where = os.environ["WHERE"]
opened.bind(where if family == "UNIX" else (dict(INET6="::", INET="0.0.0.0")[family], int(where)))
opened.listen(4096)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
if names:
    os.environ["LISTEN_FDNAMES"] = names
os.dup2(opened.fileno(), 3)
os.set_inheritable(3, True)
os.execvp(command[0], command)
"""


class Activated(NexusServer):
    """A server that systemd begins with one socket of this family."""

    def __init__(self, directory: Path, family: str, listen: str, names: str = "nexus.socket") -> None:
        trusted = {"NEXUS_HTTP__TRUSTED_PROXIES": "127.0.0.1, ::1, unix"}
        super().__init__(directory, "--listen", listen, listen=False, env=trusted, token="the-token-of-an-activated-server")
        self._begun = [sys.executable, "-c", SYSTEMD, family, names]
        self.path = str(directory / "nexus.sock")
        self._where = self.path if family == "UNIX" else str(self.port)

    def spawn(self, command: list[str], env: Mapping[str, str], cwd: Path) -> None:
        super().spawn([*self._begun, *command], {**env, "WHERE": self._where}, cwd)

    async def client(self, endpoint: IStreamClientEndpoint) -> Client:
        wire = await dial(endpoint)
        wire.write(handshake(token=self.token, headers=["X-Forwarded-For: 203.0.113.9"]))
        return await greeted(wire)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("family", "listen", "names"),
    [
        ("INET6", "systemd:domain=INET:index=0", "nexus.socket"),
        ("INET6", "systemd:domain=INET6:name=nexus.socket", "nexus.socket"),
        ("INET6", "systemd:index=0", ""),
        ("INET", "systemd:domain=INET6:index=0", "nexus.socket"),
        ("UNIX", "systemd:domain=INET:index=0", "nexus.socket"),
    ],
)
async def test_systemd_domain_inet_on_a_dual_stack_socket_shows_clients_addresses_so_that_proxies_are_trusted(
    tmp_path: Path, family: str, listen: str, names: str
) -> None:
    server = Activated(tmp_path, family, listen, names)
    ways: dict[str, list[IStreamClientEndpoint]] = {
        "INET": [TCP4ClientEndpoint(clock, "127.0.0.1", server.port)],
        "INET6": [TCP4ClientEndpoint(clock, "127.0.0.1", server.port), TCP6ClientEndpoint(clock, "::1", server.port)],
        "UNIX": [UNIXClientEndpoint(clock, server.path)],
    }
    try:
        server.launch()
        await until(lambda: " listens on " in server.output or not server.running, 20, f"to listen: {server.output}")
        for number, way in enumerate(ways[family], 1):
            client = await server.client(way)
            client.wire.drop()
            await until(lambda number=number: server.output.count("left after") == number)
        assert server.output.count("admin from 203.0.113.9 left after") == len(ways[family]), server.output
        await server.stop()
        assert "Traceback" not in server.output
    finally:
        server.discard()


@pytest.mark.parametrize("listen", ["systemd:domain=INET:index=0", "systemd:domain=INET:name=nexus.socket", "systemd:index=x"])
def test_a_start_without_the_socket_of_systemd_says_so(tmp_path: Path, listen: str) -> None:
    assert_refused(start(tmp_path, "--listen", listen), listen, "no such socket among the 0", "LISTEN_FDS")


# --- Unix sockets


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NexusServer]:
    made = NexusServer(tmp_path, "--listen", f"unix:{tmp_path / 'nexus.sock'}:mode=600")
    yield made
    made.discard()


async def served(server: NexusServer, path: Path) -> None:
    wire = await dial(UNIXClientEndpoint(clock, str(path)))
    wire.write(handshake(token=server.token))
    client = await greeted(wire)
    client.wire.drop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("lock", [None, "1", "self"])
async def test_a_killed_container_starts_again_on_its_unix_socket(
    server: NexusServer, tmp_path: Path, lock: str | None
) -> None:
    """In a container, each start has the process id of the one before (1): a lock by that number is held for ever."""
    path = tmp_path / "nexus.sock"
    await server.start()
    await server.kill()
    assert path.is_socket()
    if lock:  # as it was left by Twisted's lock
        (tmp_path / "nexus.sock.lock").symlink_to("1" if lock == "1" else str(os.getpid()))
    await server.start()
    await served(server, path)
    assert path.stat().st_mode & 0o777 == 0o600
    await server.stop()
    assert [each.name for each in tmp_path.glob("nexus.sock*")] == []


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_on_which_somebody_answers_is_left_alone(server: NexusServer, tmp_path: Path) -> None:
    path = tmp_path / "nexus.sock"
    await server.start()
    assert_refused(start(tmp_path, "--listen", f"unix:{path}"), f"unix:{path}", "somebody listens there already")
    await served(server, path)
    await server.stop()


def test_a_unix_socket_whose_queue_is_full_is_somebody_s(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    held: list[Any] = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        while True:
            waiting = socket.socket(socket.AF_UNIX)
            held.append(waiting)
            waiting.setblocking(False)
            if waiting.connect_ex(str(path)) != 0:
                break
        assert_refused(start(tmp_path, "--listen", f"unix:{path}"), "somebody listens there already")
        for each in held:
            each.close()


def test_a_file_in_the_place_of_a_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    assert_refused(start(tmp_path, "--listen", f"unix:{path}"), "a file that is no socket")
    assert path.read_text() == "precious"
