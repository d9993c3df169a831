"""WAMP-SCRAM: the specification's, by a client written after RFC 5802, and Autobahn's, by its own client."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256
from types import SimpleNamespace
from typing import Any

import pytest
from argon2.low_level import Type, hash_secret, hash_secret_raw
from autobahn.wamp.auth import AuthScram
from autobahn.wamp.types import Challenge
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger

from nexus_tw.auth.wamp import scram
from nexus_tw.model.settings import Auth, Scram
from tests.auth.wamp.hello import FAILED, Attempt, House

NONCE = b64encode(b"nonce of client!").decode()
SALT = bytes(range(16))


def keys(salted: bytes) -> tuple[str, str]:
    """StoredKey and ServerKey (RFC 5802 section 3)."""
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return sha256(client_key).hexdigest(), hmac.digest(salted, b"Server Key", "sha256").hex()


def by_pbkdf2(password: str, salt: bytes, iterations: int) -> bytes:
    return pbkdf2_hmac("sha256", password.encode(), salt, iterations, 32)


def by_argon2(password: str, salt: bytes, iterations: int, memory: int) -> bytes:
    return hash_secret_raw(password.encode(), salt, iterations, memory, 1, 32, Type.ID, 0x13)


def by_autobahn(password: str, salt: bytes, iterations: int, memory: int) -> bytes:
    """Autobahn's own: the text of the hash instead of its bytes."""
    return hash_secret(password.encode(), salt, iterations, memory, 1, 32, Type.ID, 0x13).rpartition(b"$")[2]


AUTH = Auth(
    scram=(
        Scram("ann", "user", "pbkdf2", SALT.hex(), 100, *keys(by_pbkdf2("password", SALT, 100))),
        Scram("argon,=2", "user", "argon2id13", SALT.hex(), 1, *keys(by_argon2("pencil", SALT, 1, 64)), 64),
        Scram("autobahn", "user", "argon2id13", SALT.hex(), 2, *keys(by_autobahn("pencil", SALT, 2, 32)), 32),
        Scram("bob", "other", "pbkdf2", SALT.hex(), 100, *keys(by_pbkdf2("password", SALT, 100))),
    )
)


class Client:
    """RFC 5802's client with the attributes where WAMP has them."""

    def __init__(self, authid: str, password: str) -> None:
        self.authid = authid
        self.password = password
        self.expected = ""  # of the server

    def hello(self, house: House | None = None, realm: str = "realm1", nonce: str = NONCE) -> Attempt:
        return (house or House(AUTH)).hello(
            "wamp-scram", realm=realm, authid=self.authid, authextra={"nonce": nonce, "channel_binding": None}
        )

    def proof(self, extra: dict[str, Any]) -> str:
        assert extra["nonce"].startswith(NONCE)
        salt, iterations = b64decode(extra["salt"]), extra["iterations"]
        if extra["kdf"] == "pbkdf2":
            salted = by_pbkdf2(self.password, salt, iterations)
        else:
            assert extra["kdf"] == "argon2id13"
            salted = by_argon2(self.password, salt, iterations, extra["memory"])
        name = self.authid.replace("=", "=3D").replace(",", "=2C")
        message = (
            f"n={name},r={NONCE},r={extra['nonce']},s={extra['salt']},i={iterations},c=biws,r={extra['nonce']}"
        ).encode()
        stored_key, server_key = (bytes.fromhex(key) for key in keys(salted))
        self.expected = b64encode(hmac.digest(server_key, message, "sha256")).decode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(stored_key, message, "sha256")
        return b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()


def repeated(attempt: Attempt) -> dict[str, Any]:
    return {"nonce": attempt.extra["nonce"], "channel_binding": None, "cbind_data": None}


@pytest.mark.parametrize(("authid", "password"), [("ann", "password"), ("argon,=2", "pencil")])
def test_both_sides_prove_that_they_know_the_password(authid: str, password: str) -> None:
    client = Client(authid, password)
    attempt = client.hello()
    welcome = attempt.answer(client.proof(attempt.extra), repeated(attempt)).welcome
    assert (welcome.principal.subject, welcome.principal.role) == (authid, "user")
    assert (welcome.authmethod, welcome.authprovider) == ("wamp-scram", "static")
    assert welcome.authextra == {"verifier": client.expected}


def test_the_challenge_says_how_to_derive() -> None:
    extra = Client("ann", "").hello().extra
    assert extra.pop("nonce").removeprefix(NONCE).isascii()
    assert extra == {"salt": b64encode(SALT).decode(), "kdf": "pbkdf2", "iterations": 100}
    extra = Client("argon,=2", "").hello().extra
    assert (extra["kdf"], extra["iterations"], extra["memory"]) == ("argon2id13", 1, 64)


def test_the_example_of_rfc_7677_section_3() -> None:
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    client_nonce, nonce = "rOprNGfwEbeRWgbNEkqO", "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = scram.auth_message("user", client_nonce, nonce, salt, 4096, scram.SPECIFICATION.unbound)
    stored_key, server_key = (bytes.fromhex(key) for key in keys(by_pbkdf2("pencil", b64decode(salt), 4096)))
    assert scram.is_proof("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", stored_key, message)
    assert b64encode(hmac.digest(server_key, message, "sha256")) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_what_is_repeated_may_be_left_out_and_must_not_differ() -> None:
    client = Client("ann", "password")
    attempt = client.hello()
    assert attempt.answer(client.proof(attempt.extra)).welcome.principal.subject == "ann"
    others: dict[str, list[Any]] = {
        "nonce": [NONCE, "", None, 1, ["x"]],
        "channel_binding": ["tls-unique", "", 1, False],
        "cbind_data": ["AAAA", "", 1, False],
    }
    for name, values in others.items():
        for value in values:
            attempt = client.hello()
            answered = attempt.answer(client.proof(attempt.extra), {**repeated(attempt), name: value})
            assert answered.uri == FAILED, (name, value)


@pytest.mark.parametrize("password", ["", "passwore", "pencil"])
def test_who_does_not_know_the_password_is_refused(password: str) -> None:
    client = Client("ann", password)
    attempt = client.hello()
    assert attempt.answer(client.proof(attempt.extra), repeated(attempt)).uri == FAILED


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda right: "",
        lambda right: right[:-1],
        lambda right: right + "\n",
        lambda right: right + "AAAA",
        lambda right: b64decode(right).hex(),
        lambda right: b64encode(b64decode(right)[:31]).decode(),
        lambda right: b64encode(bytes(32)).decode(),
        lambda right: "é" * 44,
        lambda right: "\ud800" * 44,
        lambda right: "A" * 1_000_000,
    ],
)
def test_no_proof_but_the_one_is_right(spoiled: Any) -> None:
    client = Client("ann", "password")
    attempt = client.hello()
    assert attempt.answer(spoiled(client.proof(attempt.extra))).uri == FAILED


def test_who_has_stolen_the_configuration_cannot_make_a_proof() -> None:
    """StoredKey and ServerKey are all that is kept; used as the client's key they open nothing."""
    for stolen in (AUTH.scram[0].stored_key, AUTH.scram[0].server_key):
        attempt = Client("ann", "").hello()
        extra = attempt.extra
        message = scram.auth_message("ann", NONCE, extra["nonce"], extra["salt"], 100, scram.SPECIFICATION.unbound)
        mask = hmac.digest(bytes.fromhex(AUTH.scram[0].stored_key), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(bytes.fromhex(stolen), mask, strict=True))
        assert attempt.answer(b64encode(proof).decode()).uri == FAILED


def test_an_answer_to_another_challenge_is_wrong() -> None:
    """A replay with the same nonce of the client."""
    house, client = House(AUTH), Client("ann", "password")
    first = client.hello(house)
    proof = client.proof(first.extra)
    assert first.answer(proof).welcome.principal.subject == "ann"
    second = client.hello(house)
    assert second.extra["nonce"] != first.challenges[0][1]["nonce"]
    assert second.answer(proof).uri == FAILED


def test_many_at_once_do_not_get_in_each_others_way() -> None:
    house, client = House(AUTH), Client("ann", "password")
    attempts = [client.hello(house) for _ in range(20)]
    for attempt in reversed(attempts):
        attempt.answer(client.proof(attempt.extra))
    assert all(attempt.welcome.principal.subject == "ann" for attempt in attempts)


def test_a_user_of_another_realm_is_not_known_here() -> None:
    client = Client("bob", "password")
    attempt = client.hello(realm="realm2")
    assert attempt.answer(client.proof(attempt.extra)).welcome.principal.subject == "bob"
    attempt = client.hello(realm="realm1")
    # Costs and salt are made up.
    attempt.answer(b64encode(bytes(32)).decode())
    assert attempt.uri == FAILED


# --- nobody learns who is known -----------------------------------------------------------------------------------------

ALIKE = House(Auth(scram=(AUTH.scram[0],)))


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=60))
def test_who_is_unknown_is_challenged_like_who_is_known(authid: str) -> None:
    """Property: over authids."""
    known, unknown = (Client(each, "").hello(ALIKE).extra for each in ("ann", authid))
    assert list(unknown) == list(known)
    assert (unknown["kdf"], unknown["iterations"]) == ("pbkdf2", 100)
    assert len(unknown["salt"]) == len(known["salt"])
    assert len(unknown["nonce"]) == len(known["nonce"])
    assert Client(authid, "").hello(ALIKE).extra["salt"] == unknown["salt"]


def test_nobody_has_the_key_of_who_does_not_exist() -> None:
    house = House(Auth(scram=(AUTH.scram[0],)))
    for password in ("", "password"):
        client = Client("nobody", password)
        attempt = client.hello(house)
        assert attempt.extra["salt"] != b64encode(SALT).decode()
        assert attempt.answer(client.proof(attempt.extra), repeated(attempt)).uri == FAILED


# --- Autobahn -----------------------------------------------------------------------------------------------------------


def autobahn(password: str, house: House | None = None) -> tuple[AuthScram, Attempt]:
    client = AuthScram(authid="autobahn", password=password)
    return client, (house or House(AUTH)).hello("scram", authid="autobahn", authextra=client.authextra)


def proven(client: AuthScram, attempt: Attempt) -> str:
    return str(client.on_challenge(None, Challenge(attempt.method, attempt.extra)).decode())


def test_autobahns_client_is_spoken_to_as_it_speaks_and_believes_the_server() -> None:
    client, attempt = autobahn("pencil")
    assert (attempt.method, attempt.extra["kdf"]) == ("scram", "argon2id-13")
    welcome = attempt.answer(proven(client, attempt)).welcome
    assert (welcome.principal.subject, welcome.authmethod) == ("autobahn", "scram")
    session = SimpleNamespace(log=Logger())
    assert client.on_welcome(session, welcome.authextra) is None
    forged = {"scram_server_signature": b64encode(bytes(32)).decode()}
    assert client.on_welcome(session, forged) is not None


def test_autobahns_client_with_a_wrong_password() -> None:
    client, attempt = autobahn("pen")
    assert attempt.answer(proven(client, attempt)).uri == FAILED


def test_a_proof_of_one_spelling_is_none_of_the_other() -> None:
    """What is signed differs, so one cannot be passed off as the other."""
    client = Client("ann", "password")
    attempt = House(AUTH).hello("scram", authid="ann", authextra={"nonce": NONCE})
    assert attempt.answer(client.proof(attempt.extra)).uri == FAILED
