"""Clients that authenticate by HELLO, and record the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from twisted.internet.task import Clock

from nexus_tw.auth import Authenticators
from nexus_tw.auth.wamp.introductions import Introduction, Introductions, Refusal, Welcome
from nexus_tw.interfaces.plugins import IAuthenticator
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Auth, Limits, Realm, Role

FAILED = "wamp.error.authentication_failed"
VIOLATION = "wamp.error.protocol_violation"
NO_METHOD = "wamp.error.no_matching_auth_method"
DENIED = "wamp.error.authorization_denied"
NO_REALM = "wamp.error.no_such_realm"

PATIENCE = 10.0
ROLES = {
    "guest": Role(subscribe=("news.**",), realms=("realm1",)),
    "user": Role(call=("**",), realms=("realm1",)),
    "other": Role(realms=("realm2",)),
    "both": Role(realms=("realm1", "realm2")),
    "roamer": Role(realms=("*",)),
}


class Attempt:
    """One client's authentication: after the HELLO, exactly one of `challenge`, `welcome` and `refusal` is set."""

    def __init__(self) -> None:
        self.challenges: list[tuple[str, dict[str, Any]]] = []
        self.ends: list[Welcome | Refusal] = []
        self.introduction: Introduction | None = None

    @property
    def extra(self) -> dict[str, Any]:
        """The extra of the challenge."""
        assert not self.ends, self.ends
        ((_, extra),) = self.challenges
        return extra

    @property
    def method(self) -> str:
        ((method, _),) = self.challenges
        return method

    @property
    def welcome(self) -> Welcome:
        (end,) = self.ends
        assert isinstance(end, Welcome), (end, end.args)
        return end

    @property
    def refusal(self) -> Refusal:
        (end,) = self.ends
        assert isinstance(end, Refusal), end
        return end

    @property
    def uri(self) -> str:
        return self.refusal.uri

    def answer(self, signature: str, extra: Mapping[str, Any] | None = None) -> Attempt:
        assert self.introduction is not None
        self.introduction.authenticate(signature, extra or {})
        return self


class House:
    """A server's introductions, with two realms in addition to `nexus`."""

    def __init__(
        self,
        auth: Auth | None = None,
        realms: Mapping[str, Realm] | None = None,
        authenticators: Sequence[IAuthenticator] = (),
        seed: int = 1,
    ) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.authenticators = Authenticators(authenticators)
        self.introductions = Introductions(
            {"nexus": Realm(), "realm1": Realm(), "realm2": Realm(), **(realms or {})},
            auth or Auth(),
            ROLES,
            self.authenticators,
            self.metrics,
            self.clock,
            Limits(auth=PATIENCE),
            Random(seed).randbytes,
        )

    def hello(
        self, *authmethods: str, realm: str = "realm1", principal: Principal | None = None, session: int = 7, **details: Any
    ) -> Attempt:
        """Send a HELLO with these details, without the member `authmethods` if there are none."""
        if authmethods:
            details["authmethods"] = list(authmethods)
        attempt = Attempt()
        attempt.introduction = self.introductions.introduce(
            realm,
            details,
            session,
            principal,
            "127.0.0.1",
            lambda method, extra: attempt.challenges.append((method, extra)),
            attempt.ends.append,
            attempt.ends.append,
        )
        assert len(attempt.challenges) + len(attempt.ends) == 1
        return attempt

    @property
    def refused(self) -> dict[str, int]:
        """The counted refusals by reason."""
        return dict(self.metrics.connections_refused)
