"""WAMP calls that nobody answers: what they carried is not held, and their callers are told when the callee goes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.model.settings import Limits, Realm, Role, Settings
from tests.client import TEXT, Client, frame, handshake
from tests.node import Node, Nodes, until

HELLO: list[Any] = [1, "open", {"roles": {"caller": {}, "callee": {}}}]
ARGUMENT = "x" * 100_000
CALLS = 50  # of each caller
CALLERS = 4


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def session(node: Node) -> Client:
    wire = await node.wire(handshake(protocols=["wamp.2.json"]))
    client = Client(wire, await wire.response())
    assert client.response.status == 101
    say(client, HELLO)
    assert (await heard(client))[0] == 2
    return client


def say(client: Client, message: list[Any]) -> None:
    client.write(frame(TEXT, json.dumps(message).encode()))


async def heard(client: Client) -> Any:
    return json.loads(await client.message())


@pytest_twisted.ensureDeferred
async def test_calls_that_are_not_answered_hold_nothing_of_their_arguments_and_fail_when_the_callee_goes(
    nodes: Nodes, traced: None
) -> None:
    """Of a call that the callee has, it is only remembered who waits for it."""
    guest = Role(call=("**",), register=("**",), realms=("open",))
    node = await nodes(Settings(limits=Limits(call=0), roles={"guest": guest}, realms={"open": Realm(anonymous="guest")}))
    callee = await session(node)
    say(callee, [64, 1, {}, "hole"])
    assert (await heard(callee))[0] == 65
    callers = [await session(node) for _ in range(CALLERS)]
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1, CALLS + 1):
        for caller in callers:
            say(caller, [48, number, {}, "hole", [ARGUMENT]])
            asked = await heard(callee)
            assert asked[0] == 68 and asked[4] == [ARGUMENT]
    del asked
    grown = tracemalloc.get_traced_memory()[0] - before
    assert grown < CALLERS * CALLS * len(ARGUMENT) / 10
    assert any("invocations" in name for name in node.left())
    callee.drop()
    for caller in callers:
        errors = [await heard(caller) for _ in range(CALLS)]
        assert sorted(error[2] for error in errors) == list(range(1, CALLS + 1))
        assert {(error[0], error[1], error[4]) for error in errors} == {(8, 48, "wamp.error.canceled")}
    await until(lambda: not any("invocations" in name for name in node.left()))
