"""JSON Web Tokens: valid ones, and the classic attacks."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nexus_tw.auth.jwt import JwtAuthenticator
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Jwt, Role
from tests.auth.tokens import (
    ISSUER,
    NOW,
    SECRET,
    claims,
    curve_key,
    edwards_key,
    forge,
    forge_signed,
    goldilocks_key,
    jwk,
    key_set,
    pem,
    rsa_key,
    sign,
)

ROLES = {"agent": Role(telemetry=("{subject}",)), "operator": Role(admin=True)}


@implementer(IAgent)
class NoNetwork:
    """Fails the test that asks it."""

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        pytest.fail(f"asked for {uri!r}")


def issuer(**changes: Any) -> Jwt:
    return Jwt(**{"issuer": ISSUER, "audience": "nexus", "algorithms": ("HS256",), "secret": SECRET, **changes})


def authenticator(*issuers: Jwt) -> JwtAuthenticator:
    clock = Clock()
    clock.advance(NOW)
    return JwtAuthenticator(issuers or [issuer()], ROLES, clock, NoNetwork())


def ask(by: JwtAuthenticator, token: str) -> Principal | None:
    """The answer, which needs no waiting here."""
    answer = by.authenticate(Credentials(token))
    if answer is None:
        return None
    results: list[Any] = []
    Deferred.fromCoroutine(answer).addBoth(results.append)  # type: ignore[arg-type]
    failure = results[0]
    if isinstance(failure, Principal):
        return failure
    raise failure.value


def refused(token: str, by: JwtAuthenticator | None = None) -> bool:
    """Return whether the issuer was found and refused the token, in a text without details."""
    with pytest.raises(NexusError) as caught:
        ask(by or authenticator(), token)
    return (caught.value.code, caught.value.message) == ("unauthorized", "Unauthorized")


def taken(token: str, by: JwtAuthenticator | None = None) -> bool:
    """Return whether the token is accepted; leaving it to other authenticators is False."""
    try:
        return ask(by or authenticator(), token) is not None
    except NexusError as error:
        return error.code != "unauthorized"


def known(token: str, by: JwtAuthenticator | None = None) -> Principal:
    principal = ask(by or authenticator(), token)
    assert principal is not None
    return principal


def written(directory: Path, content: bytes) -> str:
    path = directory / "key"
    path.write_bytes(content)
    return str(path)


def test_it_is_an_authenticator() -> None:
    assert verifyObject(IAuthenticator, authenticator())


def test_a_good_token_gives_subject_role_and_expiry() -> None:
    principal = known(sign(claims()))
    assert (principal.subject, principal.role, principal.expires) == ("agent-001", "agent", NOW + 60)
    assert principal.allows("telemetry", "agent-001")
    assert not principal.admin


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa_key(), "RS256"),
        (rsa_key(), "RS384"),
        (rsa_key(), "RS512"),
        (rsa_key(), "PS256"),
        (rsa_key(), "PS384"),
        (rsa_key(), "PS512"),
        (curve_key("P-256"), "ES256"),
        (curve_key("P-384"), "ES384"),
        (curve_key("P-521"), "ES512"),
        (edwards_key(), "EdDSA"),
        (goldilocks_key(), "EdDSA"),
    ],
)
def test_every_kind_of_public_key_verifies_its_own_signatures(key: Any, algorithm: str, tmp_path: Path) -> None:
    by = authenticator(issuer(algorithms=(algorithm,), secret="", key=written(tmp_path, pem(key))))
    token = sign(claims(), key, algorithm)
    assert known(token, by).subject == "agent-001"
    head, body, signature = token.split(".")
    assert refused(f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}", by)


@pytest.mark.parametrize(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_secret_as_long_as_the_hash_verifies(algorithm: str, size: int) -> None:
    by = authenticator(issuer(algorithms=(algorithm,), secret="k" * size))
    assert known(sign(claims(), "k" * size, algorithm), by).subject == "agent-001"


def test_a_library_that_makes_tokens_makes_good_ones() -> None:
    assert known(jwt.encode(claims(exp=int(NOW) + 60), SECRET, algorithm="HS256")).subject == "agent-001"


# --- the classics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"], {"HS256": 1}])
def test_a_token_without_a_real_algorithm_is_refused(algorithm: Any) -> None:
    assert refused(forge({"alg": algorithm}, claims()))
    assert refused(forge({"alg": algorithm}, claims(), hmac.digest(SECRET.encode(), b"", "sha256")))


def test_a_token_without_alg_is_refused() -> None:
    assert refused(forge({"typ": "JWT"}, claims()))


@pytest.mark.parametrize("written_as", [pem(rsa_key()), pem(rsa_key()).strip(), key_set(jwk(rsa_key(), "RS256"))])
def test_a_public_key_used_as_an_hmac_secret_signs_nothing(written_as: bytes, tmp_path: Path) -> None:
    by = authenticator(issuer(algorithms=("RS256",), secret="", key=written(tmp_path, pem(rsa_key()))))
    assert refused(forge_signed({"alg": "HS256", "typ": "JWT"}, claims(), written_as), by)


def test_an_algorithm_that_the_issuer_does_not_have_is_refused_though_the_key_is_right(tmp_path: Path) -> None:
    by = authenticator(issuer(algorithms=("PS256",), secret="", key=written(tmp_path, pem(rsa_key()))))
    assert taken(sign(claims(), rsa_key(), "PS256"), by)
    assert refused(sign(claims(), rsa_key(), "RS256"), by)


@pytest.mark.parametrize(
    "kid", ["../../../../dev/null", "/etc/passwd", "https://evil.example/jwks.json", "' OR 1=1 --", "\x00"]
)
def test_a_kid_opens_no_path_and_asks_no_address(kid: str, tmp_path: Path) -> None:
    by = authenticator(
        issuer(algorithms=("EdDSA",), secret="", jwks=written(tmp_path, key_set(jwk(edwards_key(), "EdDSA", kid="a"))))
    )
    assert refused(sign(claims(), edwards_key(), "EdDSA", kid=kid), by)
    assert taken(sign(claims(), edwards_key(), "EdDSA", kid="a"), by)
    assert taken(sign(claims(), edwards_key(), "EdDSA"), by), "a set's only key needs no kid"


@pytest.mark.parametrize("kid", [1, None, ["a"], {"a": 1}, True])
def test_a_kid_that_is_no_string_is_refused(kid: Any) -> None:
    assert not taken(forge_signed({"alg": "HS256", "kid": kid}, claims()))
    assert taken(forge_signed({"alg": "HS256", "kid": "any"}, claims())), "a key from the file has no kid"


@pytest.mark.parametrize(
    "headers", [{"jku": "https://evil.example/"}, {"x5u": "https://evil.example/"}, {"jwk": jwk(edwards_key("evil"), "EdDSA")}]
)
def test_a_key_that_the_token_brings_along_is_not_used(headers: dict[str, Any]) -> None:
    assert refused(sign(claims(), edwards_key("evil"), "EdDSA", **headers))
    assert refused(sign(claims(), "evil" * 16, "HS256", **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"crit": "b64"},
        {"crit": None},
        {"b64": True},
        {"b64": False},
        {"b64": False, "crit": ["b64"]},
    ],
)
def test_critical_headers_are_refused(headers: dict[str, Any]) -> None:
    assert not taken(forge_signed({"alg": "HS256", **headers}, claims()))
    assert taken(forge_signed({"alg": "HS256"}, claims()))


@pytest.mark.parametrize("text", ['"1700000060"', "true", "null", "[]", "{}", "-1", "1e300", "9007199254740994", "9" * 400])
def test_an_exp_that_is_no_sensible_number_is_refused(text: str) -> None:
    body = json.dumps(claims(exp="EXP")).replace('"EXP"', text)
    assert refused(sign(body.encode()))


@pytest.mark.parametrize("text", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_no_json_and_nobodys_token(text: str) -> None:
    assert ask(authenticator(), sign(json.dumps(claims(exp="EXP")).replace('"EXP"', text).encode())) is None


def test_a_token_without_exp_is_refused() -> None:
    assert refused(sign(claims(exp=None)))


@pytest.mark.parametrize(
    ("expires", "good"), [(NOW + 0.5, True), (NOW, False), (NOW - 1, False), (0, False), (NOW + 1e9, True)]
)
def test_a_token_is_good_until_its_exp_which_may_have_fractions(expires: float, good: bool) -> None:
    assert known(sign(claims(exp=expires))).expires == expires if good else refused(sign(claims(exp=expires)))


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_nbf_and_iat_count_where_they_are_there(name: str) -> None:
    assert taken(sign(claims(**{name: NOW})))
    assert taken(sign(claims(**{name: NOW - 1000.5})))
    wrong: list[Any] = [NOW + 1, "0", True, [], -1]
    for value in wrong:
        assert refused(sign(claims(**{name: value}))), value


def test_leeway_moves_every_time_including_when_a_connection_ends() -> None:
    by = authenticator(issuer(leeway=5.0))
    assert known(sign(claims(exp=NOW - 4)), by).expires == NOW + 1
    assert refused(sign(claims(exp=NOW - 5)), by)
    assert taken(sign(claims(nbf=NOW + 5, iat=NOW + 5)), by)
    assert refused(sign(claims(nbf=NOW + 6)), by)


@pytest.mark.parametrize(
    "audience", [None, "other", "", "nexus2", ["other"], [], {"nexus": 1}, 1, True, ["nexus "], [["nexus"]]]
)
def test_another_audience_is_refused(audience: Any) -> None:
    assert refused(sign(claims(aud=audience)))


def test_one_of_several_audiences_will_do() -> None:
    assert taken(sign(claims(aud=["other", "nexus"])))


@pytest.mark.parametrize("subject", [None, "", 1, True, ["a"], {"a": 1}, "a" * 256, "a\nb", "a\x00", "\u2028"])
def test_a_sub_that_is_no_usable_subject_is_refused(subject: Any) -> None:
    assert refused(sign(claims(sub=subject)))


@pytest.mark.parametrize("role", [None, "", "root", "Agent", "admin", ["admin"], [], [["agent"]], {"agent": 1}, 1, True])
def test_a_role_that_is_not_configured_is_refused_the_built_in_admin_too(role: Any) -> None:
    assert refused(sign(claims(role=role)))


def test_the_role_comes_from_the_configured_claim() -> None:
    by = authenticator(issuer(role_claim="https://nexus.example/role"))
    assert known(sign(claims(**{"https://nexus.example/role": "operator"})), by).admin
    assert refused(sign(claims()), by)


@pytest.mark.parametrize("role", [["agent"], ["offline_access", "agent", "uma"], ["agent", "agent"], [1, None, "agent"]])
def test_of_a_role_claim_that_is_a_list_the_one_known_role_counts(role: list[Any]) -> None:
    """As Azure and Keycloak write it: other services' roles are in it too."""
    assert known(sign(claims(role=role))).role == "agent"


def test_two_known_roles_in_a_list_are_refused() -> None:
    assert refused(sign(claims(role=["agent", "operator"])))


def test_the_role_claim_may_be_a_path_into_another_claim() -> None:
    """As Keycloak writes it."""
    by = authenticator(issuer(role_claim="realm_access.roles"))
    assert known(sign(claims(realm_access={"roles": ["default-roles", "agent"]})), by).role == "agent"
    for other in ({"roles": ["default-roles"]}, {}, "roles", None, {"roles": {"agent": 1}}):
        assert refused(sign(claims(realm_access=other)), by)
    assert known(sign(claims(**{"realm_access.roles": "operator", "realm_access": {"roles": ["agent"]}})), by).admin


def test_an_admin_by_token_needs_a_role_of_that_name_in_the_file() -> None:
    clock = Clock()
    clock.advance(NOW)
    by = JwtAuthenticator([issuer()], {"admin": Role(admin=True)}, clock, NoNetwork())
    assert known(sign(claims(role="admin")), by).admin


@pytest.mark.parametrize("other", [None, "https://evil.example/", ISSUER.upper(), ISSUER.rstrip("/"), 1, [ISSUER], {"a": 1}])
def test_a_token_of_an_unknown_issuer_is_left_to_others_and_asks_nobody(other: Any) -> None:
    assert ask(authenticator(), sign(claims(iss=other))) is None


def test_an_issuer_does_not_sign_for_another() -> None:
    by = authenticator(issuer(), issuer(issuer="https://other.example/", secret="o" * 32))
    assert taken(sign(claims(iss="https://other.example/"), "o" * 32), by)
    assert refused(sign(claims(iss="https://other.example/")), by)
    assert refused(sign(claims(), "o" * 32), by)


@pytest.mark.parametrize(
    "token",
    [
        "a.b",
        "a.b.c.d",
        "..",
        "a.b.c",
        "e30.e30.",
        "e30.e30.AA",
        "W10.e30.AA",
        "e30.W10.AA",
        "e30.bnVsbA.AA",
        base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".e30.AA",
        "e30." + base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".AA",
        "eyJhIjoi_yJ9.e30.AA",
        "🎫.e30.AA",
    ],
)
def test_what_is_no_token_is_left_to_others(token: str) -> None:
    assert ask(authenticator(), token) is None


def test_a_signature_of_another_payload_is_refused() -> None:
    head, _, signature = sign(claims()).split(".")
    body = sign(claims(role="operator")).split(".")[1]
    assert refused(f"{head}.{body}.{signature}")


def test_a_token_with_its_signature_cut_off_is_refused() -> None:
    assert refused(sign(claims()).rpartition(".")[0] + ".")


@given(st.data())
def test_a_token_changed_anywhere_is_not_taken(data: st.DataObject) -> None:
    """Property: any one character of a good token replaced by another."""
    token = sign(claims())
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCXYZabcxyz0189-_.=").filter(lambda letter: letter != token[at]))
    changed = token[:at] + other + token[at + 1 :]
    assert not taken(changed)


def test_credentials_without_a_token_are_left_to_others() -> None:
    assert authenticator().authenticate(Credentials(None, "agent-1")) is None


# --- configuration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secret": ""}, r"auth\.jwt\[0\]\.algorithms: HS256 goes with secret"),
        ({"algorithms": ("RS256",)}, r"auth\.jwt\[0\]\.algorithms: RS256 goes with key or jwks"),
        ({"algorithms": ("HS256", "RS256")}, r"auth\.jwt\[0\]\.algorithms: RS256 goes with"),
        ({"algorithms": ("none",)}, r"auth\.jwt\[0\]\.algorithms: 'none' is none of"),
        ({"algorithms": ("ES256K",)}, r"auth\.jwt\[0\]\.algorithms: 'ES256K' is none of"),
        ({"secret": "short"}, r"auth\.jwt\[0\]\.secret: HS256 needs a secret of at least 32 bytes"),
        ({"secret": "s" * 47, "algorithms": ("HS256", "HS384")}, r"auth\.jwt\[0\]\.secret: HS384 needs"),
        ({"secret": pem(rsa_key()).decode()}, r"auth\.jwt\[0\]\.secret: "),
        ({"key": "also"}, r"auth\.jwt\[0\]: needs exactly one of key, secret and jwks"),
        ({"algorithms": ("RS256",), "secret": ""}, r"auth\.jwt\[0\]: needs exactly one of"),
        (
            {"algorithms": ("RS256",), "secret": "", "key": "/nowhere/key.pem"},
            r"auth\.jwt\[0\]\.key: cannot read /nowhere/key.pem: No such",
        ),
        (
            {"algorithms": ("RS256",), "secret": "", "jwks": "/nowhere/set"},
            r"auth\.jwt\[0\]\.jwks: cannot read /nowhere/set: No such",
        ),
        (
            {"algorithms": ("RS256",), "secret": "", "jwks": "http://id.example/"},
            r"auth\.jwt\[0\]\.jwks: http://id.example/: neither an https",
        ),
        (
            {"algorithms": ("RS256",), "secret": "", "jwks": "https://u:pw@id.example/"},
            r"auth\.jwt\[0\]\.jwks: https://\*\*\*@id.example/: ",
        ),
    ],
)
def test_what_cannot_be_used_is_named_at_the_start(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"\A{reason}") as caught:
        authenticator(issuer(**changes))
    assert "sss" not in str(caught.value)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "algorithm", "reason"),
    [
        (b"junk", "RS256", "no PEM of a public key"),
        (pem(rsa_key(1024)), "RS256", "an RSA key has 2048 to 16384 bits"),
        (pem(curve_key()), "RS256", "RS256 needs another kind of key"),
        (pem(rsa_key()), "EdDSA", "EdDSA needs another kind of key"),
        (pem(curve_key("P-384")), "ES256", "curve"),
    ],
)
def test_a_key_file_that_does_not_fit_is_named_at_the_start(
    content: bytes, algorithm: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"\Aauth\.jwt\[0\]\.key: .*{reason}"):
        authenticator(issuer(algorithms=(algorithm,), secret="", key=written(tmp_path, content)))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": {}}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}']
)
def test_a_key_set_without_a_usable_key_is_named_at_the_start(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\Aauth\.jwt\[0\]\.jwks: "):
        authenticator(issuer(algorithms=("RS256",), secret="", jwks=written(tmp_path, content)))


def test_an_issuer_that_is_there_twice_is_named() -> None:
    with pytest.raises(ConfigError, match=r"auth\.jwt\[1\]\.issuer"):
        authenticator(issuer(), issuer(audience="other"))
