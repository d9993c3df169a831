"""WAMP-Cryptosign, answered by Autobahn's client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import txaio
from autobahn.wamp.auth import AuthCryptoSign
from autobahn.wamp.types import Challenge
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from nexus_tw.model.settings import Auth, Cryptosign
from tests.auth.wamp.hello import FAILED, Attempt, House

txaio.use_twisted()

ANN, PHONE, BOB, MALLORY = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(1, 5))


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


AUTH = Auth(
    cryptosign=(
        Cryptosign("ann", "user", (public(ANN), public(PHONE).upper())),
        Cryptosign("bob", "other", (public(BOB),)),
    )
)


def hello(key: Ed25519PrivateKey, house: House | None = None, authid: str | None = None, realm: str = "realm1") -> Attempt:
    return (house or House(AUTH)).hello("cryptosign", realm=realm, authid=authid, authextra={"pubkey": public(key)})


def signed(attempt: Attempt, key: Ed25519PrivateKey) -> str:
    session: Any = SimpleNamespace(_transport=SimpleNamespace(transport_details=SimpleNamespace(channel_id={})))
    client = AuthCryptoSign(authid="ann", privkey=key.private_bytes_raw().hex())
    answer: Deferred[str] = client.on_challenge(session, Challenge("cryptosign", attempt.extra))
    return str(answer.result)


@pytest.mark.parametrize("authid", ["ann", None, ""])
@pytest.mark.parametrize("key", [ANN, PHONE])
def test_who_has_a_private_key_is_who_the_public_one_stands_for(key: Ed25519PrivateKey, authid: str | None) -> None:
    attempt = hello(key, authid=authid)
    welcome = attempt.answer(signed(attempt, key)).welcome
    assert (welcome.principal.subject, welcome.principal.role) == ("ann", "user")
    assert (welcome.authmethod, welcome.authprovider, welcome.authextra) == ("cryptosign", "static", {})


def test_the_public_key_may_be_written_in_capitals() -> None:
    attempt = House(AUTH).hello("cryptosign", authextra={"pubkey": public(ANN).upper(), "channel_binding": None})
    assert attempt.answer(signed(attempt, ANN)).welcome.principal.subject == "ann"


def test_a_challenge_is_32_random_bytes_and_bound_to_no_channel() -> None:
    house = House(AUTH)
    one, two = hello(ANN, house).extra, hello(ANN, house).extra
    assert one.keys() == {"challenge", "channel_binding"}
    assert one["channel_binding"] is None
    assert len(bytes.fromhex(one["challenge"])) == 32
    assert one["challenge"] != two["challenge"]


def test_a_key_that_is_not_known_here_is_challenged_and_refused() -> None:
    for key, realm in ((MALLORY, "realm1"), (BOB, "realm1"), (ANN, "realm2")):
        attempt = hello(key, realm=realm)
        assert attempt.extra.keys() == {"challenge", "channel_binding"}
        assert attempt.answer(signed(attempt, key)).uri == FAILED


def test_somebody_elses_key_or_name_does_not_help() -> None:
    attempt = hello(ANN)
    assert attempt.answer(signed(attempt, MALLORY)).uri == FAILED
    attempt = hello(ANN, authid="bob")
    assert attempt.answer(signed(attempt, ANN)).uri == FAILED


def test_an_answer_to_another_challenge_is_wrong() -> None:
    """A replay; and a signature over something of the client's own choice."""
    house = House(AUTH)
    first = hello(ANN, house)
    answer = signed(first, ANN)
    assert first.answer(answer).welcome.principal.subject == "ann"
    assert hello(ANN, house).answer(answer).uri == FAILED
    chosen = bytes(32)
    assert hello(ANN, house).answer(ANN.sign(chosen).hex() + chosen.hex()).uri == FAILED
    attempt = hello(ANN, house)
    # The signature is right, what it is said to be over is not.
    assert attempt.answer(signed(attempt, ANN)[:128] + chosen.hex()).uri == FAILED


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda right: "",
        lambda right: right[:128],
        lambda right: right[:-2],
        lambda right: right[:-1],
        lambda right: right + "00",
        lambda right: right[128:] + right[:128],
        lambda right: "00" * 64 + right[128:],
        lambda right: f"{int(right[:2], 16) ^ 1:02x}{right[2:]}",
        lambda right: "zz" + right[2:],
        lambda right: right.replace("0", "é"),
        lambda right: "\ud800" * 192,
        lambda right: "ab" * 500_000,
    ],
)
def test_no_signature_but_the_one_is_right(spoiled: Any) -> None:
    attempt = hello(ANN)
    assert attempt.answer(spoiled(signed(attempt, ANN))).uri == FAILED


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=96, max_size=96))
def test_no_public_key_is_known_but_those_of_the_file(key: bytes, answer: bytes) -> None:
    """Property: over keys, points of the curve or not."""
    attempt = House(AUTH).hello("cryptosign", authextra={"pubkey": key.hex()})
    assert attempt.answer(answer[:64].hex() + attempt.extra["challenge"]).uri == FAILED


def test_many_at_once_do_not_get_in_each_others_way() -> None:
    house = House(AUTH)
    attempts = [hello(ANN, house, realm="realm1") for _ in range(20)] + [hello(BOB, house, realm="realm2") for _ in range(20)]
    for attempt in reversed(attempts):
        key = ANN if attempts.index(attempt) < 20 else BOB
        attempt.answer(signed(attempt, key))
    assert [attempt.welcome.principal.subject for attempt in attempts] == ["ann"] * 20 + ["bob"] * 20
