"""The connections that may stay after a change of the configuration."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from nexus_tw.auth import jwt
from nexus_tw.auth.plugin import basis_of as basis_of_plugin
from nexus_tw.auth.standing import Standing
from nexus_tw.auth.wamp import cryptosign
from nexus_tw.model.errors import REVOKED, RIGHTS_CHANGED
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Auth, Certificate, Cryptosign, Jwt, Key, Realm, Role, Scram, Settings, WampCra

ROLE = Role(subscribe=("a.**",), publish=("p.q",))
KEY = Key("s", "agent", "sha256:" + "1" * 64)
CERTIFICATE = Certificate("c", "s", "agent")
CRA = WampCra("s", "agent", secret="x")
SCRAM = Scram("s", "agent", "pbkdf2", "0" * 32, 4096, "0" * 64, "1" * 64)
SIGN = Cryptosign("s", "agent", ("a" * 64, "b" * 64))
ISSUER = Jwt("i", "nexus", ("HS256",), secret="s" * 64)
SETTINGS = Settings(
    roles={"agent": ROLE},
    realms={"realm1": Realm(anonymous="agent")},
    auth=Auth((KEY,), (ISSUER,), (CERTIFICATE,), (CRA,), (SIGN,), (SCRAM,), ("ldap",)),
)
BASES = {
    "keys": KEY,
    "certificates": CERTIFICATE,
    "wampcra": CRA,
    "scram": SCRAM,
    "cryptosign": cryptosign.basis_of(SIGN, "a" * 64),
    "plugins": basis_of_plugin("ldap", "agent"),
    "jwt": jwt.basis_of(ISSUER, "agent"),
}
ANONYMOUS = ("anonymous", "realm1", "agent")


def known(basis: object, role: Role = ROLE, name: str = "agent") -> Principal:
    return Principal("s", name, role, basis=basis)


@pytest.mark.parametrize("part", BASES)
def test_who_is_known_as_before_stays_and_who_is_not_any_more_is_revoked(part: str) -> None:
    assert Standing(SETTINGS).judge(known(BASES[part])) is None
    without = replace(SETTINGS, auth=replace(SETTINGS.auth, **{part: ()}))
    assert Standing(without).judge(known(BASES[part])) is REVOKED


def test_another_hash_for_the_same_subject_is_another_key() -> None:
    changed = replace(SETTINGS, auth=Auth((replace(KEY, hash="sha256:" + "2" * 64),)))
    assert Standing(changed).judge(known(KEY)) is REVOKED


def test_one_public_key_more_revokes_nobody_and_one_less_its_own_clients() -> None:
    a, b = (known(cryptosign.basis_of(SIGN, key)) for key in SIGN.keys)
    changed = Standing(replace(SETTINGS, auth=Auth(cryptosign=(replace(SIGN, keys=("A" * 64, "c" * 64)),))))
    assert (changed.judge(a), changed.judge(b)) == (None, REVOKED)


def test_an_issuer_stands_for_as_long_as_its_keys_do() -> None:
    bearer = known(jwt.basis_of(ISSUER, "agent"))
    looser = replace(SETTINGS, auth=Auth(jwt=(replace(ISSUER, leeway=5.0, algorithms=("HS256", "HS512")),)))
    assert Standing(looser).judge(bearer) is None
    other = replace(SETTINGS, auth=Auth(jwt=(replace(ISSUER, secret="t" * 64),)))
    assert Standing(other).judge(bearer) is REVOKED


def test_anonymous_sessions_stand_by_their_realm() -> None:
    assert Standing(SETTINGS).judge(known(ANONYMOUS)) is None
    assert Standing(replace(SETTINGS, realms={"realm1": Realm()})).judge(known(ANONYMOUS)) is REVOKED


def test_who_rests_upon_no_entry_is_not_judged() -> None:
    for principal in (known(None, ADMIN, "admin"), known(None, ROLE, "role-of-a-plug-in")):
        assert Standing(Settings()).judge(principal) is None


def test_a_role_that_may_do_more_holds_at_once() -> None:
    principal = known(KEY)
    wider = replace(ROLE, subscribe=("a.**", "b"), admin=True, metrics=True, realms=("*",))
    assert Standing(replace(SETTINGS, roles={"agent": wider})).judge(principal) is None
    assert principal.allows("subscribe", "b") and principal.admin and principal.metrics and principal.may_join("any")


@pytest.mark.parametrize("change", [{"subscribe": ("a.b",)}, {"publish": ()}, {"realms": ()}])
def test_a_role_that_lost_something_has_its_clients_come_back(change: dict[str, tuple[str, ...]]) -> None:
    principal = known(KEY)
    narrower = replace(ROLE, call=("more",), **change)
    assert Standing(replace(SETTINGS, roles={"agent": narrower})).judge(principal) is RIGHTS_CHANGED
    assert not principal.allows("call", "more")
