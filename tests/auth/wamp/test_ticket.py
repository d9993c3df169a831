"""Tickets: tokens of all kinds, shown in AUTHENTICATE."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from autobahn.wamp.auth import AuthTicket
from autobahn.wamp.types import Challenge
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from nexus_tw.auth import builtin
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Auth, Jwt, Key
from nexus_tw.net.https import https_agent
from tests.auth.tokens import ISSUER, NOW, SECRET, claims, sign
from tests.auth.wamp.hello import DENIED, FAILED, PATIENCE, ROLES, House

AUTH = Auth(
    keys=(
        Key("ann", "user", "sha256:" + sha256(b"ticket-of-ann").hexdigest()),
        Key("bob", "other", "sha256:" + sha256(b"ticket-of-bob").hexdigest()),
    ),
    jwt=(Jwt(ISSUER, "nexus", ("HS256",), secret=SECRET),),
)


@implementer(IAuthenticator)
class Asks:
    """An authenticator that has to ask somebody else."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Principal | None]] = []
        self.cancelled = 0

    def authenticate(self, credentials: Credentials) -> Deferred[Principal | None]:
        def cancelled(_: object) -> None:
            self.cancelled += 1

        self.asked.append(Deferred(cancelled))
        return self.asked[-1]


def house() -> House:
    clock = Clock()
    clock.advance(NOW)
    return House(AUTH, authenticators=builtin(AUTH, ROLES, "start", clock, https_agent(clock)))


def shown(ticket: str, extra: dict[str, Any]) -> str:
    return str(AuthTicket(ticket=ticket).on_challenge(None, Challenge("ticket", extra)))


@pytest.mark.parametrize("authid", ["ann", None, ""])
def test_a_key_is_a_ticket(authid: str | None) -> None:
    attempt = house().hello("ticket", authid=authid)
    assert attempt.extra == {}
    welcome = attempt.answer(shown("ticket-of-ann", {})).welcome
    assert (welcome.principal.subject, welcome.principal.role) == ("ann", "user")
    assert (welcome.authmethod, welcome.authprovider, welcome.authextra) == ("ticket", "token", {})


def test_a_jwt_is_a_ticket_and_expires_as_everywhere() -> None:
    token = sign(claims(sub="agent-1", role="user"))
    principal = house().hello("ticket", authid="agent-1").answer(token).welcome.principal
    assert (principal.subject, principal.role, principal.expires) == ("agent-1", "user", NOW + 60)


def test_the_token_of_the_start_is_a_ticket_of_the_administrator() -> None:
    principal = house().hello("ticket", realm="realm2").answer("start").welcome.principal
    assert (principal.subject, principal.admin) == ("admin", True)


@pytest.mark.parametrize("ticket", ["", "wrong", "ticket-of-ann ", "ticket-of-ann\n", "tickét", "\ud800", "x" * 99999, "a.b.c"])
def test_a_wrong_ticket(ticket: str) -> None:
    assert house().hello("ticket", authid="ann").answer(ticket).uri == FAILED


def test_a_right_ticket_of_somebody_else_is_a_wrong_one() -> None:
    assert house().hello("ticket", authid="ann", realm="realm2").answer("ticket-of-bob").uri == FAILED
    assert house().hello("ticket", authid="Ann").answer("ticket-of-ann").uri == FAILED


def test_a_right_ticket_of_a_role_that_may_not_join() -> None:
    at = house()
    assert at.hello("ticket", authid="bob").answer("ticket-of-bob").uri == DENIED
    assert at.refused == {"authorization_denied": 1}


# --- authenticators that take their time --------------------------------------------------------------------------------

ANN = Principal("ann", "user", ROLES["user"])


def test_the_answer_may_come_later() -> None:
    asks = Asks()
    attempt = House(authenticators=[asks]).hello("ticket", authid="ann").answer("ticket")
    assert attempt.ends == []
    asks.asked[0].callback(ANN)
    assert attempt.welcome.principal is ANN


def test_clients_that_ask_at_the_same_time_get_their_own_answers() -> None:
    asks, bob = Asks(), Principal("bob", "both", ROLES["both"])
    house = House(authenticators=[asks])
    one, two, three = (house.hello("ticket", session=number).answer(f"ticket-{number}") for number in (1, 2, 3))
    asks.asked[2].callback(None)
    asks.asked[1].callback(bob)
    asks.asked[0].callback(ANN)
    assert (one.welcome.principal, two.welcome.principal, three.uri) == (ANN, bob, FAILED)


def test_one_that_takes_too_long_is_not_waited_for() -> None:
    asks = Asks()
    house = House(authenticators=[asks])
    attempt = house.hello("ticket", authid="ann").answer("ticket")
    house.clock.advance(PATIENCE - 0.1)
    assert attempt.ends == []
    house.clock.advance(0.1)
    assert (attempt.uri, attempt.refusal.message) == (FAILED, "It took too long to find out who you are")
    assert attempt.refusal.passing, "it is no fault of the client's"
    assert asks.cancelled == 1
    assert house.refused == {"timeout": 1}
    assert house.clock.getDelayedCalls() == []


def test_nobody_is_asked_any_more_for_a_client_that_is_gone() -> None:
    asks = Asks()
    house = House(authenticators=[asks])
    attempt = house.hello("ticket", authid="ann").answer("ticket")
    assert attempt.introduction is not None
    attempt.introduction.abandon()
    assert (attempt.ends, asks.cancelled, house.refused) == ([], 1, {})
    assert house.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NexusError("unauthorized", "Unauthorized"), "unauthorized"),
        (NexusError("timeout", "The key set did not come"), "timeout"),
        (RuntimeError("ticket"), "unauthorized"),
    ],
)
def test_one_that_fails_lets_nobody_in(error: Exception, reason: str) -> None:
    asks = Asks()
    house = House(authenticators=[asks])
    attempt = house.hello("ticket", authid="ann").answer("ticket")
    asks.asked[0].errback(error)
    assert (attempt.uri, attempt.refusal.message) == (FAILED, "Wrong credentials")
    assert house.refused == {reason: 1}


def test_a_fault_of_who_is_told_does_not_stay_unseen(logged: list[str]) -> None:
    """A session that raises in its callback: the log says so."""
    house = House()

    def raising(_: object) -> None:
        raise RuntimeError("fault")

    introduction = house.introductions.introduce(
        "realm1", {"authmethods": ["ticket"]}, 1, None, "127.0.0.1", lambda method, extra: None, raising, raising
    )
    introduction.authenticate("ticket", {})
    refused = "wamp.error.authentication_failed: its token is no API key, and of no configured issuer"
    assert logged == [
        f"info: A client at 127.0.0.1 was refused: {refused}",
        "critical: Introducing a client (RuntimeError)",
    ]
