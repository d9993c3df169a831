"""WAMP-CRA (specification, challenge-response authentication): an HMAC over a challenge; the password is not sent."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import pbkdf2_hmac
from typing import Any, Final, NamedTuple

import msgspec
from twisted.internet.interfaces import IReactorTime

from nexus_tw.auth.wamp.methods import Decoys, Hello, RandomBytes, Round, Welcome, enrol, is_base64, unproven
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Role
from nexus_tw.model.settings import WampCra as Settings
from nexus_tw.model.times import format_millis
from nexus_tw.runtime.walltime import wall

WAMPCRA: Final = "wampcra"

_PROVIDER: Final = "static"
_NONCE: Final = 24  # bytes


class WampCraUser(NamedTuple):
    """A user and its signing key; `salting` contains the parameters to derive that key from a password."""

    principal: Principal | None  # None for one that does not exist
    role: str
    key: bytes
    salting: dict[str, Any]


def users(entries: Iterable[Settings], roles: Mapping[str, Role], realms: Iterable[str]) -> dict[str, dict[str, WampCraUser]]:
    """Return the users by realm and authid. Raise `ConfigError`, naming the entry, if one cannot be used."""
    return enrol(WAMPCRA, entries, lambda entry: [("subject", entry.subject, entry)], _user, roles, realms)


def _user(member: str, entry: Settings, principal: Principal) -> WampCraUser:
    if bool(entry.secret) == bool(entry.key):
        raise ConfigError(f"{member}: needs exactly one of secret and key")
    if not entry.salt:
        if entry.key:
            raise ConfigError(f"{member}.key: needs the salt that it was derived with")
        return WampCraUser(principal, entry.role, entry.secret.encode(), {})
    salting = {"salt": entry.salt, "iterations": entry.iterations, "keylen": entry.keylen}
    if entry.key:
        # Compared with the length that base64 of as many bytes has: the text itself is the HMAC's key.
        if len(entry.key) != len(b64encode(bytes(entry.keylen))) or not is_base64(entry.key):
            raise ConfigError(f"{member}.key: is not base64 of {entry.keylen} bytes")
        return WampCraUser(principal, entry.role, entry.key.encode(), salting)
    derived = pbkdf2_hmac("sha256", entry.secret.encode(), entry.salt.encode(), entry.iterations, entry.keylen)
    return WampCraUser(principal, entry.role, b64encode(derived), salting)


class WampCra:
    """The users of one realm, at least one."""

    def __init__(self, known: Mapping[str, WampCraUser], decoys: Decoys, clock: IReactorTime, random: RandomBytes) -> None:
        self._known = known
        self._models = list(known.values())
        self._alphabet = sorted({letter for user in self._models for letter in user.salting.get("salt", "")})
        self._decoys = decoys
        self._clock = clock
        self._random = random

    def begin(self, hello: Hello) -> Round:
        authid = hello.user()
        # Made for every authid: the time must not reveal which are known.
        nobody = self._nobody(authid)
        user = self._known.get(authid, nobody)
        challenge = {
            "authid": authid,
            "authrole": user.role,
            "authmethod": WAMPCRA,
            "authprovider": _PROVIDER,
            "nonce": b64encode(self._random(_NONCE)).decode(),
            "timestamp": format_millis(int(wall(self._clock) * 1000)),
            "session": hello.session,
        }
        return _Signed(user, msgspec.json.encode(challenge).decode())

    def _nobody(self, authid: str) -> WampCraUser:
        """Return a made-up user with a key that nobody knows."""
        model = self._decoys.choice(authid, self._models)
        salting = dict(model.salting)
        if salting:
            octets = self._decoys.octets("salt", authid, len(salting["salt"]))
            salting["salt"] = "".join(self._alphabet[octet % len(self._alphabet)] for octet in octets)
        return WampCraUser(None, model.role, self._decoys.octets("key", authid, 32), salting)


class _Signed:
    """A challenge that waits for its signature."""

    def __init__(self, user: WampCraUser, challenge: str) -> None:
        self._user = user
        self._challenge = challenge.encode()
        self.extra = {"challenge": challenge, **user.salting}

    async def answer(self, signature: str, extra: Mapping[str, Any]) -> Welcome:
        expected = b64encode(hmac.digest(self._user.key, self._challenge, "sha256"))
        if not hmac.compare_digest(expected, signature.encode(errors="replace")) or self._user.principal is None:
            raise unproven(self._user.principal is not None)
        return Welcome(self._user.principal, WAMPCRA, _PROVIDER, {})
