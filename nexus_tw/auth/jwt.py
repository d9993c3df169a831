"""JSON Web Tokens (RFC 7519) of configured issuers, checked as RFC 8725 recommends.

An unverified token is used for one thing only: its `iss` selects the configured issuer, with its keys and rules. Other claims
are read after the signature was verified. A role named by a token must be defined in the file: issuers cannot assign the
built-in `admin`, as their own `admin` may be another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from jwt.exceptions import PyJWTError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent
from zope.interface import implementer

from nexus_tw.auth.jwks import KeySet, file_reader
from nexus_tw.auth.material import ALGORITHMS, JWS, SECRET_BYTES, Material, misfit, read_pem
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError, Unauthorized
from nexus_tw.model.policy import Principal, is_subject
from nexus_tw.model.settings import Jwt, Role, redact
from nexus_tw.net.https import check_address, https_reader
from nexus_tw.runtime.walltime import wall

# Seconds since the epoch that a double represents exactly; a later `exp` is nonsense, infinity included.
_LATEST: Final = 2.0**53


class KeySource(Protocol):
    """The source of an issuer's keys."""

    async def find(self, kid: str | None, algorithm: str) -> Material | None: ...


class OneKey:
    """A key from the file: the only one, whatever `kid` a token names."""

    def __init__(self, material: Material) -> None:
        self._material = material

    async def find(self, kid: str | None, algorithm: str) -> Material | None:
        return self._material


def basis_of(settings: Jwt, role: str) -> Hashable:
    """Return the basis of a principal of this issuer: the issuer, its keys and the role."""
    return settings.issuer, settings.audience, settings.key, settings.secret, settings.jwks, role


class InvalidToken(Exception):
    """Why a token is invalid; for the log, never for the client."""


class Issuer:
    """One entry of `auth.jwt`: its rules, and the keys for verification."""

    _log = Logger()

    def __init__(self, settings: Jwt, keys: KeySource, roles: Mapping[str, Role], clock: IReactorTime) -> None:
        self._settings = settings
        self._name = f"jwt:{settings.issuer}"
        self._keys = keys
        self._roles = roles
        self._clock = clock

    async def principal(self, token: str, header: Mapping[str, Any]) -> Principal:
        """Return the principal of a token. `header` is the token's own, not yet verified. Raise `unauthorized`."""
        try:
            return self._principal(await self._claims(token, header))
        except InvalidToken as refused:
            raise Unauthorized(f"its token of {self._settings.issuer}: {refused}") from None

    async def _claims(self, token: str, header: Mapping[str, Any]) -> dict[str, Any]:
        # No extension is supported, so RFC 7515 section 4.1.11 requires a refusal.
        if "crit" in header or "b64" in header:
            raise InvalidToken("it has critical headers")
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._settings.algorithms:
            raise InvalidToken("its algorithm is not one of the issuer's")
        if kid is not None and not isinstance(kid, str):
            raise InvalidToken("its kid is no string")
        key = await self._keys.find(kid, algorithm)
        if key is None:
            raise InvalidToken("no key for its kid and algorithm")
        reason = misfit(algorithm, key)
        if reason is not None:
            raise InvalidToken(reason)
        try:
            verified = JWS.decode_complete(token, key, [algorithm])
        except PyJWTError:
            raise InvalidToken("its signature is wrong") from None
        return _object(verified["payload"])

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        settings, now = self._settings, wall(self._clock)
        if claims.get("iss") != settings.issuer:
            raise InvalidToken("its iss is another")
        audience = claims.get("aud")
        if settings.audience not in (audience if isinstance(audience, list) else [audience]):
            raise InvalidToken("its aud is another")
        expires = _time(claims, "exp") + settings.leeway
        if expires <= now:
            raise InvalidToken("it has expired")
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > now + settings.leeway:
                raise InvalidToken(f"its {name} is in the future")
        # For revocations: a token that does not say when it was issued may be old, and the issuer's clock may be ahead.
        issued = max(0.0, _time(claims, "iat") - settings.leeway) if "iat" in claims else 0.0
        token_id = claims.get("jti")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not is_subject(subject):
            raise InvalidToken("its sub is no usable subject")
        role = self._role(_claim(claims, settings.role_claim))
        return Principal(
            subject,
            role,
            self._roles[role],
            expires,
            basis=basis_of(settings, role),
            issuer=self._name,
            issued=issued,
            token_id=token_id if isinstance(token_id, str) else "",
        )

    def _role(self, claim: Any) -> str:
        """Return the configured role in a claim. The claim may be a list, mostly of other services' roles."""
        named = claim if isinstance(claim, list) else [claim]
        known = {name for name in named if isinstance(name, str) and name in self._roles}
        if len(known) != 1:
            count = "more than one configured role" if known else "no configured role"
            raise InvalidToken(f"its {self._settings.role_claim} names {count}")
        return known.pop()


@implementer(IAuthenticator)
class JwtAuthenticator:
    """Knows the issuers of `auth.jwt`."""

    def __init__(
        self,
        settings: Sequence[Jwt],
        roles: Mapping[str, Role],
        clock: IReactorTime,
        agent: IAgent,
    ) -> None:
        """Read keys from files at once, and those at addresses (by `agent`) when a token needs them.

        Raise `ConfigError` if a key cannot be read or used.
        """
        self._issuers: dict[str, Issuer] = {}
        sources = _Sources(clock, agent)
        for index, each in enumerate(settings):
            member = f"auth.jwt[{index}]"
            if each.issuer in self._issuers:
                raise ConfigError(f"{member}.issuer: this issuer is there already")
            _check_algorithms(member, each)
            self._issuers[each.issuer] = Issuer(each, sources.of(member, each), roles, clock)

    def authenticate(self, credentials: Credentials) -> Awaitable[Principal] | None:
        token = credentials.token
        # RFC 7515 section 7.1: three parts joined by dots; anything else is not worth decoding.
        if token is None or token.count(".") != 2:
            return None
        try:
            unverified = JWS.decode_complete(token, options={"verify_signature": False})
            issuer = _object(unverified["payload"]).get("iss")
        except (PyJWTError, InvalidToken):
            return None
        known = self._issuers.get(issuer) if isinstance(issuer, str) else None
        return None if known is None else known.principal(token, unverified["header"])


class _Sources:
    """Key sources; issuers with the same address share one."""

    def __init__(self, clock: IReactorTime, agent: IAgent) -> None:
        self._clock = clock
        self._agent = agent
        self._sets: dict[str, KeySet] = {}

    def of(self, member: str, settings: Jwt) -> KeySource:
        given = [name for name in ("key", "secret", "jwks") if getattr(settings, name)]
        if len(given) != 1:
            raise ConfigError(f"{member}: needs exactly one of key, secret and jwks")
        key = f"{member}.{given[0]}"
        try:
            if settings.jwks:
                return self._set(settings.jwks)
            material = settings.secret.encode() if settings.secret else read_pem(Path(settings.key).read_bytes())
        except OSError as error:
            raise ConfigError(f"{key}: cannot read {error.filename}: {error.strerror}") from None
        except ValueError as error:
            where = {"key": f"{settings.key}: ", "jwks": f"{redact(settings.jwks)}: "}.get(given[0], "")
            raise ConfigError(f"{key}: {where}{error}") from None
        for algorithm in settings.algorithms:
            reason = misfit(algorithm, material)
            if reason is not None:
                raise ConfigError(f"{key}: {reason}")
        return OneKey(material)

    def _set(self, name: str) -> KeySet:
        if name not in self._sets:
            self._sets[name] = self._open(name)
        return self._sets[name]

    def _open(self, name: str) -> KeySet:
        if "://" in name:
            check_address(name)
            return KeySet(name, https_reader(self._agent, name), self._clock)
        path = Path(name)
        keys = KeySet(name, file_reader(path), self._clock)
        keys.load(path.read_bytes())
        return keys


def _check_algorithms(member: str, settings: Jwt) -> None:
    for algorithm in settings.algorithms:
        if algorithm not in ALGORITHMS:
            raise ConfigError(f"{member}.algorithms: {algorithm!r} is none of {', '.join(ALGORITHMS)}")
        # Checked before any key is read: if both kinds were allowed, a public key could be taken for a secret.
        if (algorithm in SECRET_BYTES) != bool(settings.secret):
            companion = "key or jwks" if settings.secret else "secret"
            raise ConfigError(f"{member}.algorithms: {algorithm} goes with {companion}")


def _object(payload: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise InvalidToken("its claims are no JSON object") from None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim of that name, or at that path: names may have dots (`https://…`), and claims may be nested."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _time(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate: a JSON number, not one in a string (RFC 7519 section 2)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise InvalidToken(f"its {name} is no time")
    return float(value)
