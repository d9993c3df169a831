"""Revocations: which credentials are refused although they are valid, as an administrator has said."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

MOST: Final = 16384  # of them at a time

Kind = Literal["subject", "jti", "issuedBefore"]


class Revocation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A revocation, as it is kept and told to other nodes.

    By its `kind` it refuses all credentials of a `subject` that were not issued later, one JSON Web Token by its `jti`, or
    every token issued before a time (`issuedBefore`, without a `value`). Of that last kind there is one, the latest.
    """

    kind: Kind
    at: int  # ms since the epoch: tokens issued from then on are not concerned
    made: int  # ms since the epoch
    by: str  # the administrator's subject
    value: str = ""  # the subject, or the token's id
    until: int | None = None  # ms since the epoch: when it ends, as the tokens concerned have expired; None: once it is lifted

    @property
    def key(self) -> str:
        """What identifies it."""
        return f"{self.kind}:{self.value}"

    def over(self, millis: int) -> bool:
        """Return whether it has ended."""
        return self.until is not None and self.until <= millis


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Revocation).decode


def encode_revocation(revocation: Revocation) -> bytes:
    return _encode(revocation)


def decode_revocation(record: bytes) -> Revocation | None:
    """Return the revocation; None if it cannot be decoded, as one of another version."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
