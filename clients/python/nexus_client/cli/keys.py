"""Keys of tokens: API keys with the digests that a server keeps, and the signatures of JSON Web Tokens (RFC 7519)."""

from __future__ import annotations

import os
import re
import secrets
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nexus_client.cli.failures import Failure, WrongUsage, of_system

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

# What a server takes: 1 to 8,192 printable ASCII characters without spaces.
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
# RFC 7518 section 3.2: a secret is at least as long as the hash.
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
ALGORITHMS: Final = (*SECRET_BYTES, *_RSA, "ES256", "ES384", "ES512", "EdDSA")
RSA_BITS: Final = 2048  # RFC 7518 section 3.3


def new_key() -> str:
    """Return a new API key: 256 random bits in the URL's alphabet, so that every carrier of a token can hold it."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """Return the hash of an API key as `[[auth.keys]]` holds it. Raise `WrongUsage` if no request could carry the key."""
    if not _TOKEN.fullmatch(token):
        raise WrongUsage("a token is 1 to 8192 printable ASCII characters without spaces; this is something else")
    return f"sha256:{sha256(token.encode()).hexdigest()}"


def secret(given: str) -> bytes:
    """Return a secret: the text, or with `env:NAME` what that variable holds."""
    if not given.startswith("env:"):
        return given.encode()
    name = given.removeprefix("env:")
    if not os.environ.get(name):
        raise Failure(f"--secret: the environment variable {name} is not set")
    return os.environ[name].encode()


def signing_key(file: str) -> PrivateKeyTypes:
    """Return the private key in a PEM file. Raise `Failure` if there is none, or it is encrypted."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(_content(file), None)
    except TypeError:
        raise Failure(f"--key: {file} is encrypted", hint=f"decrypt it first: openssl pkey -in {file}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Failure(
            f"--key: {file} holds no private key in PEM form", hint="openssl genpkey -algorithm ed25519 -out issuer.pem"
        ) from None


def verifying_key(file: str) -> PublicKeyTypes:
    """Return the public key in a PEM file, also that of a private key or a certificate. Raise `Failure` if there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from cryptography.x509 import load_pem_x509_certificate

    content = _content(file)
    try:
        if b"PRIVATE KEY" in content:
            return signing_key(file).public_key()
        if b"CERTIFICATE" in content:
            return load_pem_x509_certificate(content).public_key()
        return load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise Failure(f"--key: {file} holds no public key, private key or certificate in PEM form") from None


def fitting(key: Any) -> tuple[str, ...]:
    """Return the algorithms that a key may be used with, the usual one first. Raise `Failure` for a key of no use.

    A public key is never taken for a secret (RFC 8725 section 2.1): the algorithm follows from the kind of the key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, bytes):
        found = tuple(name for name, least in SECRET_BYTES.items() if len(key) >= least)
        if not found:
            raise Failure("HS256 needs a secret of at least 32 bytes", hint="nexus token new makes a good one")
        return found
    if isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey | ed448.Ed448PrivateKey | ed448.Ed448PublicKey):
        return ("EdDSA",)
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        if key.key_size < RSA_BITS:
            raise Failure(f"--key: an RSA key needs {RSA_BITS} bits or more; this one has {key.key_size}")
        return _RSA
    raise Failure("--key: no key of a kind for tokens: Ed25519, Ed448, P-256, P-384, P-521 or RSA")


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Failure(f"--key: {of_system(error)}") from None
