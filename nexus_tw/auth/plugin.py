"""The operator's own authenticator: found by its entry point, and checked against its contract on each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any, Final, NoReturn

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.policy import MAX_SUBJECT, Principal, is_subject
from nexus_tw.model.settings import Role, Settings
from nexus_tw.runtime import plugins
from nexus_tw.runtime.plugin_runner import PluginRunner

AUTHENTICATORS: Final = plugins.EntryPoints(
    "nexus.authenticators", "a factory of authenticators", ("settings", "reactor")
)


def plugin(where: str, name: str, settings: Settings, reactor: Any) -> PluginAuthenticator:
    """Make the authenticator of that entry point by calling its factory with `(settings, reactor)`.

    Plug-ins are named in the file, since installing one must not be enough. The text of a `ConfigError` begins with `where`.
    """
    entry = AUTHENTICATORS.find(name)
    if entry is None:
        raise ConfigError(f"{where}: no entry point {name!r} in the group {AUTHENTICATORS.group}")
    where = f"{where}: {name!r}"
    factory = AUTHENTICATORS.load(where, entry)
    made = plugins.make(where, "an authenticator", entry.value, IAuthenticator, factory, settings, reactor)
    return PluginAuthenticator(name, made, settings.roles)


def basis_of(name: str, role: str) -> Hashable:
    """Return the basis of a principal to which that plug-in gave this role of the file."""
    return AUTHENTICATORS.group, name, role


@implementer(IAuthenticator)
class PluginAuthenticator:
    """Refuses every client for which the plug-in did not return a principal with a role of the file.

    The log names the plug-in and its mistake, with the place in its code; texts of exceptions may hold the token.
    """

    _log = Logger()

    def __init__(self, name: str, authenticator: IAuthenticator, roles: Mapping[str, Role]) -> None:
        self._name = name
        self._authenticator = authenticator
        self._roles = roles
        self._guest = PluginRunner(f"The authenticator {name}")

    def take(self, roles: Mapping[str, Role]) -> None:
        """Look up roles in `roles` from now on."""
        self._roles = roles

    async def authenticate(self, credentials: Credentials) -> Principal | None:
        try:
            answer = await self._guest.run(self._authenticator.authenticate, credentials)
        except (NexusError, CancelledError):
            raise
        except asyncio.CancelledError:
            raise CancelledError from None
        except Exception as error:
            self._refuse(f"failed at {plugins.place(error)} with {type(error).__name__}")
        if answer is None:
            return None
        if not isinstance(answer, Principal):
            wanted = "a nexus_tw.model.policy.Principal(subject, role) or None"
            self._refuse(f"returned a {type(answer).__name__} instead of {wanted}")
        subject: object = answer.subject
        if not (isinstance(subject, str) and is_subject(subject)):
            self._refuse(f"returned a subject that is not 1 to {MAX_SUBJECT} printable characters")
        issuer = f"plugin:{self._name}"
        if not answer.named:
            return Principal(
                subject,
                answer.role,
                answer.rights,
                answer.expires,
                issuer=issuer,
                issued=answer.issued,
                token_id=answer.token_id,
            )
        role_name: object = answer.role
        role = self._roles.get(role_name) if isinstance(role_name, str) else None
        if role is None:
            self._refuse(f"returned the role {answer.role!r}, which is not in [roles]")
        basis = basis_of(self._name, answer.role)
        return Principal(
            subject,
            answer.role,
            role,
            answer.expires,
            basis=basis,
            issuer=issuer,
            issued=answer.issued,
            token_id=answer.token_id,
        )

    def _refuse(self, why: str) -> NoReturn:
        self._log.error("The authenticator {name} {why}", name=self._name, why=why)
        raise NexusError("unauthorized", "Unauthorized")
