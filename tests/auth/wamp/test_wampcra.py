"""WAMP-CRA, answered by Autobahn's client."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

import pytest
from autobahn.wamp.auth import AuthWampCra, derive_key
from autobahn.wamp.types import Challenge
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.auth.revocations import Revocations
from nexus_tw.model.revocations import Revocation
from nexus_tw.model.settings import Auth, WampCra
from tests.auth.wamp.hello import FAILED, Attempt, House

SALT = "0123456789abcdef"
KEY = derive_key("pepper", SALT, 200, 32).decode()
AUTH = Auth(
    wampcra=(
        WampCra("ann", "user", "pässword of ann"),
        WampCra("salted", "both", "salt and pepper", "", "fedcba9876543210", 100, 16),
        WampCra("derived", "user", "", KEY, SALT, 200),
        WampCra("bob", "other", "password of bob"),
    )
)


def signed(attempt: Attempt, secret: str, authid: str = "ann") -> str:
    return str(AuthWampCra(authid=authid, secret=secret).on_challenge(None, Challenge("wampcra", attempt.extra)))


@pytest.mark.parametrize(
    ("authid", "secret", "role"),
    [("ann", "pässword of ann", "user"), ("salted", "salt and pepper", "both"), ("derived", "pepper", "user")],
)
def test_who_knows_the_password_is_welcome(authid: str, secret: str, role: str) -> None:
    attempt = House(AUTH).hello("wampcra", authid=authid)
    welcome = attempt.answer(signed(attempt, secret, authid)).welcome
    assert (welcome.principal.subject, welcome.principal.role) == (authid, role)
    assert (welcome.authmethod, welcome.authprovider, welcome.authextra) == ("wampcra", "static", {})


def test_the_challenge_says_what_the_session_will_be() -> None:
    house = House(AUTH)
    house.clock.advance(1_700_000_000.5)
    challenge = json.loads(house.hello("wampcra", authid="ann", session=2**53).extra["challenge"])
    assert len(b64decode(challenge.pop("nonce"))) == 24
    assert challenge == {
        "authid": "ann",
        "authrole": "user",
        "authmethod": "wampcra",
        "authprovider": "static",
        "timestamp": "2023-11-14T22:13:20.500Z",
        "session": 2**53,
    }


def test_a_salted_password_comes_with_what_the_key_is_derived_by() -> None:
    house = House(AUTH)
    assert house.hello("wampcra", authid="ann").extra.keys() == {"challenge"}
    extra = house.hello("wampcra", authid="derived").extra
    assert (extra["salt"], extra["iterations"], extra["keylen"]) == (SALT, 200, 32)


@pytest.mark.parametrize("secret", ["", "password of ann", "pässword of ann ", "password of bob"])
def test_who_does_not_know_the_password_is_not(secret: str) -> None:
    attempt = House(AUTH).hello("wampcra", authid="ann")
    assert attempt.answer(signed(attempt, secret)).uri == FAILED


def wrong(right: str) -> list[str]:
    octets = b64decode(right)
    return [
        "",
        right[:-1],
        right + "=",
        right + "\n",
        " " + right,
        right.swapcase(),
        octets.hex(),
        b64encode(octets[:31]).decode(),
        b64encode(octets + b"\0").decode(),
        b64encode(bytes(32)).decode(),
        "\0" * 44,
        "é" * 22,
        "\ud800" * 44,
        "A" * 1_000_000,
    ]


def test_no_signature_but_the_one_is_right() -> None:
    house = House(AUTH)
    for index in range(len(wrong(b64encode(bytes(32)).decode()))):
        attempt = house.hello("wampcra", authid="ann")
        assert attempt.answer(wrong(signed(attempt, "pässword of ann"))[index]).uri == FAILED, index


def test_an_answer_to_another_challenge_is_wrong() -> None:
    """A replay, also one for the same session id at the same time."""
    house = House(AUTH)
    first = house.hello("wampcra", authid="ann")
    answer = signed(first, "pässword of ann")
    assert first.answer(answer).welcome.principal.subject == "ann"
    second = house.hello("wampcra", authid="ann")
    assert second.extra["challenge"] != first.challenges[0][1]["challenge"]
    assert second.answer(answer).uri == FAILED


def test_many_at_once_do_not_get_in_each_others_way() -> None:
    house = House(AUTH)
    attempts = [house.hello("wampcra", authid=authid, session=n) for n, authid in enumerate(["ann", "salted"] * 50)]
    answers = [
        signed(attempt, {0: "pässword of ann", 1: "salt and pepper"}[n % 2]) for n, attempt in enumerate(attempts)
    ]
    for attempt, answer in reversed(list(zip(attempts, answers, strict=True))):
        attempt.answer(answer)
    assert [attempt.welcome.principal.subject for attempt in attempts] == ["ann", "salted"] * 50


def test_a_user_of_another_realm_is_not_known_here() -> None:
    house = House(AUTH)
    for realm, known in (("realm2", True), ("realm1", False)):
        attempt = house.hello("wampcra", authid="bob", realm=realm)
        attempt.answer(signed(attempt, "password of bob", "bob"))
        assert (not known and attempt.uri == FAILED) or attempt.welcome.principal.subject == "bob"


# --- nobody learns who is known -----------------------------------------------------------------------------------------

SALTED = Auth(
    wampcra=tuple(WampCra(f"user-{n}", "user", f"password {n}", "", f"{n * 7919:016x}", 500) for n in range(1, 20))
)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=60))
def test_who_is_unknown_is_challenged_like_who_is_known(authid: str) -> None:
    """Property: over authids."""
    known = STRANGERS.hello("wampcra", authid="user-1").extra
    unknown = STRANGERS.hello("wampcra", authid=authid).extra
    assert unknown.keys() == known.keys()
    assert {name: unknown[name] for name in ("iterations", "keylen")} == {"iterations": 500, "keylen": 32}
    assert len(unknown["salt"]) == 16
    assert set(unknown["salt"]) <= set("0123456789abcdef")
    of_known, of_unknown = json.loads(known["challenge"]), json.loads(unknown["challenge"])
    assert list(of_unknown) == list(of_known)
    assert (of_unknown["authid"], of_unknown["authrole"]) == (authid, "user")


STRANGERS = House(SALTED)


def test_what_is_made_up_stays_the_same_for_one_and_differs_for_others() -> None:
    def salt(house: House, authid: str) -> str:
        return str(house.hello("wampcra", authid=authid).extra["salt"])

    house = House(SALTED)
    assert salt(house, "nobody") == salt(house, "nobody")
    assert len({salt(house, f"nobody-{n}") for n in range(20)}) == 20
    assert salt(house, "nobody") != salt(House(SALTED, seed=2), "nobody")


def test_a_realm_with_and_without_salts_makes_up_both() -> None:
    house = House(AUTH)
    kinds = {"salt" in house.hello("wampcra", authid=f"nobody-{n}").extra for n in range(50)}
    assert kinds == {True, False}


def test_nobody_has_the_key_of_who_does_not_exist() -> None:
    """Neither an empty password nor that of a user opens it."""
    house = House(AUTH)
    for secret in ("", "None", "pässword of ann", "pepper", KEY):
        attempt = house.hello("wampcra", authid="nobody")
        assert attempt.answer(signed(attempt, secret, "nobody")).uri == FAILED


def test_who_is_revoked_is_refused_as_if_its_password_were_wrong() -> None:
    house = House(AUTH)
    revocations = Revocations(house.clock)
    house.authenticators.heed(revocations)
    attempt = house.hello("wampcra", authid="ann")
    revocations.add(Revocation("subject", 0, 0, "ops", "ann"))  # after its challenge
    refusal = attempt.answer(signed(attempt, "pässword of ann")).refusal
    assert (refusal.uri, refusal.message, refusal.rule) == (FAILED, "Wrong credentials", "its credentials are revoked")
    other = house.hello("wampcra", authid="derived")
    assert other.answer(signed(other, "pepper", "derived")).welcome.principal.subject == "derived"
    revocations.lift("subject:ann")
    again = house.hello("wampcra", authid="ann")
    assert again.answer(signed(again, "pässword of ann")).welcome.principal.subject == "ann"
