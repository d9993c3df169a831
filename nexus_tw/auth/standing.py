"""Whether who is connected would be let in again by the configuration of this moment.

A key, a user, an issuer or a realm's anonymous role that is gone or is another one now ends the connections that rest upon it.
A role that may do more holds at once; one that has lost anything ends the connections that have it, as what they subscribed to
and registered was judged by what it was, and has them come back.
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
    """What a configuration lets principals rest upon, and the roles they may have."""

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
        """How a connection of this principal has to end; None where it may stay, with what its role may do now."""
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
    """Whether all that was granted still is, as it is written."""
    granted = all(set(getattr(former, action)) <= set(getattr(role, action)) for action in ACTIONS)
    realms = EVERY_REALM in role.realms or set(former.realms) <= set(role.realms)
    return granted and realms and former.admin <= role.admin and former.metrics <= role.metrics
