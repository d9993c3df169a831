"""Key material for signatures: its kinds, and the algorithms that each may be used with.

Checking the kind against the algorithm prevents a public key from being used as an HMAC secret (RFC 8725 section 2.1).
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWS
from jwt.exceptions import InvalidKeyError

Material = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey
"""A secret (bytes) or a public key."""

# RFC 7518 section 3.3 requires at least 2,048 bits; OpenSSL verifies nothing beyond 16,384.
RSA_BITS: Final = range(2048, 16385)
# RFC 7518 section 3.2: a secret is at least as long as the hash.
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

_EDWARDS: Final = (Ed25519PublicKey, Ed448PublicKey)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(SECRET_BYTES, (bytes,)),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), (RSAPublicKey,)),
    **dict.fromkeys(("ES256", "ES384", "ES512"), (EllipticCurvePublicKey,)),
    "EdDSA": _EDWARDS,
}
ALGORITHMS: Final = tuple(_KINDS)

JWS: Final = PyJWS(ALGORITHMS, {"verify_signature": True, "enforce_minimum_key_length": True})


def misfit(algorithm: str, material: Material) -> str | None:
    """Return why this material cannot be used with one of `ALGORITHMS`; None if it can."""
    if not isinstance(material, _KINDS[algorithm]):
        return f"{algorithm} needs another kind of key"
    if isinstance(material, bytes) and len(material) < SECRET_BYTES[algorithm]:
        return f"{algorithm} needs a secret of at least {SECRET_BYTES[algorithm]} bytes"
    if isinstance(material, RSAPublicKey) and material.key_size not in RSA_BITS:
        return f"an RSA key has {RSA_BITS.start} to {RSA_BITS.stop - 1} bits"
    try:
        # Checks the curve of an ES algorithm, and rejects secrets that look like a published key.
        JWS.get_algorithm_by_name(algorithm).prepare_key(material)
    except InvalidKeyError as error:
        return str(error)
    return None


def read_pem(data: bytes) -> Material:
    """Return the public key in a PEM. Raise ValueError with the reason if there is none."""
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        # The library's reason may quote the file, which may be another one by mistake.
        raise ValueError("no PEM of a public key") from None
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey):
        raise ValueError("neither an RSA, an elliptic curve nor an Edwards key")
    return key
