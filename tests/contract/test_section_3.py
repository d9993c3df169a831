"""Section 3 of the contract: who is calling, on a live node."""

from __future__ import annotations

import pytest
import pytest_twisted

from nexus_tw.model.settings import Auth, Heartbeat, Jwt, Role, Settings
from tests.auth.tokens import ISSUER, SECRET, claims, sign
from tests.client import Client, handshake
from tests.node import TOKEN, Node, Nodes, clock

AGENT = Role(subscribe=("task.**",), telemetry=("{subject}",))
JWT = Jwt(issuer=ISSUER, audience="nexus", algorithms=("HS256",), secret=SECRET)
SETTINGS = Settings(roles={"agent": AGENT}, auth=Auth(jwt=(JWT,)), heartbeat=Heartbeat(interval=0.2, timeout=60))


def minted(seconds: float = 60, **changes: object) -> str:
    return sign(claims(exp=clock.seconds() + seconds, **changes))


async def refused(node: Node, token: str | None) -> bool:
    wire = await node.wire(handshake(token=token))
    return await Client(wire, await wire.response()).closed() == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
async def test_a_json_web_token_carries_subject_and_role(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    token = minted()
    for client in (
        await node.client(token),
        await node.client(None, target=f"/api/v1/events?token={token}"),
        await node.client(None, protocols=["nexus.v1.json", f"nexus.bearer.{token}"]),
    ):
        assert client.welcome["user"] == {"subject": "agent-001", "role": "agent"}
        assert (await client.ask(type="telemetry", agentId="agent-001", metrics={"x": 1}))["type"] == "telemetry_ack"
        assert (await client.ask(type="telemetry", agentId="agent-002", metrics={"x": 1}))["code"] == "forbidden"


@pytest_twisted.ensureDeferred
async def test_the_token_of_the_start_is_valid_beside_the_configured_ones(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    assert (await node.client(TOKEN)).welcome["user"]["role"] == "admin"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "changes", [{"exp": None}, {"role": "stranger"}, {"role": "admin"}, {"iss": "https://other/"}, {"sub": ""}]
)
async def test_a_token_must_expire_and_name_a_configured_role(nodes: Nodes, changes: dict[str, object]) -> None:
    node = await nodes(SETTINGS)
    good: dict[str, object] = {"exp": clock.seconds() + 60}
    assert await refused(node, sign(claims(**{**good, **changes})))


@pytest_twisted.ensureDeferred
async def test_no_wrong_and_expired_tokens_are_closed_with_1008_and_401(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    for token in (None, "wrong", minted(-1), minted() + "x"):
        assert await refused(node, token)
        assert (await node.http("POST", "/api/v1/events", token, b"{}")).status == 401


@pytest_twisted.ensureDeferred
async def test_expiry_holds_on_a_live_connection(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    client, other = await node.client(minted(0.4)), await node.client(minted(60))
    await client.subscribe("task.updated")
    assert await client.closed() == (4500, "Token expired")
    assert await other.heard() == []
    await node.connected(1)


@pytest_twisted.ensureDeferred
async def test_a_jwt_with_the_subject_admin_does_not_read_or_cancel_the_start_tokens_commands(nodes: Nodes) -> None:
    node = await nodes(SETTINGS)
    admin = await node.client()
    admin.send(type="command", command="x", commandId="c-1", target="away", ttl=60)
    namesake = await node.client(sign(claims(sub="admin", exp=clock.seconds() + 60)))
    assert (await namesake.ask(type="cancel", commandId="c-1"))["code"] == "forbidden"
    assert (await admin.ask(type="cancel", commandId="c-1"))["code"] == "cancelled"
