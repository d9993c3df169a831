"""SIGHUP: the configuration is read again, by the parent and its workers, and who may stay stays."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from tests.auth.tokens import SECRET, claims, sign
from tests.certificates import authority, issue
from tests.client import Client, Response, dial, greeted, handshake
from tests.e2e.server import NexusServer, clock, free_port, until
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]

BRIEF = "drain = 1\n"  # these clients do not leave by themselves
FIRST = """
[roles.agent]
subscribe = ["a.**"]
[roles.watcher]
subscribe = ["a.**", "b.**"]
[heartbeat]
interval = 30
"""
SECOND = f"""
[roles.agent]
subscribe = ["a.**", "c.**"]
[roles.watcher]
subscribe = ["a.**"]
[limits]
subscriptions = 1
[http]
origins = ["https://app.example"]
[log]
level = "debug"
[[auth.jwt]]
issuer = "https://id.example/"
audience = "nexus"
algorithms = ["HS256"]
secret = "{SECRET}"
"""


def keys(**roles: str) -> str:
    """Keys by their name, each the token `NAME-token-of-a-test` of the subject NAME."""
    entries = (
        f'[[auth.keys]]\nsubject = "{name}"\nrole = "{role}"\nhash = "sha256:{sha256(token(name).encode()).hexdigest()}"\n'
        for name, role in roles.items()
    )
    return "".join(entries)


def token(name: str) -> str:
    return f"{name}-token-of-a-test"


class House:
    """A server, and its configuration file."""

    def __init__(self, directory: Path, *args: str) -> None:
        self.file = directory / "nexus.toml"
        self.server = NexusServer(directory, "--config", "nexus.toml", *args)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    async def hang_up(self, said: str) -> None:
        """SIGHUP, until the log says so."""
        before = self.server.output.count(said)
        self.server.signal(signal.SIGHUP)
        await until(lambda: self.server.output.count(said) > before, 20, f"for {said!r}:\n{self.server.output}")

    async def opening(self, bearer: str, *headers: str) -> tuple[Client, Response]:
        wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", self.server.port))
        wire.write(handshake(token=bearer, headers=list(headers)))
        response = await wire.response()
        return Client(wire, response), response

    async def client(self, name: str) -> Client:
        wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", self.server.port))
        wire.write(handshake(token=token(name)))
        return await greeted(wire)

    async def refused(self, name: str) -> bool:
        """Return whether the answering process does not know the token."""
        client, _ = await self.opening(token(name))
        return await client.closed() == (1008, "Unauthorized")


@pytest_twisted.async_yield_fixture(params=[False, True])
async def house(request: Any, tmp_path: Path, redis_server: RedisServer) -> Any:
    """A server that has started, without workers and with."""
    workers = ("--workers", "2", "--bus", redis_server.url)
    made = House(tmp_path, *(workers if request.param else ()))
    made.write(BRIEF + FIRST + keys(kept="agent", removed="agent", watcher="watcher"))
    try:
        made.server.launch()
        await until(lambda: made.server.output.count(" listens on ") == (2 if request.param else 1), 20)
        yield made
    finally:
        made.server.discard()


@pytest_twisted.ensureDeferred
async def test_hup_reads_keys_roles_origins_limits_log_level_and_jwt_issuers_again(house: House) -> None:
    kept, removed, watcher = [await house.client(name) for name in ("kept", "removed", "watcher")]
    await kept.subscribe("a.b")
    assert (await house.opening(token("kept"), "Origin: https://app.example"))[1].status == 403

    house.write(BRIEF + SECOND + keys(kept="agent", added="agent", watcher="watcher"))
    await house.hang_up("the configuration is taken")

    # A key that is gone ends its connections; a role that lost something has its clients come back.
    assert await removed.closed() == (4501, "Revoked")
    assert removed.left[-1]["reconnect"] is False
    assert await watcher.closed() == (4005, "Rights changed")
    assert watcher.left[-1]["reconnect"] is True
    assert await house.refused("removed")
    await house.client("added")
    bearer = sign(claims(exp=clock.seconds() + 600))
    assert (await house.opening(bearer, "Origin: https://app.example"))[1].status == 101
    # Who stays can what its role can now, within the limits of now.
    assert (await kept.ask(type="subscribe", events=["c.d"]))["code"] == "limit_exceeded"
    await kept.ask(type="unsubscribe", events=["a.b"])
    assert (await kept.ask(type="subscribe", events=["c.d"]))["type"] == "subscribed"
    await house.server.stop()
    assert " debug " in house.server.output
    assert "Traceback" not in house.server.output


@pytest_twisted.ensureDeferred
async def test_what_cannot_change_without_a_restart_is_named_and_a_wrong_file_changes_nothing(house: House) -> None:
    kept = await house.client("kept")
    names = keys(kept="agent", removed="agent", watcher="watcher")
    house.write(f"drain = 3\n{FIRST.replace('30', '20')}[limits]\ndepth = 9\nsubscriptions = 1\n{names}")
    await house.hang_up("is taken, but for what needs a restart: drain, heartbeat, limits.depth")

    for wrong, why in (
        ("this is no toml", "nexus.toml"),
        (FIRST + keys(kept="stranger"), "auth.keys[0].role: no such role: 'stranger'"),
        (f"{FIRST}[limits]\nsubscriptions = 'many'\n", "limits.subscriptions"),
        (f"{FIRST}[[auth.jwt]]\nissuer='i'\naudience='a'\nalgorithms=['RS256']\nkey='absent.pem'\n", "absent.pem"),
    ):
        house.write(wrong)
        await house.hang_up("nothing has changed: ")
        assert why in house.server.output.rpartition("nothing has changed: ")[2]
    house.file.unlink()
    await house.hang_up("nothing has changed: ")
    await kept.heard()
    await house.client("removed")
    assert (await kept.ask(type="subscribe", events=["a.b", "a.c"]))["code"] == "limit_exceeded"


@pytest_twisted.ensureDeferred
async def test_hup_reads_certificates_and_keys_again_also_from_other_files(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "authority.pem").write_bytes(authority().certificate_pem())
    house = House(tmp_path, "--listen", f"tls:{port}:interface=127.0.0.1")

    def serial() -> int:
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as secured,
        ):
            return int(secured.getpeercert()["serialNumber"], 16)  # type: ignore[index, arg-type]

    def configure(name: str) -> int:
        issued = issue()
        certificate, key = issued.write(tmp_path, name)
        house.write(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nreload = 0\n' + FIRST + keys(kept="agent"))
        return issued.certificate.serial_number

    first = configure("first")
    try:
        await house.server.start()
        assert await deferToThread(serial) == first
        for name in ("first", "second"):
            renewed = configure(name)
            await house.hang_up("the configuration is taken")
            assert await deferToThread(serial) == renewed
        os.unlink(tmp_path / "second.key")
        await house.hang_up("nothing has changed: tls.key: cannot read")
        assert await deferToThread(serial) == renewed
    finally:
        house.server.discard()
