"""Tokens in the query, as people's programs write them there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted

from tests.client import Client, handshake
from tests.node import Nodes, until

BASE64 = "p+Pb7/Q3v2A+kq/0Zc1fEw4Z+bGx1yJd2m0cRr8s9+A="  # as `openssl rand -base64 32` makes them
ALL = "".join(map(chr, range(0x21, 0x7F)))  # every character that is legal in a token
LITERAL = "".join(sorted(set(ALL) - set("%&#")))  # those that need not be encoded

WS = """
const socket = new (require("ws"))(process.argv[1]);
socket.on("message", (data) => { console.log(String(data)); process.exit(0); });
"""


async def output(directory: Path, *command: str) -> str:
    """Return the output of a program that runs beside the node."""
    with (directory / "output").open("wb") as target:
        process = subprocess.Popen(command, stdout=target, cwd=Path(__file__).parents[1])
    try:
        await until(lambda: process.poll() is not None)
    finally:
        process.kill()
        process.wait()
    return (directory / "output").read_text()


@pytest_twisted.ensureDeferred
async def test_a_plus_in_a_token_that_is_concatenated_to_the_address_is_a_plus(nodes: Nodes) -> None:
    """By curl and by Node's `ws`, which send the query as they were given it."""
    node = await nodes(token=BASE64)
    where = f"127.0.0.1:{node.port}"
    status = await output(
        nodes.directory, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{where}/metrics?token={BASE64}"
    )
    assert status == "200"
    first = await output(nodes.directory, "node", "-e", WS, f"ws://{where}/api/v1/events?token={BASE64}")
    assert json.loads(first)["type"] == "connected"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("token", "written"),
    [(ALL, quote(ALL, safe="")), (ALL, quote(ALL, safe=LITERAL)), (LITERAL, LITERAL), ("a%zz+%", "a%zz+%")],
    ids=["encoded", "as-little-as-possible", "literal", "no-encoding"],
)
async def test_all_characters_that_are_legal_in_a_token_come_through_the_query(nodes: Nodes, token: str, written: str) -> None:
    node = await nodes(token=token)
    await node.client(None, target=f"/api/v1/events?x=1&token={written}")
    await node.client(token)
    for target in (f"/metrics?token={written}", f"/metrics?token=&token={written}&x=+"):
        assert (await node.http("GET", target, None)).status == 200
    wire = await node.wire(handshake(f"/api/v1/events?token={written}x"))
    assert await Client(wire, await wire.response()).closed() == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
async def test_other_members_of_a_query_have_a_space_for_a_plus(nodes: Nodes) -> None:
    """As pages write them by URLSearchParams."""
    node = await nodes(token="a+b")
    assert (await node.http("GET", "/metrics?token=a%20b", None)).status == 401
    assert (await node.http("GET", "/metrics?t+oken=a+b", None)).status == 401
    assert (await node.http("GET", "/metrics?token=a+b", None)).status == 200
