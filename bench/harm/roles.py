"""Who takes part: the roles of those that attack and of the bystander, each with the keys of its subjects."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

# A bystander may do everything, so that whatever happens to anybody can be seen by it.
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
    "all": ("subscribe", "publish", "call", "register", "telemetry"),
}
SPECIAL: Final = {"meta": 'call = ["wamp.**"]', "own": 'telemetry = ["{subject}"]'}
SUBJECTS: Final = ("", "-2")  # of each role


def token(subject: str) -> str:
    return f"{subject}-token-of-the-bench"


def configuration() -> str:
    """The file of a server that knows them."""
    lines = []
    for role, rights in GRANTS.items():
        lines.append(f"[roles.{role}]")
        lines += [SPECIAL.get(right, f'{right} = ["**"]') for right in rights]
    for role in GRANTS:
        for suffix in SUBJECTS:
            digest = sha256(token(role + suffix).encode()).hexdigest()
            lines += ["[[auth.keys]]", f'subject = "{role}{suffix}"', f'role = "{role}"', f'hash = "sha256:{digest}"']
    return "\n".join(lines) + "\n"
