"""WAMP-Cryptosign (specification, cryptosign-based authentication): an Ed25519 signature (RFC 8032) over a random challenge.

Channel binding, the router's own signature and trust roots are not supported.
"""

from __future__ import annotations

import hmac
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nexus_tw.auth.wamp.methods import Hello, RandomBytes, Round, Welcome, enrol, unproven
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Cryptosign as Settings
from nexus_tw.model.settings import Role

CRYPTOSIGN: Final = "cryptosign"

_CHALLENGE: Final = 32  # bytes
_SIGNATURE: Final = 64  # bytes


def users(entries: Iterable[Settings], roles: Mapping[str, Role], realms: Iterable[str]) -> dict[str, dict[str, Principal]]:
    """Return the principals by realm and public key. Raise `ConfigError`, naming the entry, if one cannot be used."""

    def keys(entry: Settings) -> Iterable[tuple[str, str, Hashable]]:
        return ((f"keys[{index}]", key.lower(), basis_of(entry, key)) for index, key in enumerate(entry.keys))

    return enrol(CRYPTOSIGN, entries, keys, lambda _member, _entry, principal: principal, roles, realms)


def basis_of(entry: Settings, key: str) -> Hashable:
    """Return the basis of a principal that has proven this key of the entry; the other keys are not part of it."""
    return CRYPTOSIGN, entry.subject, entry.role, key.lower()


class Cryptosign:
    """The public keys of one realm. Only a client that can sign learns whether its key is known."""

    def __init__(self, known: Mapping[str, Principal], random: RandomBytes) -> None:
        self._known = known
        self._random = random

    def begin(self, hello: Hello) -> Round:
        hello.check_unbound()
        key = hello.public_key()
        return _Signed(key, self._known.get(key), hello.authid, self._random(_CHALLENGE))


class _Signed:
    """A challenge that waits for its signature."""

    def __init__(self, key: str, principal: Principal | None, authid: str | None, challenge: bytes) -> None:
        self._key = key
        self._principal = principal
        self._authid = authid
        self._challenge = challenge
        self.extra: dict[str, Any] = {"challenge": challenge.hex(), "channel_binding": None}

    async def answer(self, signature: str, extra: Mapping[str, Any]) -> Welcome:
        principal = self._principal
        if not self._is_signed(signature) or principal is None or self._authid not in (None, principal.subject):
            raise unproven(principal is not None)
        return Welcome(principal, CRYPTOSIGN, "static", {})

    def _is_signed(self, signature: str) -> bool:
        """Check the signature and the signed text, both in hex; the text must be the challenge of this very session."""
        try:
            octets = bytes.fromhex(signature)
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(self._key)).verify(octets[:_SIGNATURE], self._challenge)
        except (ValueError, InvalidSignature):
            return False
        return hmac.compare_digest(octets[_SIGNATURE:], self._challenge)
