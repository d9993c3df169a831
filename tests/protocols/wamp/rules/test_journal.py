"""The log at level info about WAMP clients, over real sockets."""

from __future__ import annotations

import pytest
import pytest_twisted

from nexus_tw.model.settings import Role
from tests.lines import lines as lines
from tests.node import with_roles
from tests.protocols.wamp.rules.conftest import Places
from tests.wamp.peer import Refused


@pytest_twisted.ensureDeferred
async def test_the_log_says_at_info_who_called_which_procedure_with_what_outcome(places: Places, lines: list[str]) -> None:
    place = await places(with_roles(alice=Role(call=("com.**",)), callee=Role(register=("**",))))
    callee, alice = await place.join(token="callee-token"), await place.join(token="alice-token")
    await callee.register("com.double")
    request = alice.begin("com.double", [21])
    callee.give(await callee.invocation(), [42])
    assert (await alice.outcome(request)).args == [42]
    request = alice.begin("com.double", ["hunter2"])
    callee.fail(await callee.invocation(), "com.error", ["hunter2"])
    with pytest.raises(Refused):
        await alice.outcome(request)
    for procedure in ("com.nobody", "org.forbidden"):
        with pytest.raises(Refused):
            await alice.call(procedure)
    alice.begin("com.double", [1])
    await callee.invocation()
    alice.drop()
    await place.node.connected(1)
    assert lines == [
        "alice called com.double: completed",
        "alice called com.double: failed: failed",
        "alice called com.nobody: refused: no_such_command",
        "alice called org.forbidden: refused: forbidden",
        "alice called com.double: cancelled: its caller left",
    ]


@pytest_twisted.ensureDeferred
async def test_the_log_says_why_a_wamp_client_was_refused_which_rule_and_never_what_it_showed(
    places: Places, lines: list[str]
) -> None:
    place = await places(with_roles(alice=Role()))

    async def rule(ticket: str, realm: str = "nexus", **details: object) -> str:
        lines.clear()
        peer = await place.connect(token=None)
        with pytest.raises(Refused):
            await peer.join(realm, ticket, authmethods=["ticket"], **details)
        (line,) = lines
        return line.removeprefix("A client at 127.0.0.1 was refused: ")

    failed = "wamp.error.authentication_failed"
    assert await rule("hunter2", authid="alice") == f"{failed}: its token is no API key, and of no configured issuer"
    assert await rule("alice-token", authid="bob") == f"{failed}: its ticket is another one's than its authid's"
    assert (await rule("alice-token", realm="other")).startswith("wamp.error.no_such_realm: ")
