"""Tokens and keys for tests: valid ones, and hand-made forgeries."""

from __future__ import annotations

import base64
import hmac
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt import PyJWS
from jwt.algorithms import get_default_algorithms

ISSUER = "https://id.example/"
SECRET = "s" * 64
NOW = 1_700_000_000.0

_SIGN = PyJWS()


@cache
def rsa_key(bits: int = 2048, name: str = "") -> rsa.RSAPrivateKey:
    """Return an RSA key, the same for the same arguments; `name` distinguishes several of one size."""
    return rsa.generate_private_key(65537, bits)


@cache
def curve_key(name: str = "P-256") -> ec.EllipticCurvePrivateKey:
    curves: dict[str, ec.EllipticCurve] = {
        "P-256": ec.SECP256R1(),
        "P-384": ec.SECP384R1(),
        "P-521": ec.SECP521R1(),
        "secp256k1": ec.SECP256K1(),
    }
    return ec.generate_private_key(curves[name])


@cache
def edwards_key(name: str = "") -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@cache
def goldilocks_key() -> ed448.Ed448PrivateKey:
    return ed448.Ed448PrivateKey.generate()


def pem(key: Any) -> bytes:
    """Return the public key as PEM."""
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    """Return the public key as a member of a key set, without members that are None."""
    found = get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True)
    return {name: value for name, value in {**found, **members}.items() if value is not None}


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims with changes, without those that are None."""
    good = {"iss": ISSUER, "aud": "nexus", "sub": "agent-001", "role": "agent", "exp": NOW + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def sign(payload: dict[str, Any] | bytes, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    """Return a correctly signed token, perhaps with unusual content."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return _SIGN.encode(body, key, algorithm, headers)


def forge(header: dict[str, Any], payload: dict[str, Any], signature: bytes = b"") -> str:
    """Return a hand-made token."""
    return f"{_part(json.dumps(header).encode())}.{_part(json.dumps(payload).encode())}.{_part(signature)}"


def forge_signed(header: dict[str, Any], payload: dict[str, Any], secret: bytes = SECRET.encode()) -> str:
    """Return a hand-made token with a correct HMAC-SHA-256, whatever its header says."""
    signed = forge(header, payload).removesuffix(".")
    return f"{signed}.{_part(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
