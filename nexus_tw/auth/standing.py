"""Decides whether the current configuration would still accept a connected principal.

If a key, a user, an issuer or a realm's anonymous role is gone or has changed, the connections authenticated by it are closed.
If a role gains rights, they apply at once. If it loses any, its connections are closed and told to reconnect, because
their subscriptions and registrations were judged by the former rights.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from nexus_tw.auth import jwt
from nexus_tw.auth.plugin import basis_of as basis_of_plugin
from nexus_tw.auth.wamp import cryptosign
from nexus_tw.auth.wamp.methods import ANONYMOUS
from nexus_tw.model.errors import REVOKED, RIGHTS_CHANGED, Close
from nexus_tw.model.policy import ACTIONS, ADMIN, Principal
from nexus_tw.model.settings import EVERY_REALM, Role, Settings


class Standing:
    """The entries of a configuration that principals may be based on, and the roles they may have."""

    def __init__(self, settings: Settings) -> None:
        auth = settings.auth
        self._roles: Mapping[str, Role] = {"admin": ADMIN, **settings.roles}
        self._bases: set[Hashable] = {
            *auth.keys,
            *auth.certificates,
            *auth.wampcra,
            *auth.scram,
            *(cryptosign.basis_of(entry, key) for entry in auth.cryptosign for key in entry.keys),
            *(jwt.basis_of(issuer, role) for issuer in auth.jwt for role in settings.roles),
            *(basis_of_plugin(name, role) for name in auth.plugins for role in settings.roles),
            *((ANONYMOUS, name, realm.anonymous) for name, realm in settings.realms.items()),
        }

    def judge(self, principal: Principal) -> Close | None:
        """Return how to close a connection of this principal; None if it may stay, with its role's current rights."""
        basis = principal.basis
        if basis is None:  # the token of the start, which does not change, or a role that a plug-in has made itself
            return None
        role = self._roles.get(principal.role)
        if role is None or basis not in self._bases:
            return REVOKED
        if role != principal.rights:
            if not _widens(principal.rights, role):
                return RIGHTS_CHANGED
            principal.regrant(role)
        return None


def _widens(former: Role, role: Role) -> bool:
    """Return whether all former grants are still there, as written."""
    granted = all(set(getattr(former, action)) <= set(getattr(role, action)) for action in ACTIONS)
    realms = EVERY_REALM in role.realms or set(former.realms) <= set(role.realms)
    return granted and realms and former.admin <= role.admin and former.metrics <= role.metrics
