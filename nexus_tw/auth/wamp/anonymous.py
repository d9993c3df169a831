"""Anonymous WAMP sessions: they present no credentials, and get the role that the realm has for them."""

from __future__ import annotations

from typing import Final

from nexus_tw.auth.wamp.methods import ANONYMOUS, Hello, RandomBytes, Welcome
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role

_OCTETS: Final = 12  # enough that no two sessions get the same subject


class Anonymous:
    """Gives each session a subject of its own. Ignores the authid that the client requests: grants, commands and recipient
    lists go by subject, and it could be another client's."""

    def __init__(self, role_name: str, role: Role, random: RandomBytes) -> None:
        self._role_name = role_name
        self._role = role
        self._random = random

    def begin(self, hello: Hello) -> Welcome:
        subject = f"{ANONYMOUS}-{self._random(_OCTETS).hex()}"
        principal = Principal(
            subject,
            self._role_name,
            self._role,
            basis=(ANONYMOUS, hello.realm, self._role_name),
            issuer=ANONYMOUS,
            account=f"{ANONYMOUS} {hello.address}",
        )
        return Welcome(principal, ANONYMOUS, ANONYMOUS, {})
