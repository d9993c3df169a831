"""WAMP-SCRAM (specification, salted challenge response authentication): RFC 5802 with SHA-256.

Both sides prove that they know a value derived from the password; the value is neither sent nor stored. Clients use two
variants, told apart by the name of the method: the specification's `wamp-scram`, and Autobahn's `scram`.
Channel binding is not supported.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

from nexus_tw.auth.wamp.methods import Decoys, Hello, RandomBytes, Round, Welcome, enrol, unproven
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from nexus_tw.model.settings import Scram as Settings

_NONCE: Final = 18  # bytes; base64 of so many ends without padding
_KEY: Final = 32  # bytes


class Spelling(NamedTuple):
    """The differences between the two variants."""

    method: str
    argon2id13: str  # the name of that key derivation function
    unbound: str  # `c` of the client's last message without channel binding
    verifier: str  # the member of WELCOME's authextra with the server's signature


SPECIFICATION: Final = Spelling("wamp-scram", "argon2id13", b64encode(b"n,,").decode(), "verifier")
AUTOBAHN: Final = Spelling("scram", "argon2id-13", "", "scram_server_signature")


class ScramUser(NamedTuple):
    """The stored data of a user (RFC 5802 section 3)."""

    principal: Principal | None  # None for one that does not exist
    kdf: str
    costs: dict[str, int]
    salt: bytes
    stored_key: bytes
    server_key: bytes


def users(entries: Iterable[Settings], roles: Mapping[str, Role], realms: Iterable[str]) -> dict[str, dict[str, ScramUser]]:
    """Return the users by realm and authid. Raise `ConfigError`, naming the entry, if one cannot be used."""
    return enrol("scram", entries, lambda entry: [("subject", entry.subject, entry)], _user, roles, realms)


def _user(member: str, entry: Settings, principal: Principal) -> ScramUser:
    if (entry.kdf == "argon2id13") != bool(entry.memory):
        raise ConfigError(f"{member}.memory: goes with argon2id13, which needs it, and with nothing else")
    costs = {"iterations": entry.iterations, **({"memory": entry.memory} if entry.memory else {})}
    salt, stored_key, server_key = map(bytes.fromhex, (entry.salt, entry.stored_key, entry.server_key))
    return ScramUser(principal, entry.kdf, costs, salt, stored_key, server_key)


class Scram:
    """The users of one realm, at least one, for clients of one variant."""

    def __init__(self, known: Mapping[str, ScramUser], spelling: Spelling, decoys: Decoys, random: RandomBytes) -> None:
        self._known = known
        self._models = list(known.values())
        self._spelling = spelling
        self._decoys = decoys
        self._random = random

    def begin(self, hello: Hello) -> Round:
        authid, nonce = hello.user(), hello.nonce()
        hello.check_unbound()
        # Made for every authid: the time must not reveal which are known.
        nobody = self._nobody(authid)
        user = self._known.get(authid, nobody)
        return _Proven(user, self._spelling, authid, nonce, b64encode(self._random(_NONCE)).decode())

    def _nobody(self, authid: str) -> ScramUser:
        """Return a made-up user with keys that nobody knows."""
        model = self._decoys.choice(authid, self._models)
        salt = self._decoys.octets("salt", authid, len(model.salt))
        stored_key = self._decoys.octets("key", authid, _KEY)
        return model._replace(principal=None, salt=salt, stored_key=stored_key)


class _Proven:
    """A challenge that waits for its proof."""

    def __init__(self, user: ScramUser, spelling: Spelling, authid: str, client_nonce: str, server_nonce: str) -> None:
        self._user = user
        self._spelling = spelling
        self._nonce = client_nonce + server_nonce
        salt = b64encode(user.salt).decode()
        kdf = spelling.argon2id13 if user.kdf == "argon2id13" else user.kdf
        self.extra: dict[str, Any] = {"nonce": self._nonce, "salt": salt, "kdf": kdf, **user.costs}
        iterations = user.costs["iterations"]
        self._message = auth_message(authid, client_nonce, self._nonce, salt, iterations, spelling.unbound)

    async def answer(self, signature: str, extra: Mapping[str, Any]) -> Welcome:
        user, spelling = self._user, self._spelling
        # The proof covers the nonce and the binding anyway; Autobahn does not repeat them.
        repeated = extra.get("nonce", self._nonce) == self._nonce
        unbound = extra.get("channel_binding") is None and extra.get("cbind_data") is None
        if not (is_proof(signature, user.stored_key, self._message) and repeated and unbound) or user.principal is None:
            raise unproven(user.principal is not None)
        verifier = b64encode(hmac.digest(user.server_key, self._message, "sha256")).decode()
        return Welcome(user.principal, spelling.method, "static", {spelling.verifier: verifier})


def auth_message(authid: str, client_nonce: str, nonce: str, salt: str, iterations: int, binding: str) -> bytes:
    """Return the text that both sides sign: their three messages as in RFC 5802 section 7."""
    name = authid.replace("=", "=3D").replace(",", "=2C")
    return f"n={name},r={client_nonce},r={nonce},s={salt},i={iterations},c={binding},r={nonce}".encode()


def is_proof(signature: str, stored_key: bytes, message: bytes) -> bool:
    """Return whether the signer knows the client key with the digest `stored_key`."""
    try:
        proof = b64decode(signature, validate=True)
    except ValueError:
        return False
    if len(proof) != _KEY:
        return False
    mask = hmac.digest(stored_key, message, "sha256")
    client_key = bytes(mine ^ theirs for mine, theirs in zip(mask, proof, strict=True))
    return hmac.compare_digest(sha256(client_key).digest(), stored_key)
