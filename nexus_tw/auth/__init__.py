"""Authentication: finds out which principal a client is, by asking a list of authenticators in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent

from nexus_tw.auth.carriers import is_token
from nexus_tw.auth.certificates import CertificateAuthenticator
from nexus_tw.auth.jwt import JwtAuthenticator
from nexus_tw.auth.keys import KeyAuthenticator
from nexus_tw.auth.plugin import PluginAuthenticator, plugin
from nexus_tw.auth.revocations import Revocations
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import NexusError, Unauthorized
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Auth, Role, Settings
from nexus_tw.net.https import https_agent
from nexus_tw.runtime.failures import forget_trace, untraced

REVOKED: Final = "its credentials are revoked"


class Authenticators:
    """An ordered list of `IAuthenticator`; the first one that recognises the credentials decides."""

    _log = Logger()

    def __init__(self, authenticators: Sequence[IAuthenticator], plugins: Sequence[PluginAuthenticator] = ()) -> None:
        """`plugins` are asked last."""
        self._plugins = tuple(plugins)
        self._authenticators = (*authenticators, *plugins)
        self._revocations: Revocations | None = None

    def heed(self, revocations: Revocations) -> None:
        """From now on refuse clients whose credentials are revoked."""
        self._revocations = revocations

    def revoked(self, principal: Principal) -> bool:
        """Return whether the credentials of this principal are revoked."""
        return self._revocations is not None and self._revocations.refuses(principal)

    def take(self, authenticators: Sequence[IAuthenticator], roles: Mapping[str, Role]) -> None:
        """From now on, ask these before the plug-ins, and look up the plug-ins' roles in `roles`."""
        self._authenticators = (*authenticators, *self._plugins)
        for each in self._plugins:
            each.take(roles)

    def authenticate(self, credentials: Credentials) -> Deferred[Principal]:
        """Return the principal of these credentials. Fail with `unauthorized`, which gives no further reason.

        The Deferred has already fired unless an authenticator makes an external look-up. Cancel it when the client is gone.
        """
        return Deferred.fromCoroutine(self._ask(credentials)).addErrback(untraced)

    async def _ask(self, credentials: Credentials) -> Principal:
        rule = _implausible(credentials)
        if rule is not None:
            raise Unauthorized(rule)
        for authenticator in self._authenticators:
            principal = await self._answer(authenticator, credentials)
            if principal is not None:
                if self.revoked(principal):
                    raise Unauthorized(REVOKED)
                return principal
        if credentials.token is None:
            raise Unauthorized("the name of its certificate is not configured")
        raise Unauthorized("its token is no API key, and of no configured issuer")

    async def _answer(self, authenticator: IAuthenticator, credentials: Credentials) -> Principal | None:
        try:
            answer = authenticator.authenticate(credentials)
            return answer if answer is None or isinstance(answer, Principal) else await answer
        except NexusError as error:
            forget_trace(error)
            if error.code == "unauthorized" and not isinstance(error, Unauthorized):  # of a user's own
                raise Unauthorized(f"{type(authenticator).__name__} refused it") from None
            raise
        except CancelledError:
            raise
        except Exception as error:
            # An operator's own authenticator may fail in any way; a failure must not authenticate anybody. Its text and
            # traceback may hold the token.
            forget_trace(error)
            self._log.error(
                "{authenticator} failed with {kind}", authenticator=type(authenticator).__name__, kind=type(error).__name__
            )
            raise Unauthorized(f"{type(authenticator).__name__} failed") from None


def rule_of(error: NexusError) -> str:
    """Return why a client was refused, for the log."""
    return error.rule if isinstance(error, Unauthorized) else error.code


def build(settings: Settings, token: str | None, reactor: Any, agent: IAgent | None = None) -> Authenticators:
    """Make the authenticators of a server: those of `[auth]`, then plug-ins. `token` is the start's own, with all rights.

    `agent` fetches key sets; by default one over `reactor` that trusts the platform's certificate authorities.
    Raise `ConfigError`, naming the key, if one cannot be used.
    """
    agent = agent or https_agent(reactor)
    own = builtin(settings.auth, settings.roles, token, reactor, agent)
    added = (plugin(f"auth.plugins[{index}]", name, settings, reactor) for index, name in enumerate(settings.auth.plugins))
    return Authenticators(own, [*added])


def builtin(
    auth: Auth, roles: Mapping[str, Role], token: str | None, clock: IReactorTime, agent: IAgent
) -> list[IAuthenticator]:
    """Make the authenticators that need no plug-in; this makes no network requests yet."""
    # Credentials in the file may have the built-in role; tokens of an issuer may not (see `nexus_tw.auth.jwt`).
    local = {"admin": ADMIN, **roles}
    return [
        KeyAuthenticator(auth.keys, local, token),
        JwtAuthenticator(auth.jwt, roles, clock, agent),
        CertificateAuthenticator(auth.certificates, local),
    ]


def _implausible(credentials: Credentials) -> str | None:
    """Return why the credentials are invalid whatever the authenticators say; None if they have to be asked."""
    if credentials.token is None:
        return "it showed no token" if credentials.certificate is None else None
    return None if is_token(credentials.token) else "its token is empty, too long or holds what no token holds"
