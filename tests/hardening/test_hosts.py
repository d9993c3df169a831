"""DNS rebinding: a page whose name was made to point to this server is of the same origin as its Host, and still not let in."""

from __future__ import annotations

import pytest_twisted

from nexus_tw.settings import Http, Realm, Role, Settings
from tests.client import handshake
from tests.node import TOKEN, Nodes

ROLES = {"guest": Role(subscribe=("**",), realms=("open",))}
REALMS = {"open": Realm(anonymous="guest")}


def asked_at(host: str) -> bytes:
    """A page's upgrade for WAMP, at this host."""
    lines = (f"Host: {host}", f"Origin: http://{host}")
    return handshake(protocols=("wamp.2.json",), headers=lines, drop=("Host",))


@pytest_twisted.ensureDeferred
async def test_a_page_of_another_name_is_not_let_in_where_the_names_are_listed(nodes: Nodes) -> None:
    node = await nodes(Settings(http=Http(hosts=("nexus.example",)), roles=ROLES, realms=REALMS))
    for host, status in (
        ("evil.example:3000", 403),
        ("nexus.example", 101),
        ("127.0.0.1:3000", 101),
        ("localhost:3000", 101),
    ):
        wire = await node.wire(asked_at(host))
        assert (await wire.response()).status == status, host
    wire = await node.wire(f"GET /metrics?token={TOKEN} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
    response = await wire.response()
    assert response.status == 403 and "http.hosts" in response.json["detail"]
    assert node.metrics.connections_refused["host"] == 2


@pytest_twisted.ensureDeferred
async def test_without_a_list_any_host_is_answered(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token=TOKEN, headers=("Host: any.example", "Origin: http://any.example"), drop=("Host",)))
    assert (await wire.response()).status == 101
