"""HELLO: the realms and methods by which clients may join, and the answers to refused ones."""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nexus_tw.auth import Authenticators
from nexus_tw.auth.wamp.introductions import Refusal, Welcome, methods_of
from nexus_tw.model.errors import ConfigError
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Auth, Cryptosign, Realm, Role, Scram, WampCra
from tests.auth.wamp.hello import DENIED, FAILED, NO_METHOD, NO_REALM, ROLES, VIOLATION, House

KEY = "ab" * 32
EVERYBODY = Auth(
    wampcra=(WampCra("ann", "user", "secret-of-ann"),),
    cryptosign=(Cryptosign("ann", "user", (KEY,)),),
    scram=(Scram("ann", "user", "pbkdf2", "00" * 16, 4096, KEY, KEY),),
)
OPEN = {"realm1": Realm(anonymous="guest")}


# --- anonymous ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("details", [{}, {"authmethods": []}, {"authmethods": None}, {"authmethods": ["anonymous"]}])
def test_who_offers_nothing_or_anonymous_gets_the_role_of_the_realm(details: dict[str, Any]) -> None:
    welcome = House(realms=OPEN).hello(**details).welcome
    assert (welcome.authmethod, welcome.authprovider, welcome.authextra) == ("anonymous", "anonymous", {})
    assert welcome.principal.role == "guest"
    assert welcome.principal.allows("subscribe", "news.today")
    assert not welcome.principal.allows("publish", "news.today")


def test_each_anonymous_client_is_somebody_else_whatever_it_asks_for() -> None:
    house = House(EVERYBODY, realms=OPEN)
    subjects = {house.hello(authid=authid).welcome.principal.subject for authid in ("ann", "ann", "anonymous-1", "", None)}
    assert len(subjects) == 5
    assert all(subject.startswith("anonymous-") and len(subject) == 34 for subject in subjects)


def test_a_realm_without_anonymous_clients_refuses_them() -> None:
    house = House(realms=OPEN)
    refusal = house.hello("anonymous", realm="realm2").refusal
    assert (refusal.uri, refusal.message) == (NO_METHOD, "No authmethod that can be used here. This realm offers ticket")
    assert house.refused == {"no_matching_auth_method": 1}


# --- who was known before -----------------------------------------------------------------------------------------------


def test_who_showed_a_token_at_the_upgrade_is_welcomed_as_that_whatever_it_offers() -> None:
    house, bob = House(realms=OPEN), Principal("bob", "user", ROLES["user"])
    for details in ({}, {"authmethods": ["anonymous", "ticket"]}, {"authmethods": ["unheard-of"]}, {"authid": "bob"}):
        assert house.hello(principal=bob, **details).welcome == Welcome(bob, "transport", "transport", {})


def test_who_showed_a_token_cannot_be_somebody_else_by_its_authid() -> None:
    house = House()
    assert house.hello(principal=Principal("bob", "user", ROLES["user"]), authid="ann").uri == FAILED
    assert house.refused == {"unauthorized": 1}


def test_a_principal_whose_role_may_not_join_the_realm_is_refused() -> None:
    house, bob = House(), Principal("bob", "user", ROLES["user"])
    assert house.hello(principal=bob, realm="realm2").uri == DENIED
    assert house.hello(principal=bob, realm="nexus").uri == DENIED
    assert house.hello(principal=Principal("root", "admin", ADMIN), realm="realm2").welcome.principal.subject == "root"
    assert house.refused == {"authorization_denied": 2}


# --- realms and methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("realm", ["realm3", "", "wamp.realm", "x" * 10000, "re\nalm", "\ud800"])
def test_a_realm_that_does_not_exist(realm: str) -> None:
    house = House(realms=OPEN)
    assert house.hello(realm=realm).uri == NO_REALM
    assert house.hello(realm=realm, principal=Principal("root", "admin", ADMIN)).uri == NO_REALM
    assert house.refused == {"no_such_realm": 2}


def test_the_clients_order_is_its_preference() -> None:
    house = House(EVERYBODY, realms=OPEN)
    offers = {
        ("ticket", "wampcra"): "ticket",
        ("wampcra", "ticket"): "wampcra",
        ("cryptosign", "wampcra"): "cryptosign",
        ("cookie", "tls", "wamp-scram", "scram"): "wamp-scram",
        ("scram", "wamp-scram"): "scram",
        ("wampcra", "wampcra"): "wampcra",
        ("", "WAMPCRA", "wampcra"): "wampcra",
    }
    for offered, chosen in offers.items():
        attempt = house.hello(*offered, authid="ann", authextra={"pubkey": KEY, "nonce": "AAAA"})
        assert attempt.method == chosen, offered
    assert house.hello("anonymous", "wampcra", authid="ann").welcome.authmethod == "anonymous"


def test_a_method_that_cannot_be_used_with_this_hello_is_passed_over() -> None:
    house = House(EVERYBODY, realms=OPEN)
    assert house.hello("wampcra", "ticket").method == "ticket"
    assert house.hello("wamp-scram", "scram", "wampcra", authid="ann").method == "wampcra"
    assert house.hello("cryptosign", "ticket", authid="ann").method == "ticket"
    bound = {"pubkey": KEY, "nonce": "AAAA", "channel_binding": "tls-unique"}
    assert house.hello("cryptosign", "scram", "wampcra", authid="ann", authextra=bound).method == "wampcra"


def test_where_none_can_be_used_it_is_said_why() -> None:
    house = House(EVERYBODY)
    bound = {"pubkey": KEY, "channel_binding": "tls-exporter"}
    refusal = house.hello("wampcra", "cryptosign", "scram", "x" * 1000, authextra=bound).refusal
    assert refusal.uri == NO_METHOD
    assert refusal.message == (
        "No authmethod that can be used here. This realm offers cryptosign, scram, ticket, wamp-scram, wampcra; "
        "wampcra needs an authid; cryptosign channel binding is not supported; scram needs an authid"
    )


def test_a_method_is_there_only_in_realms_that_somebody_can_join_by_it() -> None:
    house = House(EVERYBODY)
    for method in ("wampcra", "cryptosign", "scram", "wamp-scram"):
        details: dict[str, Any] = {"authid": "ann", "authextra": {"pubkey": KEY, "nonce": "AAAA"}}
        assert house.hello(method, realm="realm1", **details).method == method
        assert house.hello(method, realm="realm2", **details).uri == NO_METHOD
        assert house.hello(method, realm="nexus", **details).uri == NO_METHOD


# --- what a stranger says -----------------------------------------------------------------------------------------------

NO_STRINGS: list[Any] = [1, 1.5, True, ["ann"], {"ann": 1}, b"ann"]


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("authmethods", [1, True, "wampcra", {"wampcra": 1}, [1], ["wampcra", None], [["wampcra"]], [b"wampcra"]]),
        ("authid", NO_STRINGS),
        ("authrole", NO_STRINGS),
        ("authextra", [1, True, "text", ["nonce"], b"nonce"]),
    ],
)
def test_a_member_of_the_wrong_type_is_named(member: str, values: list[Any]) -> None:
    for value in values:
        house = House(EVERYBODY, realms=OPEN)
        refusal = house.hello(**{member: value}).refusal
        assert refusal.uri == VIOLATION
        assert refusal.message.startswith(f"Invalid message format: {member}: must be ")
        assert house.refused == {"protocol_violation": 1}


@pytest.mark.parametrize(
    ("method", "name", "values"),
    [
        ("cryptosign", "pubkey", [1, True, b"\0" * 32, [KEY], "", "zz" * 32, KEY[:-1], KEY + "0", "é" * 64, KEY + "\n"]),
        ("cryptosign", "channel_binding", [1, False, ["tls-unique"], {}]),
        ("scram", "nonce", [1, True, b"AAAA", ["AAAA"], "", "A", "AAA", "AAAA,", "AA==AAAA", "é===", "A" * 260, "AAAA\n"]),
        ("scram", "channel_binding", [1, False, ["tls-unique"], {}]),
    ],
)
def test_a_member_of_authextra_that_is_wrong_is_named(method: str, name: str, values: list[Any]) -> None:
    for value in values:
        extra = {"pubkey": KEY, "nonce": "AAAA", name: value}
        refusal = House(EVERYBODY).hello(method, authid="ann", authextra=extra).refusal
        assert refusal.uri == VIOLATION, value
        assert refusal.message.startswith(f"Invalid message format: authextra.{name}: must be "), value


@pytest.mark.parametrize("authid", ["x" * 256, "a\nb", "\0", "\ud800", "a\u2028b"])
def test_an_authid_that_nobody_can_have_is_refused_where_one_is_needed(authid: str) -> None:
    house = House(EVERYBODY, realms=OPEN)
    for method in ("wampcra", "scram"):
        refusal = house.hello(method, authid=authid, authextra={"nonce": "AAAA"}).refusal
        assert (refusal.uri, authid in refusal.message) == (VIOLATION, False)
    assert house.hello(authid=authid).welcome.authmethod == "anonymous"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
METHODS = st.sampled_from(["anonymous", "ticket", "wampcra", "cryptosign", "scram", "wamp-scram", "cookie"])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "authmethods": st.lists(METHODS) | JSON,
            "authid": st.just("ann") | st.text() | JSON,
            "authrole": JSON,
            "authextra": st.fixed_dictionaries(
                {}, optional={"pubkey": st.just(KEY) | JSON, "nonce": st.just("AAAA") | JSON, "channel_binding": JSON}
            )
            | JSON,
        },
    ),
    st.text() | st.binary().map(repr),
    st.dictionaries(st.sampled_from(["nonce", "channel_binding", "cbind_data", "other"]), JSON),
)
def test_whatever_a_client_says_it_gets_one_answer_and_never_becomes_ann(
    details: dict[str, Any], signature: str, extra: dict[str, Any]
) -> None:
    """Property: over details, signatures and extras of any kind."""
    attempt = HOUSE.hello(**details)
    if attempt.challenges:
        attempt.answer(signature, extra)
        assert attempt.uri == FAILED
    elif isinstance(attempt.ends[0], Refusal):
        assert attempt.uri in (VIOLATION, NO_METHOD)
    else:
        assert attempt.welcome.authmethod == "anonymous"


HOUSE = House(EVERYBODY, realms=OPEN)


# --- answers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ticket", "wampcra", "cryptosign", "scram", "wamp-scram"])
def test_all_wrong_credentials_get_the_same_answer_and_are_counted(method: str) -> None:
    answers = set()
    house = House(EVERYBODY)
    for authid in ("ann", "nobody"):
        for key in (KEY, "cd" * 32):
            attempt = house.hello(method, authid=authid, authextra={"pubkey": key, "nonce": "AAAA"}).answer("wrong")
            answers.add((attempt.uri, attempt.refusal.message))
    assert answers == {(FAILED, "Wrong credentials")}
    assert house.refused == {"unauthorized": 4}


@pytest.mark.parametrize("authid", ["ann", "nobody"])
@pytest.mark.parametrize("method", ["wampcra", "scram", "wamp-scram"])
def test_what_depends_on_a_secret_is_compared_in_constant_time_for_who_is_known_and_who_is_not(
    method: str, authid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return compare(one, other)

    attempt = House(EVERYBODY).hello(method, authid=authid, authextra={"nonce": "AAAA"})
    monkeypatch.setattr(hmac, "compare_digest", counted)
    assert attempt.answer(b64encode(bytes(32)).decode()).uri == FAILED
    assert compared == [44 if method == "wampcra" else 32]


def test_a_challenge_is_answered_once() -> None:
    house = House(EVERYBODY)
    attempt = house.hello("wampcra", authid="ann")
    for _ in range(3):
        attempt.answer("wrong")
    assert attempt.uri == FAILED
    assert house.refused == {"unauthorized": 1}


def test_an_answer_to_no_challenge_is_ignored() -> None:
    house = House(realms=OPEN)
    assert house.hello().answer("anything").welcome.authmethod == "anonymous"
    assert house.hello(realm="nowhere").answer("anything").uri == NO_REALM


def test_nothing_is_called_for_a_client_that_is_gone() -> None:
    house = House(EVERYBODY)
    attempt = house.hello("wampcra", authid="ann")
    assert attempt.introduction is not None
    attempt.introduction.abandon()
    attempt.answer("wrong")
    assert attempt.ends == []
    assert house.refused == {}


def test_a_method_that_fails_by_itself_lets_nobody_in(logged: list[str]) -> None:
    """A fault of ours is no way in, and what was shown is not logged with it."""
    house = House(EVERYBODY)
    attempt = house.hello("wampcra", authid="ann")
    attempt.answer(None)  # type: ignore[arg-type]
    assert (attempt.uri, attempt.refusal.passing) == (FAILED, True)
    assert house.refused == {"internal": 1}
    assert logged == [
        "error: An authentication failed with AttributeError",
        "info: A client at 127.0.0.1 was refused: wamp.error.authentication_failed: a fault of the server",
    ]


# --- the configuration --------------------------------------------------------------------------------------------------


def methods(auth: Auth, roles: dict[str, Role] | None = None) -> None:
    realms = {"nexus": Realm(), "realm1": Realm(), "realm2": Realm()}
    methods_of(realms, auth, ROLES if roles is None else roles, Authenticators(()), Clock())


SALTED = "A" * 43 + "="


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        (Auth(wampcra=(WampCra("a", "usr", "s"),)), "auth.wampcra[0].role: no such role: 'usr'"),
        (Auth(cryptosign=(Cryptosign("a", "usr", (KEY,)),)), "auth.cryptosign[0].role: no such role: 'usr'"),
        (Auth(scram=(Scram("a", "usr", "pbkdf2", "00" * 8, 1, KEY, KEY),)), "auth.scram[0].role: no such role: 'usr'"),
        (Auth(wampcra=(WampCra("a", "user"),)), "auth.wampcra[0]: needs exactly one of secret and key"),
        (Auth(wampcra=(WampCra("a", "user", "s", SALTED, "x"),)), "auth.wampcra[0]: needs exactly one of secret and key"),
        (Auth(wampcra=(WampCra("a", "user", key=SALTED),)), "auth.wampcra[0].key: needs the salt"),
        (Auth(wampcra=(WampCra("a", "user", key="AAAA", salt="x"),)), "auth.wampcra[0].key: is not base64 of 32 bytes"),
        (Auth(wampcra=(WampCra("a", "user", key="!" * 44, salt="x"),)), "auth.wampcra[0].key: is not base64 of 32 bytes"),
        (
            Auth(wampcra=(WampCra("a", "user", "s"), WampCra("b", "user", "s"), WampCra("a", "both", "t"))),
            "auth.wampcra[2].subject: is there already in the realm 'realm1'",
        ),
        (
            Auth(cryptosign=(Cryptosign("a", "user", (KEY,)), Cryptosign("b", "roamer", ("cd" * 32, KEY.upper())))),
            "auth.cryptosign[1].keys[1]: is there already in the realm 'realm1'",
        ),
        (Auth(scram=(Scram("a", "user", "argon2id13", "00" * 8, 1, KEY, KEY),)), "auth.scram[0].memory: goes with argon2id13"),
        (Auth(scram=(Scram("a", "user", "pbkdf2", "00" * 8, 1, KEY, KEY, 8),)), "auth.scram[0].memory: goes with argon2id13"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(auth: Auth, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        methods(auth)
    assert str(caught.value).startswith(text)
    assert SALTED not in str(caught.value)


def test_a_subject_may_have_other_credentials_in_another_realm() -> None:
    methods(Auth(wampcra=(WampCra("a", "user", "s"), WampCra("a", "other", "t"))))


def test_users_may_have_the_built_in_role_and_join_everywhere() -> None:
    methods(Auth(wampcra=(WampCra("root", "admin", "s"),)), {})
