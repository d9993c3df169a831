"""The log at level info about clients of a live node, over real sockets."""

from __future__ import annotations

import pytest_twisted

from nexus_tw.model.settings import Jwt, Role, Settings
from nexus_tw.runtime.client_log import LINES
from tests.auth.tokens import ISSUER, SECRET, claims, sign
from tests.client import EVENTS, Client, handshake
from tests.lines import lines as lines
from tests.node import TOKEN, Node, Nodes, clock, with_roles


async def turned_away(node: Node, request: bytes) -> None:
    wire = await node.wire(request)
    assert await Client(wire, await wire.response()).closed() == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
async def test_the_log_says_at_info_who_called_which_command_with_what_outcome_and_no_parameters(
    nodes: Nodes, lines: list[str]
) -> None:
    node = await nodes(with_roles(alice=Role(call=("x.**",)), agent=Role(register=("**",), telemetry=("**",))))
    alice, agent = await node.client("alice-token"), await node.client("agent-token")
    await agent.ask(type="register", agentId="one", commands=["x.y"])

    async def outcome(**members: object) -> str:
        lines.clear()
        alice.send(type="command", parameters={"password": "hunter2"}, **{"command": "x.y", "commandId": "c", **members})
        if members.get("status"):
            await agent.expect("command")
            agent.send(type="command_result", commandId=members["commandId"], status=members["status"], message="hunter2")
        while (await alice.receive())["type"] not in ("error", "command_result"):
            pass
        (line,) = lines
        return line

    assert await outcome(commandId="c-1", status="success") == "alice called x.y: completed (c-1)"
    assert await outcome(commandId="c-2", status="error") == "alice called x.y: failed: failed (c-2)"
    assert await outcome(commandId="c-3", target="away") == "alice called x.y: refused: agent_offline (c-3)"
    assert await outcome(commandId="c-3", target="away", ttl=0.01) == "alice called x.y: expired: expired (c-3)"
    assert await outcome(command="z") == "alice called z: refused: forbidden (c)"
    assert await outcome(command="x.z", commandId=None) == "alice called x.z: refused: no_such_command"
    assert await outcome(commandId="c-1", command="x.other") == "alice called x.other: refused: invalid_message (c-1)"
    alice.send(type="command", command="x.y", commandId="c-9", target="away", ttl=60)
    lines.clear()
    assert (await alice.ask(type="cancel", commandId="c-9"))["code"] == "cancelled"
    assert lines == ["alice called x.y: cancelled: cancelled (c-9)"]
    assert not [line for line in lines if "hunter2" in line]


@pytest_twisted.ensureDeferred
async def test_the_log_says_why_a_token_was_refused_which_rule_and_never_the_token(nodes: Nodes, lines: list[str]) -> None:
    now = clock.seconds()
    issuer = Jwt(issuer=ISSUER, audience="nexus", algorithms=("HS256",), secret=SECRET)
    settings = with_roles(agent=Role())
    node = await nodes(Settings(roles=settings.roles, auth=type(settings.auth)(keys=settings.auth.keys, jwt=(issuer,))))
    of_issuer = f"its token of {ISSUER}: "
    for token, rule in (
        (None, "it showed no token"),
        ("hunter2", "its token is no API key, and of no configured issuer"),
        ("x" * 8193, "its token is empty, too long or holds what no token holds"),
        (sign(claims(exp=now - 1)), f"{of_issuer}it has expired"),
        (sign(claims(exp=now + 60), key="other" * 9), f"{of_issuer}its signature is wrong"),
        (sign(claims(exp=now + 60, aud="other")), f"{of_issuer}its aud is another"),
        (sign(claims(exp=now + 60, role="chief")), f"{of_issuer}its role names no configured role"),
        (sign(claims(exp=now + 60, iss="https://other/")), "its token is no API key, and of no configured issuer"),
    ):
        lines.clear()
        if token is None or len(token) < 8000:
            await turned_away(node, handshake(token=token))
            assert (await node.http("POST", EVENTS, token, b"[]")).status == 401
            assert lines == [f"A client at 127.0.0.1 was refused: {rule}"] * 2
        else:
            assert (await node.http("POST", EVENTS, token, b"[]")).status == 401
            assert lines == [f"A client at 127.0.0.1 was refused: {rule}"]
        assert token is None or not [line for line in lines if token in line or token.rpartition(".")[2] in line]


@pytest_twisted.ensureDeferred
async def test_nobody_can_flood_the_log_and_what_is_left_out_is_counted(nodes: Nodes, lines: list[str]) -> None:
    node = await nodes()
    for _ in range(LINES + 5):
        assert (await node.http("POST", EVENTS, "wrong", b"[]")).status == 401
    assert lines == [
        *["A client at 127.0.0.1 was refused: its token is no API key, and of no configured issuer"] * LINES,
        "Further lines about refusals of 127.0.0.1 are left out for up to a minute",
    ]
    client = await node.client()
    for number in range(LINES + 5):
        await client.ask(type="command", command="x", commandId=f"c-{number}")
    assert len(lines) == 2 * (LINES + 1)
    shown = (await node.http("GET", "/metrics", TOKEN)).body.decode()
    assert 'nexus_log_lines_withheld_total{about="refusals"} 5.0' in shown
    assert 'nexus_log_lines_withheld_total{about="calls"} 5.0' in shown
