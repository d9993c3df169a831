"""Introductions: authentication of WAMP sessions (specification, authentication methods).

HELLO is answered by WELCOME, CHALLENGE or ABORT; after CHALLENGE, AUTHENTICATE by WELCOME or ABORT. A client that presented a
valid token or certificate at the upgrade is already authenticated.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.auth import REVOKED, Authenticators
from nexus_tw.auth.wamp import cryptosign, scram, wampcra
from nexus_tw.auth.wamp.anonymous import Anonymous
from nexus_tw.auth.wamp.methods import (
    ANONYMOUS,
    Decoys,
    Hello,
    Method,
    RandomBytes,
    Refusal,
    Round,
    Unfit,
    Welcome,
    unauthorized,
)
from nexus_tw.auth.wamp.ticket import TICKET, Ticket, check_join
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Auth, Limits, Realm, Role
from nexus_tw.runtime.client_log import ClientLog

__all__ = ["Introduction", "Introductions", "Refusal", "Welcome", "methods_of"]

TRANSPORT: Final = "transport"  # the authmethod of a client that was authenticated before HELLO

Methods = Mapping[str, Method]
"""The methods of a realm by their name in `authmethods`."""


def methods_of(
    realms: Mapping[str, Realm],
    auth: Auth,
    roles: Mapping[str, Role],
    authenticators: Authenticators,
    clock: IReactorTime,
    random: RandomBytes = secrets.token_bytes,
    decoys: Decoys | None = None,
) -> dict[str, Methods]:
    """Return the methods of each realm. Raise `ConfigError`, naming the entry of `[auth]`, if one cannot be used."""
    local = {"admin": ADMIN, **roles}
    decoys = decoys or Decoys(random(32))
    signers = wampcra.users(auth.wampcra, local, realms)
    keys = cryptosign.users(auth.cryptosign, local, realms)
    provers = scram.users(auth.scram, local, realms)
    found: dict[str, Methods] = {}
    for name, realm in realms.items():
        # A ticket may be of any authenticator: only they know which tokens they accept.
        methods: dict[str, Method] = {TICKET: Ticket(authenticators)}
        if realm.anonymous:
            methods[ANONYMOUS] = Anonymous(realm.anonymous, local[realm.anonymous], random)
        if signers[name]:
            methods[wampcra.WAMPCRA] = wampcra.WampCra(signers[name], decoys, clock, random)
        if keys[name]:
            methods[cryptosign.CRYPTOSIGN] = cryptosign.Cryptosign(keys[name], random)
        if provers[name]:
            for spelling in (scram.SPECIFICATION, scram.AUTOBAHN):
                methods[spelling.method] = scram.Scram(provers[name], spelling, decoys, random)
        found[name] = methods
    return found


class Introductions:
    """Authenticates the clients of all realms."""

    def __init__(
        self,
        realms: Mapping[str, Realm],
        auth: Auth,
        roles: Mapping[str, Role],
        authenticators: Authenticators,
        metrics: Metrics,
        clock: IReactorTime,
        limits: Limits,
        random: RandomBytes = secrets.token_bytes,
    ) -> None:
        """`limits.auth` is read for each client, as a reload may change it; `random` must not be predictable."""
        self._authenticators = authenticators
        self._random = random
        # The same as long as the server runs: data that changed on a reload would reveal the decoys.
        self._decoys = Decoys(random(32))
        self._journal = ClientLog("refusals", clock, metrics)
        self._clock = clock
        self._realms = self.methods(realms, auth, roles)
        self._metrics = metrics
        self._limits = limits

    def methods(self, realms: Mapping[str, Realm], auth: Auth, roles: Mapping[str, Role]) -> dict[str, Methods]:
        """Return the methods that realms would offer by these settings. Raise `ConfigError` like `methods_of`."""
        return methods_of(realms, auth, roles, self._authenticators, self._clock, self._random, self._decoys)

    def take(self, methods: dict[str, Methods]) -> None:
        """Offer these methods from now on. Open challenges are completed with the method that made them."""
        self._realms = methods

    def introduce(
        self,
        realm: str,
        details: Mapping[str, Any],
        session: int,
        principal: Principal | None,
        address: str,
        challenged: Callable[[str, dict[str, Any]], None],
        welcomed: Callable[[Welcome], None],
        refused: Callable[[Refusal], None],
    ) -> Introduction:
        """Answer a HELLO: call one of the three before returning, `challenged` with authmethod and extra of CHALLENGE.

        `details` are as the client sent them; `session` is the id that WELCOME will carry; `principal` is the one
        authenticated at the upgrade, if any; `address` is the client's.
        """
        introduction = Introduction(
            self._metrics,
            self._journal,
            address,
            self._clock,
            self._limits.auth,
            self._authenticators.revoked,
            welcomed,
            refused,
        )
        try:
            methods = self._realms.get(realm)
            if methods is None:
                raise Refusal("wamp.error.no_such_realm", "There is no realm of this name")
            hello = Hello.read(realm, details, session, address)
            authmethod, begun = _begin(methods, hello) if principal is None else (TRANSPORT, _known(principal, hello))
        except Refusal as refusal:
            introduction.refuse(refusal)
            return introduction
        if isinstance(begun, Welcome):
            introduction.welcome(begun)
        else:
            introduction.await_answer(begun)
            challenged(authmethod, begun.extra)
        return introduction


class Introduction:
    """One client during its authentication."""

    __slots__ = (
        "_address",
        "_clock",
        "_journal",
        "_metrics",
        "_over",
        "_patience",
        "_pending",
        "_refused",
        "_revoked",
        "_round",
        "_welcomed",
    )
    _log = Logger()

    def __init__(
        self,
        metrics: Metrics,
        journal: ClientLog,
        address: str,
        clock: IReactorTime,
        patience: float,
        revoked: Callable[[Principal], bool],
        welcomed: Callable[[Welcome], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        self._revoked = revoked
        self._metrics = metrics
        self._journal = journal
        self._address = address
        self._clock = clock
        self._patience = patience
        self._welcomed = welcomed
        self._refused = refused
        self._round: Round | None = None
        self._pending: Deferred[Welcome] | None = None
        self._over = False

    def authenticate(self, signature: str, extra: Mapping[str, Any]) -> None:
        """Process an AUTHENTICATE: call `welcomed` or `refused`, later if an external look-up is needed.

        A challenge is answered once; further messages are ignored.
        """
        current, self._round = self._round, None
        if current is None:
            return
        pending = self._pending = Deferred.fromCoroutine(current.answer(signature, extra))
        if not pending.called:
            pending.addTimeout(self._patience, self._clock, _took_too_long)
        pending.addCallback(self._check)
        pending.addCallbacks(self.welcome, self._fail)
        # An exception of a callback is a fault of ours: it must appear in the log now, not at the next garbage collection.
        pending.addErrback(lambda failure: self._log.failure("Introducing a client", failure=failure))

    def _check(self, welcome: Welcome) -> Welcome:
        if self._revoked(welcome.principal):
            raise unauthorized(REVOKED)
        return welcome

    def abandon(self) -> None:
        """Stop: the client is gone, so no callback is called any more and no look-up continues."""
        self._over = True
        self._round = None
        if self._pending is not None:
            self._pending.cancel()

    def await_answer(self, begun: Round) -> None:
        self._round = begun

    def welcome(self, welcome: Welcome) -> None:
        if not self._over:
            self._over = True
            self._welcomed(welcome)

    def refuse(self, refusal: Refusal) -> None:
        if not self._over:
            self._over = True
            self._metrics.connections_refused[refusal.reason] += 1
            self._journal.refused(self._address, f"{refusal.uri}: {refusal.rule}")
            self._refused(refusal)

    def _fail(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, Refusal | CancelledError):
            # Its text and traceback may hold the client's credentials.
            self._log.error("An authentication failed with {kind}", kind=type(error).__name__)
        self.refuse(error if isinstance(error, Refusal) else unauthorized("a fault of the server", "internal", passing=True))


def _begin(methods: Methods, hello: Hello) -> tuple[str, Round | Welcome]:
    """Begin the first of the client's methods that can be used; their order is its preference."""
    reasons = []
    for name in dict.fromkeys(hello.authmethods):
        method = methods.get(name)
        if method is not None:
            try:
                return name, method.begin(hello)
            except Unfit as unfit:
                reasons.append(f"{name} {unfit}")
    why = "; ".join([f"This realm offers {', '.join(sorted(methods))}", *reasons])
    raise Refusal("wamp.error.no_matching_auth_method", f"No authmethod that can be used here. {why}")


def _known(principal: Principal, hello: Hello) -> Welcome:
    if hello.authid not in (None, principal.subject):
        raise unauthorized("its authid is another one's than its token's")
    check_join(principal, hello.realm)
    return Welcome(principal, TRANSPORT, TRANSPORT, {})


def _took_too_long(_result: object, _seconds: float) -> NoReturn:
    raise Refusal("wamp.error.authentication_failed", "It took too long to find out who you are", "timeout", passing=True)
