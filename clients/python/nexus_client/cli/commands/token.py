"""`nexus token`: make and read tokens, without a server."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import click

from nexus_client.cli import keys, parsing
from nexus_client.cli.app import with_output
from nexus_client.cli.failures import Failure, WrongUsage
from nexus_client.cli.output import Output
from nexus_client.cli.registry import examples
from nexus_client.cli.words import ago, compact, moment

DATES = {"exp": "expires", "nbf": "valid from", "iat": "issued"}
_LATEST = 253_402_300_799  # the end of the year 9999


@click.group(
    epilog=examples(
        "nexus token new --subject agent-001 --role agent",
        "nexus token mint --key issuer.pem --issuer https://id.example --subject alice --role operator",
        "nexus token inspect < token.jwt",
    )
)
def command() -> None:
    """Make and read API keys and JSON Web Tokens; nothing is sent anywhere."""


@command.command(
    epilog=examples(
        "nexus token new --subject agent-001 --role agent",
        "nexus token new --subject agent-001 --role agent --json | jq -r .token > agent-001.token",
    )
)
@click.option("--subject", required=True, help="Whom the key names, such as the agent's id.")
@click.option("--role", required=True, help="A role of the configuration file, or admin.")
@with_output
def new(output: Output, subject: str, role: str) -> None:
    """Make a random API key, with the lines for the server's configuration file."""
    key = keys.new_key()
    record = {"type": "token", "token": key, "subject": subject, "role": role, "hash": keys.digest(key)}
    output.record(record, ("the key, which is kept nowhere else: ", ""), (key, "bold green"))
    if not output.json:
        members = {"subject": subject, "role": role, "hash": record["hash"]}
        lines = [f"{name:<7} = {json.dumps(value, ensure_ascii=False)}" for name, value in members.items()]
        output.record({}, ("\n# for the server's configuration file\n", "dim"), ("\n".join(["[[auth.keys]]", *lines]), ""))


@command.command("hash", epilog=examples("nexus token hash < agent-001.token", "nexus token hash THE-KEY"))
@click.argument("token", required=False)
@with_output
def hash_(output: Output, token: str | None) -> None:
    """Print the hash of an API key, as the server's configuration file holds it.

    Without TOKEN it is read from standard input, where ps and the shell's history do not show it.
    """
    found = keys.digest(_given(token))
    output.record({"type": "hash", "hash": found}, (found, ""))


@command.command(
    epilog=examples(
        "openssl genpkey -algorithm ed25519 -out issuer.pem; openssl pkey -in issuer.pem -pubout -out issuer.pub",
        "nexus token mint --key issuer.pem --issuer https://id.example --subject alice --role operator --expires 8h",
        "nexus token mint --secret env:JWT_SECRET --issuer ci --subject build-7 --role agent",
    )
)
@click.option("--key", "file", metavar="FILE", help="Private key (PEM) that signs.")
@click.option("--secret", metavar="TEXT", help="Secret that signs, for HS…; env:NAME reads a variable.")
@click.option("--algorithm", type=click.Choice(keys.ALGORITHMS), help="Default: the usual one for the key.")
@click.option("--issuer", required=True, help="iss: as in [[auth.jwt]] of the server.")
@click.option("--subject", required=True, help="sub: whom the token names.")
@click.option("--role", required=True, help="A role of the server's configuration file.")
@click.option("--audience", default="nexus", show_default=True, help="aud.")
@click.option("--expires", type=parsing.Seconds(), default="1h", show_default=True, help="How long it is valid.")
@click.option("--not-before", type=parsing.Seconds(), help="How long until it is valid.")
@click.option("--jti", help="The token's own id. [default: a random one]")
@click.option("--kid", help="Names the key to servers that know several.")
@click.option("--role-claim", default="role", show_default=True, help="Name of the claim with the role.")
@click.option("--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Another claim.")
@with_output
def mint(output: Output, file: str | None, secret: str | None, algorithm: str | None, kid: str | None, **given: Any) -> None:
    """Sign a JSON Web Token."""
    import jwt

    key = _key(file, secret, keys.signing_key)
    algorithm = _chosen(algorithm, key)
    now = int(time.time())
    claims = {"iss": given["issuer"], "sub": given["subject"], "aud": given["audience"], "iat": now}
    claims |= {"exp": now + int(given["expires"]), "jti": given["jti"] or str(uuid.uuid4()), given["role_claim"]: given["role"]}
    if given["not_before"] is not None:
        claims["nbf"] = now + int(given["not_before"])
    for name, value in parsing.pairs(given["claims"], "--claim").items():
        if name in claims:
            raise WrongUsage(f"--claim: {name} has an option of its own")
        claims[name] = value
    token = jwt.encode(claims, key, algorithm, {"kid": kid} if kid else None)
    output.record({"type": "token", "token": token, "algorithm": algorithm, "claims": claims}, (token, ""))
    if not output.json and sys.stdout.isatty():
        output.note(f"{algorithm}, for {given['subject']} as {given['role']}, until {moment(claims['exp'])}")


@command.command(
    epilog=examples(
        "nexus token inspect < token.jwt",
        "nexus token inspect --key issuer.pub < token.jwt      with its signature and dates verified",
    )
)
@click.argument("token", required=False)
@click.option("--key", "file", metavar="FILE", help="Key (PEM: public, private or certificate) to verify with.")
@click.option("--secret", metavar="TEXT", help="Secret to verify with; env:NAME reads a variable.")
@with_output
@click.pass_context
def inspect(context: click.Context, output: Output, token: str | None, file: str | None, secret: str | None) -> None:
    """Show what a JSON Web Token says. Exit status 1 if it was verified and is not valid.

    Without TOKEN it is read from standard input. It is not sent anywhere.
    """
    text = _given(token)
    header, claims = _parts(text)
    record: dict[str, Any] = {"type": "token", "header": header, "claims": claims}
    faults = _faults(claims)
    asked = secret is not None or file is not None
    if asked:
        if not _signed(text, header, _key(file, secret, keys.verifying_key)):
            faults.insert(0, "its signature is not of this key")
        record["verified"] = not faults
    record["faults"] = faults
    output.record(record, ("header", "bold"))
    if not output.json:
        _show(output, record, asked)
    if faults and asked:
        context.exit(1)


def _show(output: Output, record: dict[str, Any], asked: bool) -> None:
    """Print a token's parts for people, and the verdict."""
    for name, value in record["header"].items():
        output.record({}, (f"  {name:<12}", "dim"), (_text(value), ""))
    output.record({}, ("claims", "bold"))
    for name, value in record["claims"].items():
        words = _date(name, value)
        output.record({}, (f"  {name:<12}", "dim"), (_text(value), ""), (f"  {words}" if words else "", "cyan"))
    if record["faults"]:
        output.record({}, ("not valid: ", "bold red"), ("; ".join(record["faults"]), "red"))
    elif asked:
        output.record({}, ("valid: ", "bold green"), ("signature and dates are verified", "green"))
    if not asked:
        output.record({}, ("not verified; --key or --secret verifies the signature", "yellow"))


def _given(token: str | None) -> str:
    """Return the token: the argument, or what standard input holds."""
    if token is None:
        if sys.stdin.isatty():
            token = str(click.prompt("token", hide_input=True, err=True))
        else:
            token = sys.stdin.read(65_536)
    token = token.strip()
    if not token:
        raise WrongUsage("there is no token: give it as an argument or on standard input")
    return token


def _key(file: str | None, secret: str | None, read: Callable[[str], Any]) -> Any:
    """Return the one key that the options give. Raise `WrongUsage` if they give none or two."""
    if (file is None) == (secret is None):
        raise WrongUsage("give one of --key and --secret")
    return keys.secret(secret) if secret is not None else read(str(file))


def _chosen(algorithm: str | None, key: Any) -> str:
    """Return the algorithm to sign with. Raise `Failure` if the key does not go with it."""
    fit = keys.fitting(key)
    if algorithm is not None and algorithm not in fit:
        least = keys.SECRET_BYTES.get(algorithm)
        if least and isinstance(key, bytes):
            raise Failure(f"{algorithm} needs a secret of at least {least} bytes")
        raise Failure(f"{algorithm} does not go with this key; {', '.join(fit)} would")
    return algorithm or fit[0]


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims, not verified. Raise `Failure` if it is no JSON Web Token."""
    import jwt

    try:
        found = jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        if token.count(".") == 2:
            raise Failure("it has the three parts of a JSON Web Token, but they cannot be decoded") from None
        raise Failure(f"it is no JSON Web Token; as an API key its hash is {keys.digest(token)}") from None
    return found["header"], found["payload"]


def _signed(token: str, header: dict[str, Any], key: Any) -> bool:
    """Return whether the signature is of this key."""
    import jwt

    if header.get("alg") not in keys.fitting(key):
        return False
    try:
        jwt.PyJWS().decode(token, key, algorithms=[header["alg"]])
    except jwt.PyJWTError:
        return False
    return True


def _faults(claims: dict[str, Any]) -> list[str]:
    """Return why no server would take the token now, as far as its claims tell."""
    now, found = time.time(), []
    dates = {name: claims[name] for name in DATES if name in claims}
    for name in [name for name, value in dates.items() if not _is_date(value)]:
        found.append(f"its {name} is no date")
        del dates[name]
    if "exp" not in claims:
        found.append("it has no exp")
    elif dates.get("exp", now + 1) <= now:
        found.append("it has expired")
    found += [f"its {name} is in the future" for name in ("nbf", "iat") if dates.get(name, now) > now]
    return found


def _is_date(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LATEST


def _date(name: str, value: Any) -> str:
    """Return a claim that is a date in words: `expires 2026-01-31T12:00:00Z, in 2 hours`; else nothing."""
    if name not in DATES or not _is_date(value):
        return ""
    left = value - time.time()
    verb = "expired" if name == "exp" and left <= 0 else DATES[name]
    return f"{verb} {moment(value)}, {f'in {ago(left)}' if left > 0 else f'{ago(left)} ago'}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)
