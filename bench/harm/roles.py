"""The roles of attackers and of the bystander, with the keys of their subjects."""

from __future__ import annotations

import time
from functools import lru_cache
from hashlib import sha256
from typing import Final

import jwt

# A bystander has all rights, so that it can observe the harm to any client.
GRANTS: Final = {
    "bystander": ("subscribe", "publish", "call", "register", "telemetry"),
    "both": ("subscribe", "publish"),
    "caller": ("call",),
    "callee": ("call", "register"),
    "meta": ("meta",),
    "agent": ("register", "telemetry"),
    "sensor": ("own",),
    "publisher": ("publish",),
    "reader": ("subscribe",),
    "impostor": ("any agent", "harmless"),
    "prober": ("server's names",),
    "namesake": ("call",),
    "all": ("subscribe", "publish", "call", "register", "telemetry"),
}
SPECIAL: Final = {
    "meta": 'call = ["wamp.**"]',
    "own": 'telemetry = ["{subject}"]',
    "any agent": 'telemetry = ["**"]',
    "harmless": 'register = ["harmless"]',
    "server's names": 'call = ["nexus.**"]',
}
SUBJECTS: Final = ("", "-2")  # of each role


ISSUERS: Final = ("one", "two")  # of tokens; both use the same names of subjects
AUTHORIZER: Final = "bench.harm.denying:deny"


def token(subject: str) -> str:
    """Return the API key of a subject, or for `ROLE@ISSUER` a token in which this issuer names the role as subject."""
    name, at, issuer = subject.partition("@")
    return _signed(name, issuer) if at else f"{subject}-token-of-the-bench"


@lru_cache
def _signed(name: str, issuer: str) -> str:
    claims = {"iss": issuer, "sub": name, "aud": "nexus", "role": name, "exp": int(time.time()) + 86400}
    return jwt.encode(claims, _secret(issuer), "HS256")


def _secret(issuer: str) -> str:
    return f"secret of the issuer {issuer} for the bench".ljust(64, "x")


def configuration() -> str:
    """Return the configuration file of a server with these roles."""
    lines = []
    for role, rights in GRANTS.items():
        lines.append(f"[roles.{role}]")
        lines += [SPECIAL.get(right, f'{right} = ["**"]') for right in rights]
    for role in GRANTS:
        for suffix in SUBJECTS:
            digest = sha256(token(role + suffix).encode()).hexdigest()
            lines += ["[[auth.keys]]", f'subject = "{role}{suffix}"', f'role = "{role}"', f'hash = "sha256:{digest}"']
    for issuer in ISSUERS:
        lines += ["[[auth.jwt]]", f'issuer = "{issuer}"', 'audience = "nexus"', 'algorithms = ["HS256"]']
        lines.append(f'secret = "{_secret(issuer)}"')
    lines += ["[realms.nexus]", f'authorizer = "{AUTHORIZER}"', "[compression]", "enabled = true"]
    return "\n".join(lines) + "\n"
