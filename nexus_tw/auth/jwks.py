"""Key sets (JWKS, RFC 7517): an issuer's public keys, read from a file or an https address and kept for a while.

The address of a set is configured and never taken from a token. Each address has a cache of its own, so two issuers
that use the same `kid` for different keys stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.auth.material import ALGORITHMS, Material, misfit
from nexus_tw.model.settings import redact
from nexus_tw.net.https import Read

TIMEOUT: Final = 5.0  # seconds for one read in total
MAX_KEYS: Final = 256  # in one set; further ones are ignored

MAX_AGE: Final = 600.0  # seconds; an older set is read again before it is used
AGAIN: Final = 60.0  # seconds from one read to the next because of an unknown `kid`
RETRY: Final = 5.0  # seconds from a failed read to the next
# An issuer that is unreachable must not lock its clients out at once; a withdrawn key must not stay valid for ever.
STALE: Final = 3600.0


class Candidate:
    """One key of a set, with its attributes in the set."""

    __slots__ = ("_algorithms", "material")

    def __init__(self, material: Material, algorithms: frozenset[str]) -> None:
        self.material = material
        self._algorithms = algorithms

    def serves(self, algorithm: str) -> bool:
        return algorithm in self._algorithms


class KeySet:
    """The keys behind one address or file."""

    _log = Logger()

    def __init__(self, name: str, read: Read, clock: IReactorTime) -> None:
        """`name` is for the log. `read` returns the set's JSON, or fails with an exception whose text gives the reason."""
        self._name = redact(name)
        self._read = read
        self._clock = clock
        self._keys: Mapping[str | None, list[Candidate]] = {}
        self._read_at = -STALE
        self._next_read = 0.0
        # Clients that wait for the read in progress; each is an unauthenticated connection, and bounded as such.
        self._waiting: list[Deferred[None]] = []

    def load(self, body: bytes) -> None:
        """Use this set from now on. Raise ValueError with the reason if it cannot be used; the former one then stays."""
        self._keys = parse(body)
        self._read_at = self._clock.seconds()
        self._next_read = self._read_at + AGAIN

    async def find(self, kid: str | None, algorithm: str) -> Material | None:
        """Return the key with that id that fits the algorithm. Without an id: the set's only such key."""
        now = self._clock.seconds()
        key = self._find(kid, algorithm)
        if (key is None or now - self._read_at >= MAX_AGE) and (self._waiting or now >= self._next_read):
            await self._refresh()
            key = self._find(kid, algorithm)
        return key if self._clock.seconds() - self._read_at < STALE else None

    def _find(self, kid: str | None, algorithm: str) -> Material | None:
        found = [key for key in self._keys.get(kid, ()) if key.serves(algorithm)]
        # With more than one it is unclear which was meant; guessing would help a forger more than a client.
        return found[0].material if len(found) == 1 else None

    def _refresh(self) -> Deferred[None]:
        """Fire, never fail, once the set has been read or the read has failed. All concurrent callers share one read."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            reading = Deferred.fromCoroutine(_body(self._read))
            reading.addTimeout(TIMEOUT, self._clock)
            reading.addCallback(self.load).addErrback(self._failed).addBoth(self._done)
        return waiter

    def _failed(self, failure: Failure) -> None:
        self._next_read = self._clock.seconds() + RETRY
        self._log.warn("Keys of {name} cannot be read: {reason}", name=self._name, reason=_reason(failure))

    def _done(self, _: object) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)


def parse(body: bytes) -> dict[str | None, list[Candidate]]:
    """Return the usable public keys of a set by `kid`, and all of them under None. Raise ValueError if there is none.

    Secrets (`oct`) and private keys do not belong in a set and are ignored, and so are keys that are not for signatures
    and keys that fit no supported algorithm (RFC 7517 section 5: ignore what you do not understand).
    """
    try:
        members = msgspec.json.decode(body, type=dict[str, Any]).get("keys")
    except (ValueError, RecursionError):
        raise ValueError("not a JSON object") from None
    if not isinstance(members, list):
        raise ValueError("no list of keys in it")
    keys: dict[str | None, list[Candidate]] = {None: []}
    for member in members[:MAX_KEYS]:
        candidate = _candidate(member) if isinstance(member, dict) else None
        if candidate is None:
            continue
        keys[None].append(candidate)
        kid = member.get("kid")
        if isinstance(kid, str):
            keys.setdefault(kid, []).append(candidate)
    if not keys[None]:
        raise ValueError("no usable key in it")
    return keys


def _candidate(member: dict[str, Any]) -> Candidate | None:
    if member.get("kty") == "oct" or "d" in member or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        material = PyJWK(member).key
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, AttributeError):
        # PyJWT does not check the types of the members it reads.
        return None
    wanted = (member["alg"],) if "alg" in member else ALGORITHMS
    fitting = frozenset(name for name in ALGORITHMS if name in wanted and misfit(name, material) is None)
    return Candidate(material, fitting) if fitting else None


def file_reader(path: Path) -> Read:
    """Return a reader of a file, which is small and local."""

    async def read() -> bytes:
        return path.read_bytes()

    return read


async def _body(read: Read) -> bytes:
    return await read()


def _reason(failure: Failure) -> str:
    # Nested failures of the HTTP client print as memory addresses.
    reasons = getattr(failure.value, "reasons", None)
    if reasons:
        return _reason(reasons[0])
    if failure.check(defer.CancelledError, defer.TimeoutError):
        return f"no complete answer within {TIMEOUT:g} s"
    return f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
