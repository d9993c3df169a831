"""`haproxy:` endpoints: the PROXY protocol in both versions, with clients whose balancer knows them and with its own checks."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from nexus_tw.model.settings import Tls
from nexus_tw.transport.listening import endpoints
from nexus_tw.transport.listening.proxied import SIGNATURE, NoHeader, read
from tests.certificates import authority, issue
from tests.client import greeted, handshake, request
from tests.e2e.server import Child, free_port, until
from tests.node import TOKEN, Node, clock


def block(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


FOUR = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4711, 443)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "::1") + struct.pack("!HH", 1, 2)

NAMED = {
    "v1 TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7"),
    "v2 TCP4": (block(0x21, 0x11, FOUR), "192.0.2.7"),
    "v2 TCP6": (block(0x21, 0x21, SIX), "2001:db8::7"),
    "v2 TCP4 and what else is told": (block(0x21, 0x11, FOUR + b"\x04\x00\x03abc"), "192.0.2.7"),
}
UNNAMED = {
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n",
    "v1 UNKNOWN and more": b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
    "v2 LOCAL": block(0x20, 0x00, b""),
    "v2 LOCAL with addresses": block(0x20, 0x11, FOUR),
    "v2 UNSPEC": block(0x21, 0x00, b""),
    "v2 UNSPEC and more": block(0x21, 0x00, b"\x03\x00\x04abcd"),
    "v2 a unix socket": block(0x21, 0x31, bytes(216)),
    "v2 datagrams": block(0x21, 0x12, FOUR),
}
WRONG = {
    "a request": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "no family": b"PROXY \r\n",
    "another family": b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "the wrong family": b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    "a port too few": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    "a port that is none": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 x\r\n",
    "a port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
    "a line that does not end": b"PROXY TCP4 " + b"1" * 97,
    "a line too long": b"PROXY UNKNOWN " + b"1" * 100 + b"\r\n",
    "another version": block(0x31, 0x11, FOUR),
    "another command": block(0x22, 0x11, FOUR),
    "addresses too short": block(0x21, 0x11, FOUR[:-1]),
    "too much": block(0x21, 0x11, bytes(5000))[:16],
}


@pytest.mark.parametrize("name", NAMED)
def test_a_client_that_the_header_names_is_known_by_its_address(name: str) -> None:
    header, host = NAMED[name]
    found = read(header + b"GET")
    assert found is not None and found[0] is not None
    assert (found[0][0].host, found[1]) == (host, len(header))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", UNNAMED)
def test_a_header_that_names_nobody_is_read_and_says_nothing(name: str) -> None:
    assert read(UNNAMED[name] + b"GET") == (None, len(UNNAMED[name]))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_header_is_found_out(name: str) -> None:
    with pytest.raises(NoHeader):
        read(WRONG[name])


@given(st.sampled_from([*(header for header, _ in NAMED.values()), *UNNAMED.values()]), st.data())
def test_part_of_a_header_waits_for_the_rest(header: bytes, data: st.DataObject) -> None:
    assert read(header[: data.draw(st.integers(0, len(header) - 1))]) is None


@given(st.binary(max_size=200) | st.binary(max_size=200).map(SIGNATURE.__add__) | st.binary(max_size=99).map(b"PROXY ".__add__))
def test_whatever_comes_is_read_refused_or_waited_for(data: bytes) -> None:
    try:
        found = read(data)
    except NoHeader:
        return
    assert found is None or 0 < found[1] <= len(data)


# --- over real sockets


@pytest_twisted.async_yield_fixture
async def node(nodes: Any) -> Any:
    yield await nodes()


async def port_of(node: Node, text: str, tls: Tls | None = None) -> int:
    port = await node.listen(endpoints.endpoint(reactor, text, tls or Tls()))
    return int(port.getHost().port)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("header", "address"), [*NAMED.values(), *((header, "127.0.0.1") for header in UNNAMED.values())]
)
async def test_proxy_unknown_local_and_unspec_are_served_by_the_connections_own_address_and_others_by_their_client_s(
    node: Node, header: bytes, address: str
) -> None:
    here = TCP4ClientEndpoint(clock, "127.0.0.1", await port_of(node, "haproxy:tcp:0:interface=127.0.0.1"))
    client = await greeted(await node.wire(header + handshake(token=TOKEN), here))
    assert [connection.address for connection in node.server.connections] == [address]
    await client.heard()


@pytest_twisted.ensureDeferred
async def test_a_header_that_comes_byte_by_byte_is_as_good(node: Node) -> None:
    number = await port_of(node, "haproxy:tcp:0:interface=127.0.0.1")

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", number), timeout=20) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in UNNAMED["v1 UNKNOWN"] + request("GET", "/health/live", None):
                wire.sendall(bytes([byte]))
            return wire.recv(12)

    assert await deferToThread(talk) == b"HTTP/1.1 200"


@pytest_twisted.ensureDeferred
async def test_a_connection_without_a_header_is_dropped(node: Node) -> None:
    here = TCP4ClientEndpoint(clock, "127.0.0.1", await port_of(node, "haproxy:tcp:0:interface=127.0.0.1"))
    wire = await node.wire(request("GET", "/health/live", None), here)
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_the_header_comes_before_tls_where_both_are_spoken(node: Node, tmp_path: Path) -> None:
    """As balancers send it: curl's --haproxy-protocol."""
    (tmp_path / "authority.pem").write_bytes(authority().certificate_pem())
    certificate, key = issue().write(tmp_path, "server")
    number = await port_of(node, "haproxy:tls:0:interface=127.0.0.1", Tls(certificate=certificate, key=key))
    url = f"https://localhost:{number}/health/live"
    command = ["curl", "-sS", "-m", "20", "--haproxy-protocol", "--cacert", str(tmp_path / "authority.pem"), url]
    answer = await deferToThread(subprocess.run, command, capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ('{"status":"live"}', "")


HAPROXY = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    option log-health-checks
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend front
    bind 127.0.0.1:{front}
    default_backend nexus
backend nexus
    option httpchk GET /health/live
    server node 127.0.0.1:{node} {send} check inter 100ms fall 1
"""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
async def test_haproxy_s_own_checks_pass_and_its_clients_keep_their_addresses(node: Node, tmp_path: Path, send: str) -> None:
    """A check has no client: HAProxy sends `PROXY UNKNOWN` or LOCAL with it."""
    number, front = await port_of(node, "haproxy:tcp:0:interface=127.0.0.1"), free_port()
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(front=front, node=number, send=send))
    haproxy = Child("haproxy", tmp_path)
    haproxy.spawn(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], os.environ, tmp_path)
    try:
        await until(lambda: "Health check" in haproxy.output, 20, f"for a check:\n{haproxy.output}")
        assert "check passed, code: 200" in haproxy.output
        there = TCP4ClientEndpoint(clock, "127.0.0.1", front, bindAddress=("127.0.0.2", 0))
        client = await greeted(await node.wire(handshake(token=TOKEN), there))
        assert [connection.address for connection in node.server.connections] == ["127.0.0.2"]
        await client.heard()
        client.wire.drop()
        await node.connected(0)
    finally:
        haproxy.discard()
