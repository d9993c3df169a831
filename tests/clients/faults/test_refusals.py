"""Attempts that are refused: by nobody there, by a proxy, by the server."""

from __future__ import annotations

import time

import pytest_twisted

from tests.auth.tokens import ISSUER, sign
from tests.clients.faults.bed import Bed, Scenario, scenarios
from tests.clients.faults.conftest import SideBySide
from tests.clients.faults.program import PATIENCE
from tests.clients.faults.wire import Wire, response
from tests.e2e.server import until

AFTER = 2  # s of Retry-After
PORTAL = "<html><body>Welcome to our hotel. Please accept the terms of use.</body></html>"
LIFE = 4  # s of a token that expires soon
WRONG = "a-wrong-token"


def token(seconds: float) -> str:
    """Return a token that expires in so many seconds."""
    return sign({"iss": ISSUER, "aud": "nexus", "sub": "eve", "role": "watcher", "exp": time.time() + seconds})


async def closed_port(bed: Bed) -> None:
    client = await bed.watch()
    await bed.wire.refuse()
    for _ in range(2):
        await client.fact("state", after=len(client.facts), state="connecting")
    bed.wire.listen()
    await bed.back(client, 1)
    await bed.check(client)


async def answered(bed: Bed, *answers: bytes, after: float = 0.0) -> None:
    """Each is the answer to one attempt."""
    client = await bed.watch()
    for answer in answers:
        arrivals = len(bed.wire.arrivals)
        bed.wire.answer = answer
        bed.wire.reset()
        await until(lambda arrivals=arrivals: len(bed.wire.arrivals) > arrivals, PATIENCE, "for an attempt")
        bed.wire.answer = None
        await bed.back(client, arrivals + 1)
        assert len(bed.wire.arrivals) == arrivals + 2
        if client.language == "python":
            # A WebSocket of JavaScript does not tell the answer to its upgrade.
            assert bed.wire.arrivals[-1] - bed.wire.arrivals[-2] >= after
    await bed.check(client)


async def bad_gateway_and_captive_portal(bed: Bed) -> None:
    await answered(bed, response(502, "Bad Gateway"), response(200, "OK", PORTAL, "text/html"))


async def no_http(bed: Bed) -> None:
    await answered(bed, b"\x16\x03\x01 what is this?\r\n\r\n", b"")


async def too_many_requests(bed: Bed) -> None:
    await answered(bed, response(429, "Too Many Requests", Retry_After=AFTER), after=AFTER)


async def service_unavailable(bed: Bed) -> None:
    await answered(bed, response(503, "Service Unavailable", Retry_After=AFTER), after=AFTER)


async def redirect(bed: Bed) -> None:
    """It would carry the token elsewhere."""
    elsewhere = Wire(bed.node.port)
    try:
        await answered(bed, response(302, "Found", Location=f"{elsewhere.url}/api/v1/events"))
        assert elsewhere.arrivals == []
    finally:
        elsewhere.discard()


async def fixed_token(bed: Bed) -> None:
    client = bed.program(token=WRONG)
    assert (await client.fact("state", state="closed"))["error"] == "Unauthorized"
    await client.close()
    assert len(bed.wire.arrivals) == 1
    assert WRONG not in client.output


async def renewed_token(bed: Bed) -> None:
    client = bed.program(token=None)
    for each in (WRONG, bed.node.token):
        client.tell("token", token=each)
    await client.fact("state", state="connected")
    await client.close()
    assert len(bed.wire.arrivals) == 2
    bed.check_attempts(bed.wire)


async def same_token_again(bed: Bed) -> None:
    """A refused token is not sent again."""
    client = bed.program(token=None)
    for each in (WRONG, WRONG):
        client.tell("token", token=each)
    assert (await client.fact("state", state="closed"))["error"] == "Unauthorized"
    await client.close()
    assert len(bed.wire.arrivals) == 1


async def expired_token(bed: Bed) -> None:
    """In mid-session."""
    client = bed.watcher(token=None)
    first = client.facts.index(await client.fact("token"))
    client.tell("token", token=token(LIFE))
    await bed.begin(client)
    await client.fact("token", after=first + 1)
    client.tell("token", token=token(3600))
    await bed.back(client, 1)
    await bed.check(client)
    assert len(bed.wire.arrivals) == len([fact for fact in client.facts if fact["fact"] == "token"]) == 2


@scenarios(
    closed_port,
    bad_gateway_and_captive_portal,
    no_http,
    too_many_requests,
    service_unavailable,
    redirect,
    fixed_token,
    renewed_token,
    same_token_again,
    expired_token,
)
@pytest_twisted.ensureDeferred
async def test_clients_come_back_where_they_may(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)
