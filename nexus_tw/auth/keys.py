"""API keys: high-entropy strings; only their SHA-256 is stored, so that a stolen file reveals no key."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from zope.interface import implementer

from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Key, Role

PREFIX: Final = "sha256:"
ADMIN_SUBJECT: Final = "admin"

_NOBODY: Final = bytes(32)


def digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


@implementer(IAuthenticator)
class KeyAuthenticator:
    """Authenticates by the keys of `auth.keys`, and by the token of the start, which has all rights."""

    def __init__(self, keys: Sequence[Key], roles: Mapping[str, Role], token: str | None) -> None:
        """Raise `ConfigError` if a role does not exist or a key occurs twice."""
        self._principals: dict[bytes, Principal] = {}
        if token is not None:
            self._principals[digest(token)] = Principal(ADMIN_SUBJECT, "admin", ADMIN)
        for index, key in enumerate(keys):
            known = bytes.fromhex(key.hash.removeprefix(PREFIX))
            if known in self._principals:
                raise ConfigError(f"auth.keys[{index}].hash: this key is there already")
            role = roles.get(key.role)
            if role is None:
                raise ConfigError(f"auth.keys[{index}].role: no such role: {key.role!r}")
            self._principals[known] = Principal(key.subject, key.role, role, basis=key)
        self._digests = {known: known for known in self._principals}

    def authenticate(self, credentials: Credentials) -> Principal | None:
        if credentials.token is None:
            return None
        # The time of the look-up depends on a digest only, which nobody can steer towards a stored one. The comparison
        # that decides takes as long for an unknown token as for a known one.
        shown = digest(credentials.token)
        if not hmac.compare_digest(self._digests.get(shown, _NOBODY), shown):
            return None
        return self._principals[shown]
