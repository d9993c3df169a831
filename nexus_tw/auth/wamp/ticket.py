"""WAMP's tickets (specification, ticket-based authentication): a ticket is a token, as at an upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nexus_tw.auth import Authenticators, rule_of
from nexus_tw.auth.wamp.methods import Hello, Refusal, Round, Welcome, unauthorized
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal

TICKET: Final = "ticket"


def check_join(principal: Principal, realm: str) -> None:
    """Raise `Refusal` if this principal may not join that realm."""
    if not principal.may_join(realm):
        raise Refusal("wamp.error.authorization_denied", "Your role may not join this realm")


class Ticket:
    """Asks the same authenticators as for tokens: API keys, JSON Web Tokens, the operator's own."""

    def __init__(self, authenticators: Authenticators) -> None:
        self._authenticators = authenticators

    def begin(self, hello: Hello) -> Round:
        return _Shown(self._authenticators, hello)


class _Shown:
    """A challenge that waits for its ticket."""

    def __init__(self, authenticators: Authenticators, hello: Hello) -> None:
        self._authenticators = authenticators
        self._hello = hello
        self.extra: dict[str, Any] = {}

    async def answer(self, signature: str, extra: Mapping[str, Any]) -> Welcome:
        try:
            principal = await self._authenticators.authenticate(Credentials(signature))
        except NexusError as error:
            raise unauthorized(rule_of(error), error.code, error.kind.retryable) from None
        if self._hello.authid not in (None, principal.subject):
            raise unauthorized("its ticket is another one's than its authid's")
        check_join(principal, self._hello.realm)
        return Welcome(principal, TICKET, "token", {})
