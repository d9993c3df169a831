"""Tokens are made and read without a server, and a server takes them."""

from __future__ import annotations

import json
import subprocess
import time
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from click.testing import CliRunner, Result
from nexus_client.cli import keys
from nexus_client.cli.program import nexus
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from nexus_tw import auth
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.settings import Auth, Role

SECRET = "a secret of more than thirty-two bytes"
NO_AGENT: Any = None  # no key set has an address here
WHO = ("--issuer", "https://id.example", "--subject", "alice", "--role", "operator")


def run(*arguments: str, status: int = 0, stdin: str | None = None, env: dict[str, str] | None = None) -> Result:
    result = CliRunner().invoke(nexus, ["token", *arguments], input=stdin, env=env)
    assert result.exit_code == status, result.output
    assert SECRET not in result.output
    return result


def told(*arguments: str, **more: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(run(*arguments, "--json", **more).stdout)
    return record


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Private keys `KIND.pem` with their public ones `KIND.pub`, as openssl makes them."""
    directory = tmp_path_factory.mktemp("keys")
    kinds = {
        "ed25519": ("ed25519",),
        "p256": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "p384": ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        "rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        "small": ("RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
        "x25519": ("x25519",),
    }
    for name, options in kinds.items():
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", *options, "-out", directory / f"{name}.pem"], check=True, capture_output=True
        )
        subprocess.run(
            ["openssl", "pkey", "-in", directory / f"{name}.pem", "-pubout", "-out", directory / f"{name}.pub"], check=True
        )
    return directory


def test_a_new_key_comes_with_the_lines_that_let_it_in() -> None:
    text = run("new", "--subject", 'agent "1"', "--role", "agent").stdout
    key = text.split("\n")[0].rpartition(" ")[2]
    (entry,) = tomllib.loads("\n".join(text.split("\n")[1:]))["auth"]["keys"]
    assert entry == {"subject": 'agent "1"', "role": "agent", "hash": f"sha256:{sha256(key.encode()).hexdigest()}"}
    settings = msgspec.convert({"keys": [entry]}, Auth)
    authenticators = auth.Authenticators(auth.builtin(settings, {"agent": Role()}, None, Clock(), NO_AGENT))
    assert principal_of(authenticators, key).subject == 'agent "1"'
    assert told("new", "--subject", "a", "--role", "r")["token"] != key


def principal_of(authenticators: Any, token: str) -> Any:
    """Return the principal that a server's authenticators find for a token."""
    found: list[Any] = []
    ensureDeferred(_ask(authenticators, token)).addBoth(found.append)
    assert found
    return found[0]


async def _ask(authenticators: Any, token: str) -> Any:
    return await authenticators.authenticate(Credentials(token=token))


def test_the_hash_is_that_of_the_server_from_argument_or_standard_input() -> None:
    wanted = f"sha256:{sha256(b'the-key').hexdigest()}"
    assert run("hash", "the-key").stdout == f"{wanted}\n"
    assert run("hash", stdin="the-key\n").stdout == f"{wanted}\n"
    assert told("hash", "the-key") == {"type": "hash", "hash": wanted}
    assert "printable ASCII" in run("hash", "the key", status=2).stderr
    assert "there is no token" in run("hash", stdin="", status=2).stderr


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("ed25519", ("EdDSA",)),
        ("p256", ("ES256",)),
        ("p384", ("ES384",)),
        ("rsa", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    ],
)
def test_a_minted_token_is_verified_by_its_public_key_and_no_other(pems: Path, kind: str, algorithms: tuple[str, ...]) -> None:
    for index, algorithm in enumerate(algorithms):
        chosen = ("--algorithm", algorithm) if index else ()
        minted = told("mint", "--key", str(pems / f"{kind}.pem"), *WHO, "--kid", "k1", *chosen)
        assert minted["algorithm"] == algorithm
        verified = jwt.decode_complete(minted["token"], (pems / f"{kind}.pub").read_text(), [algorithm], audience="nexus")
        assert verified["header"] == {"alg": algorithm, "kid": "k1", "typ": "JWT"}
        assert verified["payload"] == minted["claims"]
        for file in (f"{kind}.pub", f"{kind}.pem"):
            assert told("inspect", minted["token"], "--key", str(pems / file))["verified"] is True
        other = "p256" if kind != "p256" else "ed25519"
        assert "not of this key" in run("inspect", minted["token"], "--key", str(pems / f"{other}.pub"), status=1).stdout


def test_a_server_takes_a_minted_token(pems: Path) -> None:
    entry = {"issuer": WHO[1], "audience": "nexus", "algorithms": ["EdDSA"], "key": str(pems / "ed25519.pub")}
    clock = Clock()
    clock.advance(time.time())
    builtin = auth.builtin(msgspec.convert({"jwt": [entry]}, Auth), {"operator": Role()}, None, clock, NO_AGENT)
    principal = principal_of(auth.Authenticators(builtin), told("mint", "--key", str(pems / "ed25519.pem"), *WHO)["token"])
    assert (principal.subject, principal.role) == ("alice", "operator")


def test_claims_are_what_the_options_say() -> None:
    options = (
        "--audience",
        "fleet",
        "--expires",
        "2d",
        "--not-before",
        "10m",
        "--jti",
        "j-1",
        "--role-claim",
        "https://x/role",
    )
    claims = told("mint", "--secret", SECRET, *WHO, *options, "--claim", "level=3", "--claim", "team=a b")["claims"]
    issued = claims.pop("iat")
    assert abs(issued - time.time()) < 60
    assert claims == {
        "iss": "https://id.example",
        "sub": "alice",
        "aud": "fleet",
        "exp": issued + 172_800,
        "nbf": issued + 600,
        "jti": "j-1",
        "https://x/role": "operator",
        "level": 3,
        "team": "a b",
    }


def test_a_secret_may_come_from_the_environment() -> None:
    token = run("mint", "--secret", "env:HUSH", *WHO, env={"HUSH": SECRET}).stdout.strip()
    assert jwt.decode(token, SECRET, ["HS256"], audience="nexus")["sub"] == "alice"
    assert told("inspect", "--secret", "env:HUSH", stdin=token, env={"HUSH": SECRET})["verified"] is True
    assert "HUSH is not set" in run("mint", "--secret", "env:HUSH", *WHO, status=1).stderr


def test_what_cannot_sign_is_told(pems: Path, tmp_path: Path) -> None:
    def refusal(*options: str, status: int = 1) -> str:
        return run("mint", *options, *WHO, status=status).stderr

    encrypted = tmp_path / "encrypted.pem"
    options = ("-aes256", "-passout", "pass:x", "-out", encrypted)
    subprocess.run(["openssl", "pkey", "-in", pems / "ed25519.pem", *options], check=True)
    assert "at least 32 bytes" in refusal("--secret", "short")
    assert "at least 64 bytes" in refusal("--secret", SECRET, "--algorithm", "HS512")
    assert "does not go with this key; EdDSA would" in refusal("--key", str(pems / "ed25519.pem"), "--algorithm", "RS256")
    assert "no private key" in refusal("--key", str(pems / "rsa.pub"))
    assert "is encrypted" in refusal("--key", str(encrypted))
    assert "2048 bits" in refusal("--key", str(pems / "small.pem"))
    assert "no key of a kind for tokens" in refusal("--key", str(pems / "x25519.pem"))
    assert "No such file" in refusal("--key", str(tmp_path / "none.pem"))
    assert "give one of --key and --secret" in refusal(status=2)
    assert "give one of --key and --secret" in refusal("--key", "x", "--secret", SECRET, status=2)
    assert "sub has an option" in refusal("--secret", SECRET, "--claim", "sub=bob", status=2)


def test_a_public_key_is_no_secret_to_verify_with(pems: Path) -> None:
    """RFC 8725 section 2.1: a token signed with the text of the public key as HMAC secret."""
    forged = jwt.api_jws.PyJWS().encode(b"{}", b"x" * 40, "HS256")
    assert told("inspect", forged, "--key", str(pems / "rsa.pub"), status=1)["verified"] is False


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"exp": 1_000_000_000}, "it has expired"),
        ({}, "it has no exp"),
        ({"exp": 4_000_000_000, "nbf": 3_900_000_000}, "its nbf is in the future"),
        ({"exp": "soon"}, "its exp is no date"),
        ({"exp": True}, "its exp is no date"),
    ],
)
def test_dates_are_judged_and_told_in_words(claims: dict[str, Any], fault: str) -> None:
    token = jwt.api_jws.PyJWS().encode(json.dumps(claims).encode(), SECRET.encode(), "HS256")
    record = told("inspect", token, "--secret", SECRET, status=1)
    assert record["faults"] == [fault]
    assert record["verified"] is False
    assert told("inspect", token)["faults"] == [fault]
    if claims == {"exp": 1_000_000_000}:
        assert "expired 2001-09-09T01:46:40Z, " in run("inspect", token).stdout


def test_what_is_no_json_web_token_is_told() -> None:
    assert f"as an API key its hash is {keys.digest('the-key')}" in run("inspect", "the-key", status=1).stderr
    assert "cannot be decoded" in run("inspect", "a.b.c", status=1).stderr
