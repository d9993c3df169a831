"""The service as a process: failing starts, its log, and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.certificates import issue
from tests.client import TEXT, Client, Wire, dial, frame, greeted, handshake, request
from tests.e2e.server import FOREIGN, ROOT, TWISTD, NexusServer, clock

MARK = "3fQ9xUeT0pZ7"
SECRETS = [f"{name}-{MARK}" for name in ("header", "query", "protocol", "bad-header", "bad-query", "bad-protocol", "form")]
HEADER, QUERY, PROTOCOL, BAD_HEADER, BAD_QUERY, BAD_PROTOCOL, FORM = SECRETS


def start(directory: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a server that is expected to end by itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    clean |= {"PYTHONPATH": str(ROOT), "NEXUS_TOKEN": "a-token-of-23-characters", "NEXUS_STORE": f"sqlite:{directory / 'x.db'}"}
    clean |= env
    return subprocess.run(
        [*TWISTD, "nexus", *args], env=clean, cwd=directory, capture_output=True, text=True, timeout=30, check=False
    )


def assert_refused(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that it reported the error in one line on standard error, and exited with 1."""
    assert ended.returncode == 1, ended
    assert ended.stderr.startswith("nexus: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert all(word in ended.stderr for word in words), ended.stderr
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize("workers", [False, True])
def test_a_port_in_use_ends_the_start_with_one_line(tmp_path: Path, workers: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        # Nothing answers at that bus: a start does not wait for it.
        more = ("--workers", "2", "--bus", "redis://127.0.0.1:1") if workers else ()
        ended = start(tmp_path, "--listen", listen, *more)
    assert_refused(ended, "listen", listen, "in use")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--listen", "carrier-pigeon:1"), ("listen", "carrier-pigeon")),
        (("--listen", "unix:/dev/null/all"), ("listen", "/dev/null/all")),
        (("--bus", "carrier-pigeon:"), ("bus.url", "carrier-pigeon")),
        (("--bus", "redis://:hidden-password@host:no-port"), ("bus.url",)),
        (("--store", "sqlite:/dev/null/all.db"), ("store.url",)),
        (("--workers", "2"), ("workers", "bus")),
        (("--workers", "many"), ("workers", "many")),
        (("--config", "missing.toml"), ("missing.toml",)),
        (("--token", "with space"), ("token",)),
    ],
)
def test_a_wrong_option_ends_the_start_with_one_line(tmp_path: Path, args: tuple[str, ...], words: tuple[str, ...]) -> None:
    ended = start(tmp_path, "--listen", "tcp:0:interface=127.0.0.1", *args)
    assert_refused(ended, *words)
    assert "hidden-password" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("name", ["NEXUS_BUS_URL", "NEXUS_STORE_URL", "NEXUS_HEARTBEAT_INTERVAL", "NEXUS_ROLES_AGENT_CALL"])
def test_a_variable_with_one_underscore_ends_the_start_with_one_line(tmp_path: Path, name: str) -> None:
    meant = name.replace("_", "__").replace("__", "_", 1)
    assert_refused(start(tmp_path, "--listen", "tcp:0:interface=127.0.0.1", **{name: "1"}), name, meant)


def test_the_production_file_without_any_auth_refuses_to_start_and_prints_no_token(tmp_path: Path) -> None:
    ended = start(tmp_path, "--config", str(ROOT / "conf" / "production.toml"), NEXUS_TOKEN="")
    assert_refused(ended, "auth", "NEXUS_TOKEN", "[[auth.keys]]")
    assert "NEXUS_TOKEN=" not in ended.stdout + ended.stderr


def test_a_short_token_where_other_machines_can_connect_ends_the_start_with_one_line(tmp_path: Path) -> None:
    ended = start(tmp_path, "--listen", "tcp:0:interface=0.0.0.0", NEXUS_TOKEN="hunter2")
    assert_refused(ended, "token", "16 characters", "NEXUS_TOKEN")
    assert "hunter2" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lisen = []", ("lisen", "listen")),
        ("[limits]\nmessage = 'large'", ("limits.message",)),
        ("[limits]\nmessage = -1", ("limits.message",)),
        ("[[auth.keys]]\nsubject = 's'\nrole = 'r'\nhash = 'sha256:" + "0" * 64 + "'", ("auth.keys[0].role", "'r'")),
        ("this is no toml", ("nexus.toml",)),
    ],
)
def test_a_wrong_file_ends_the_start_with_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "nexus.toml").write_text(text)
    assert_refused(start(tmp_path, "--config", "nexus.toml", "--listen", "tcp:0:interface=127.0.0.1"), *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "missing.key"}, ("tls.key", "missing.key")),
        ({"certificate": "missing.pem"}, ("tls.certificate", "missing.pem")),
        ({"key": "server.pem"}, ("tls.key", "server.pem")),
        ({"client_ca": "server.key"}, ("tls.client_ca", "server.key")),
    ],
)
def test_an_unreadable_key_file_ends_the_start_with_one_line(
    tmp_path: Path, change: dict[str, str], words: tuple[str, ...]
) -> None:
    issue().write(tmp_path, "server")
    files = {"certificate": "server.pem", "key": "server.key", **change}
    env = {f"NEXUS_TLS__{name.upper()}": value for name, value in files.items()}
    ended = start(tmp_path, "--listen", "tls:0:interface=127.0.0.1", **env)
    assert_refused(ended, *words)
    assert "PRIVATE" not in ended.stderr + ended.stdout


# --- what is logged


async def connect(server: NexusServer, data: bytes) -> Wire:
    wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", server.port))
    wire.write(data)
    return wire


async def flows(server: NexusServer) -> None:
    """Good and bad tokens in every carrier, by clients that behave and clients that do not."""
    events = "/api/v1/events"
    for data in (
        handshake(token=HEADER),
        handshake(f"{events}?token={QUERY}"),
        handshake(protocols=["nexus.v1.json", f"nexus.bearer.{PROTOCOL}"]),
    ):
        client = await greeted(await connect(server, data))
        client.send_text("{")
        await client.expect("error")
        client.write(frame(3))
        await client.closed()
    for data in (
        handshake(token=BAD_HEADER),
        handshake(f"{events}?token={BAD_QUERY}"),
        handshake(protocols=[f"nexus.bearer.{BAD_PROTOCOL}"]),
    ):
        wire = await connect(server, data)
        assert await Client(wire, await wire.response()).closed() == (1008, "Unauthorized")
    secrets = [f"Authorization: Bearer {BAD_HEADER}", f"Sec-WebSocket-Protocol: nexus.bearer.{BAD_PROTOCOL}"]
    target = f"{events}?token={QUERY}"
    for data, status in (
        (handshake(target, headers=secrets, drop=["Sec-WebSocket-Key"]), 400),
        (handshake(target, headers=[*secrets, "Sec-WebSocket-Key: x"], drop=["Sec-WebSocket-Key"]), 400),
        (handshake(target, headers=[*secrets, secrets[1]]), 400),
        (handshake(f"{target}#fragment", headers=secrets), 400),
        (handshake(target, headers=[*secrets, "Origin: https://evil.example"]), 403),
        (handshake(f"/nowhere?token={QUERY}", headers=secrets), 404),
        (handshake(target, headers=[*secrets, "X: \x01"]), 400),
        (handshake(target, headers=[*secrets, "X: " + "x" * 20000]), 431),
        (request("GET", f"/metrics?token={BAD_QUERY}", None, None, secrets[:1]), 401),
        (request("GET", f"/metrics?token={QUERY}", None), 200),
        (request("PUT", target, None, None, secrets), 405),
        (request("POST", target, None, b"{", [*secrets, "Content-Length: 1"]), 400),
        (request("POST", target, None, b"{}"), 400),
        (request("POST", target, None, f"token={FORM}".encode(), ["Content-Type: application/x-www-form-urlencoded"]), 400),
        (request("GET", "/health/live", None) + handshake(target, headers=secrets, drop=["Sec-WebSocket-Key"]), 200),
    ):
        wire = await connect(server, data)
        assert (await wire.response()).status == status, data
        wire.drop()
    for data in (f"GET {target} HTTP/1.1\r\n".encode(), f"{target}\r\n\r\n".encode(), handshake(target)[:-2]):
        (await connect(server, data)).drop()
    talker = await greeted(await connect(server, handshake(token=HEADER)))
    for text in ('{"type":"ping","token":"%s"}', '{"type":"%s"}', '{"type":"publish","eventType":"%s","data":"%s"}'):
        talker.send_text(text.replace("%s", QUERY))
        await talker.receive()
    # Gone in the middle of a message.
    talker.write(frame(TEXT, b"x" * 1000)[:500])
    talker.drop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_token_is_ever_logged(tmp_path: Path, form: str) -> None:
    roles = {"reader": {"read": ["**"], "subscribe": ["**"], "admin": True}}
    keys = [{"subject": f"s-{number}", "role": "reader", "hash": _hash(token)} for number, token in enumerate(SECRETS[:3])]
    env = {
        "NEXUS_LOG__FORMAT": form,
        "NEXUS_LOG__LEVEL": "debug",
        "NEXUS_ROLES": "{reader = " + _toml(roles["reader"]) + "}",
        "NEXUS_AUTH__KEYS": "[" + ", ".join(_toml(key) for key in keys) + "]",
    }
    server = NexusServer(tmp_path, env=env, token=f"start-{MARK}")
    try:
        await server.start()
        await flows(server)
        assert await server.stop() in (0, -signal.SIGTERM)
    finally:
        server.discard()
    output = server.output
    assert "left after" in output, "connections are logged"
    assert MARK not in output
    assert "Traceback" not in output
    assert "Unhandled" not in output


def _hash(token: str) -> str:
    from nexus_tw.auth.keys import PREFIX, digest

    return PREFIX + digest(token).hex()


def _toml(table: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in table.items()) + "}"


# --- how it ends


@pytest_twisted.ensureDeferred
async def test_sigterm_acknowledges_what_is_pending_and_ends_with_clients_told(tmp_path: Path) -> None:
    server = NexusServer(tmp_path)
    try:
        await server.start()
        client = await greeted(await connect(server, handshake(token=server.token)))
        for number in range(200):
            client.send(type="telemetry", agentId="a", metrics={"x": number}, id=number)
        await client.expect("telemetry_ack", id=0)
        server.signal(signal.SIGTERM)
        assert await client.closed() == (1000, "Server shutting down")
        assert [message["id"] for message in client.left[:-1]] == list(range(1, 200))
        assert client.left[-1]["type"] == "disconnect"
        assert await server.ended() in (0, -signal.SIGTERM)
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_the_listener_closes_last(tmp_path: Path) -> None:
    """So a load balancer hears 503 and not a refused connection while others are let go."""
    server = NexusServer(tmp_path, env={"NEXUS_DRAIN": "5"})
    try:
        await server.start()
        client = await greeted(await connect(server, handshake(token=server.token)))
        client.wire.transport.pauseProducing()
        server.signal(signal.SIGTERM)
        statuses = []
        while 503 not in statuses:
            wire = await connect(server, request("GET", "/health/ready", None))
            statuses.append((await wire.response()).status)
            wire.drop()
        wire = await connect(server, handshake(token=server.token))
        response = await wire.response()
        assert (response.status, response.json["code"]) == (503, "shutting_down")
        assert int(response.headers["retry-after"]) > 0
        client.wire.transport.resumeProducing()
        assert await client.closed() == (1000, "Server shutting down")
        assert await server.ended() in (0, -signal.SIGTERM)
    finally:
        server.discard()
