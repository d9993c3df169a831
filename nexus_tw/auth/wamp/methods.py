"""The common parts of WAMP's authentication methods: the HELLO that they read, and their results.

The details of a HELLO are untrusted: each member is checked before it is used. A refusal explains errors of form, but
reveals nothing about the users that exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from hashlib import shake_256
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import MAX_SUBJECT, Principal, is_subject, may_join
from nexus_tw.model.settings import Role

RandomBytes = Callable[[int], bytes]
"""Return that many unpredictable bytes."""

ANONYMOUS: Final = "anonymous"

_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")
_HEX_KEY: Final = re.compile(r"[0-9a-fA-F]{64}\Z")
_LONGEST: Final = 256  # characters of a nonce

T = TypeVar("T")


class Welcome(NamedTuple):
    """The authenticated principal, and the details of WELCOME about its authentication."""

    principal: Principal
    authmethod: str
    authprovider: str
    authextra: dict[str, Any]


class Refusal(Exception):
    """The refusal of a client: `uri` and `message` are for ABORT and reveal no secret, nor whether an authid is known.

    `reason` is the metric's label, `rule` the log's text, which may reveal more. `passing` means that the server was
    unable to decide, so that the same client may try again.
    """

    def __init__(
        self, uri: str, message: str, reason: str | None = None, passing: bool = False, rule: str | None = None
    ) -> None:
        super().__init__(message)
        self.uri = uri
        self.message = message
        self.passing = passing
        self.rule = rule or message
        self.reason = reason or uri.rpartition(".")[2]


class Unfit(Exception):
    """The method cannot be used with this HELLO, so the client's next one is tried; the text gives the reason."""


def unauthorized(rule: str, reason: str = "unauthorized", passing: bool = False) -> Refusal:
    """Return the one answer to all wrong credentials; the rest as for `Refusal`."""
    return Refusal("wamp.error.authentication_failed", "Wrong credentials", reason, passing, rule)


def unproven(known: bool) -> Refusal:
    """Return the answer to an invalid proof, for a known or unknown user."""
    return unauthorized("its proof is wrong" if known else "nobody has its authid")


def is_base64(text: str) -> bool:
    """Return whether this is base64 in its one canonical form (RFC 4648 section 4)."""
    return _BASE64.match(text) is not None


def violation(member: str, why: str) -> Refusal:
    return Refusal("wamp.error.protocol_violation", f"Invalid message format: {member}: {why}")


class Hello(NamedTuple):
    """The parts of a HELLO that matter for authentication; `session` is the id for WELCOME, `address` the client's."""

    realm: str
    session: int
    authmethods: tuple[str, ...]
    authid: str | None
    authextra: Mapping[str, Any]
    address: str

    @classmethod
    def read(cls, realm: str, details: Mapping[str, Any], session: int, address: str) -> Hello:
        """Raise `Refusal` for a member of the wrong type. null and empty values count as absent."""
        methods = details.get("authmethods") or ()
        if not isinstance(methods, list | tuple) or not all(isinstance(each, str) for each in methods):
            raise violation("authmethods", "must be a list of strings")
        authid, extra = details.get("authid"), details.get("authextra") or {}
        for member, value in (("authid", authid), ("authrole", details.get("authrole"))):
            if not isinstance(value, str | None):
                raise violation(member, "must be a string")
        if not isinstance(extra, Mapping):
            raise violation("authextra", "must be an object")
        return cls(realm, session, tuple(methods) or (ANONYMOUS,), authid or None, extra, address)

    def user(self) -> str:
        """Return the authid, for methods that need one."""
        if self.authid is None:
            raise Unfit("needs an authid")
        if not is_subject(self.authid):
            raise violation("authid", f"must be 1 to {MAX_SUBJECT} printable characters")
        return self.authid

    def public_key(self) -> str:
        """Return `authextra.pubkey`, 64 hex digits in lower case."""
        return self._text("pubkey", _HEX_KEY, "must be 64 hex digits").lower()

    def nonce(self) -> str:
        """Return `authextra.nonce`, in base64."""
        nonce = self._text("nonce", _BASE64, "must be base64")
        if not 0 < len(nonce) <= _LONGEST:
            raise violation("authextra.nonce", f"must be 1 to {_LONGEST} characters")
        return nonce

    def check_unbound(self) -> None:
        """Raise if the client asks for channel binding, which is not supported: it must not be answered as if it were."""
        binding = self.authextra.get("channel_binding")
        if not isinstance(binding, str | None):
            raise violation("authextra.channel_binding", "must be a string or null")
        if binding is not None:
            raise Unfit("channel binding is not supported")

    def _text(self, name: str, pattern: re.Pattern[str], why: str) -> str:
        value = self.authextra.get(name)
        if value is None:
            raise Unfit(f"needs authextra.{name}")
        if not isinstance(value, str) or not pattern.match(value):
            raise violation(f"authextra.{name}", why)
        return value


class Round(Protocol):
    """A challenge that has been made; it is answered once."""

    @property
    def extra(self) -> dict[str, Any]:
        """Return the extra of CHALLENGE."""

    async def answer(self, signature: str, extra: Mapping[str, Any]) -> Welcome:
        """Return the result of AUTHENTICATE; raise `Refusal`. Cancel it when the client is gone."""


class Method(Protocol):
    """An authentication method in one realm."""

    def begin(self, hello: Hello) -> Round | Welcome:
        """Return the challenge, or the result if no proof is needed; raise `Unfit` or `Refusal`."""


class Decoys:
    """Makes challenges for unknown clients, so that they cannot tell that they are unknown.

    The same authid gets the same data as long as the process lives; data of other authids cannot be derived from it.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def octets(self, what: str, authid: str, size: int) -> bytes:
        return shake_256(b"%b\0%b\0%b" % (self._secret, what.encode(), authid.encode())).digest(size)

    def choice(self, authid: str, among: Sequence[T]) -> T:
        return among[int.from_bytes(self.octets("choice", authid, 8)) % len(among)]


class Entry(Protocol):
    """The members that every entry of `[auth]` with a user has."""

    @property
    def subject(self) -> str: ...

    @property
    def role(self) -> str: ...


E = TypeVar("E", bound=Entry)
U = TypeVar("U")


def enrol(
    part: str,
    entries: Iterable[E],
    names: Callable[[E], Iterable[tuple[str, str, Hashable]]],
    make: Callable[[str, E, Principal], U],
    roles: Mapping[str, Role],
    realms: Iterable[str],
) -> dict[str, dict[str, U]]:
    """Return the users of `auth.PART` by realm and name, in each realm that their role may join.

    `names` returns those of an entry, each with its config key and the principal's basis; `make` gets the entry's own
    dotted name. Raise `ConfigError` if a role does not exist, or a name occurs twice in a realm.
    """
    found: dict[str, dict[str, U]] = {realm: {} for realm in realms}
    for index, entry in enumerate(entries):
        member = f"auth.{part}[{index}]"
        role = roles.get(entry.role)
        if role is None:
            raise ConfigError(f"{member}.role: no such role: {entry.role!r}")
        made = [
            (key, name, make(member, entry, Principal(entry.subject, entry.role, role, basis=basis)))
            for key, name, basis in names(entry)
        ]
        for realm, users in found.items():
            if may_join(role.realms, realm):
                for key, name, user in made:
                    if name in users:
                        raise ConfigError(f"{member}.{key}: is there already in the realm {realm!r}")
                    users[name] = user
    return found
