"""The algorithms that may be used with each key."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa

from nexus_tw.auth.material import ALGORITHMS, misfit, read_pem
from tests.auth.tokens import curve_key, edwards_key, goldilocks_key, jwk, key_set, pem, private_pem, rsa_key

FITTING: list[tuple[Any, set[str]]] = [
    (b"x" * 64, {"HS256", "HS384", "HS512"}),
    (b"x" * 48, {"HS256", "HS384"}),
    (b"x" * 32, {"HS256"}),
    (b"x" * 31, set()),
    (b"", set()),
    (rsa_key().public_key(), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    (rsa_key(1024).public_key(), set()),
    (curve_key("P-256").public_key(), {"ES256"}),
    (curve_key("P-384").public_key(), {"ES384"}),
    (curve_key("P-521").public_key(), {"ES512"}),
    (curve_key("secp256k1").public_key(), set()),
    (edwards_key().public_key(), {"EdDSA"}),
    (goldilocks_key().public_key(), {"EdDSA"}),
]


@pytest.mark.parametrize(("material", "fitting"), FITTING)
def test_a_key_serves_the_algorithms_of_its_kind_and_strength_and_no_other(material: Any, fitting: set[str]) -> None:
    assert {name for name in ALGORITHMS if misfit(name, material) is None} == fitting


@pytest.mark.parametrize("key", [rsa_key(), curve_key(), edwards_key()])
def test_a_public_key_in_any_writing_is_no_secret(key: Any) -> None:
    """RFC 8725 section 2.1: else whoever knows the public key could sign with it."""
    written = key_set(jwk(key, {"RSAPrivateKey": "RS256", "ECPrivateKey": "ES256"}.get(type(key).__name__, "EdDSA")))
    for secret in (pem(key), private_pem(key), written):
        for algorithm in ("HS256", "HS384", "HS512"):
            assert misfit(algorithm, secret) is not None


@pytest.mark.parametrize("key", [rsa_key(), curve_key(), edwards_key(), goldilocks_key()])
def test_a_pem_holds_a_public_key(key: Any) -> None:
    assert read_pem(pem(key)) == key.public_key()


@pytest.mark.parametrize("data", [b"", b"junk", b"\xff", private_pem(rsa_key())])
def test_what_holds_none_is_refused_without_being_quoted(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\Ano PEM of a public key\Z"):
        read_pem(data)


def test_a_key_of_a_kind_that_no_algorithm_uses_is_refused() -> None:
    with pytest.raises(ValueError, match="neither an RSA"):
        read_pem(pem(dsa.generate_private_key(1024)))
