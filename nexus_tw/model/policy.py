"""Who may do what: roles made of patterns, principals that hold one. Deny by default."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Mapping
from functools import lru_cache
from typing import Final, Literal

from nexus_tw.model.cache import BoundedCache
from nexus_tw.model.errors import ConfigError, NexusError
from nexus_tw.model.names import Pattern, is_name, parse_pattern
from nexus_tw.model.settings import EVERY_REALM, Role

Action = Literal["subscribe", "publish", "call", "register", "telemetry", "read"]
ACTIONS: Final[tuple[Action, ...]] = ("subscribe", "publish", "call", "register", "telemetry", "read")
REMEMBERED: Final = 4096  # answers kept for one set of grants
REMEMBERED_BYTES: Final = 1 << 20  # of these, where all with the role share them
OWN_BYTES: Final = 1 << 16  # where one subject has its own
MAX_SUBJECT: Final = 255  # characters
OF_AGENTS: Final[tuple[Action, ...]] = ("telemetry", "read")  # whose names are agent ids; of these none is the server's own

_SUBJECT: Final = "{subject}"
_APART: Final = "\0"  # in no subject, as these are printable
_REALM: Final = re.compile(r"[A-Za-z][A-Za-z0-9_@.-]{2,254}\Z")
_NOUNS: Final[dict[Action, str]] = {
    "subscribe": "subscribe to",
    "publish": "publish",
    "call": "call",
    "register": "register",
    "telemetry": "send telemetry for",
    "read": "read",
}

NOTHING: Final = Role(realms=())
ADMIN: Final = Role(
    **dict.fromkeys(ACTIONS, ("**", "nexus.**", "wamp.**")), realms=(EVERY_REALM,), admin=True, metrics=True
)


class Grants:
    """What a role may do, for one subject or for all that have it; the answers are remembered for all of them together.

    Names of the server's and the protocol's own (`nexus.`, `wamp.`) are granted by patterns only that begin with that word.
    """

    __slots__ = ("_answers", "_patterns")

    def __init__(self, role: Role, subject: str) -> None:
        self._patterns = _patterns(role, subject)
        self._answers: BoundedCache[tuple[Action, str], bool] = BoundedCache(
            REMEMBERED, OWN_BYTES if subject else REMEMBERED_BYTES
        )

    def allows(self, action: Action, name: str) -> bool:
        answer = self._answers.get((action, name))
        if answer is None:
            own = action not in OF_AGENTS
            answer = any(grant.matches(name) and (not own or grant.selects(name)) for grant in self._patterns[action])
            self._answers.keep((action, name), answer, name)
        return answer

    def has(self, action: Action) -> bool:
        return bool(self._patterns[action])

    def covers(self, action: Action, pattern: Pattern) -> bool:
        own = action not in OF_AGENTS
        return any(grant.covers(pattern) and (not own or grant.selects_all_of(pattern)) for grant in self._patterns[action])


@lru_cache(maxsize=1024)
def _shared(role: Role) -> Grants:
    return Grants(role, "")


def _grants(role: Role, subject: str) -> Grants:
    # Most roles say the same of everybody: a fleet of sessions then has one set of grants, and of answers.
    personal = any(_SUBJECT in text for action in ACTIONS for text in getattr(role, action))
    return Grants(role, subject) if personal else _shared(role)


class Principal:
    """An authenticated caller: a subject, its role's grants, and until when (seconds since the epoch; None: for ever).

    Without a `role` it only names one of `[roles]`, and may do nothing: so an authenticator of your own says who somebody
    is, and the server looks the role up. `basis` is the entry of the configuration that it is known by, in a form that is equal
    only for the same entry; None for who is known by none, as to an authenticator of your own.

    `subject` is what is shown and what `{subject}` stands for. Two issuers may give the same one to different callers, so
    `identity` says whose something is; what it takes of a share is counted under `account`.
    """

    __slots__ = (
        "_grants",
        "account",
        "admin",
        "basis",
        "expires",
        "identity",
        "issuer",
        "metrics",
        "named",
        "realms",
        "rights",
        "role",
        "subject",
    )

    def __init__(
        self,
        subject: str,
        role_name: str,
        role: Role | None = None,
        expires: float | None = None,
        *,
        basis: Hashable | None = None,
        issuer: str = "",
        account: str = "",
    ) -> None:
        """`issuer` is who vouches for the subject: empty for the configuration file and the token of the start, which are
        written by one hand. `account` is given for subjects that anybody gets as many of as it likes."""
        self.named = role is None
        self.issuer = issuer
        self.identity = f"{issuer}{_APART}{subject}" if issuer else subject
        self.account = account or self.identity
        self.subject = subject
        self.role = role_name
        self.expires = expires
        self.basis = basis
        self.regrant(NOTHING if role is None else role)

    def regrant(self, role: Role) -> None:
        """From now on, this is what its role may do."""
        self.rights = role
        self.admin = role.admin
        self.metrics = role.metrics or role.admin
        self.realms = role.realms
        self._grants = _grants(role, self.subject)

    def allows(self, action: Action, name: str) -> bool:
        """Whether this one name may be used."""
        return self._grants.allows(action, name)

    def has(self, action: Action) -> bool:
        """Whether any name at all may be used."""
        return self._grants.has(action)

    def covers(self, action: Action, pattern: Pattern) -> bool:
        """Whether every name the pattern stands for may be used."""
        return self.allows(action, pattern.text) if pattern.exact else self._grants.covers(action, pattern)

    def may_join(self, realm: str) -> bool:
        """Whether this caller may be in the realm of that name; the JSON protocol and HTTP are the realm `nexus`."""
        return may_join(self.realms, realm)

    def require(self, action: Action, name: str) -> None:
        """Raises `forbidden` where `allows` says no."""
        if not self.allows(action, name):
            raise forbidden(action, name)

    def require_cover(self, action: Action, pattern: Pattern) -> None:
        """Raises `forbidden` where `covers` says no."""
        if not self.covers(action, pattern):
            raise forbidden(action, pattern.text)

    def __repr__(self) -> str:
        until = "" if self.expires is None else f" until {self.expires:.0f} s since the epoch"
        return f"<Principal {self.subject!r} with the role {self.role!r}{' to be looked up' * self.named}{until}>"


def forbidden(action: Action, name: str) -> NexusError:
    return NexusError("forbidden", f"Not allowed to {_NOUNS[action]} {name}")


def may_join(realms: Collection[str], realm: str) -> bool:
    """Whether a role with these `realms` may join one."""
    return realm in realms or EVERY_REALM in realms


def is_subject(text: str) -> bool:
    """Whether this may be called a subject: it is written into logs and told to other clients."""
    return 0 < len(text) <= MAX_SUBJECT and text.isprintable()


def is_realm(text: str) -> bool:
    """Whether this may name a realm: a letter, then letters, digits and `_ - @ .`, 3 to 255 characters in all."""
    return _REALM.match(text) is not None and not text.startswith("wamp.")


def _patterns(role: Role, subject: str) -> dict[Action, tuple[Pattern, ...]]:
    named = is_name(subject)
    grants: dict[Action, tuple[Pattern, ...]] = {}
    for action in ACTIONS:
        patterns = (_grant(text, subject, named) for text in getattr(role, action))
        grants[action] = tuple(pattern for pattern in patterns if pattern is not None)
    return grants


def _grant(text: str, subject: str, named: bool) -> Pattern | None:
    """None where the grant does not apply: a subject that is no name (say `*`) must not become a pattern, and names that
    would be too long with it do not exist."""
    if _SUBJECT not in text:
        return parse_pattern(text, "grant")
    if not named:
        return None
    try:
        return parse_pattern(text.replace(_SUBJECT, subject), "grant")
    except NexusError:
        return None


def check_roles(roles: Mapping[str, Role]) -> None:
    """Raises `ConfigError` for a role that cannot be named and for a grant that is no pattern."""
    for name, role in roles.items():
        if not is_subject(name):
            raise ConfigError(f"roles: {name!r} cannot name a role: 1 to {MAX_SUBJECT} printable characters can")
        for action in ACTIONS:
            for index, text in enumerate(getattr(role, action)):
                try:
                    parse_pattern(text.replace(_SUBJECT, "subject"), "grant")
                except NexusError:
                    key = f"roles.{name}.{action}[{index}]"
                    raise ConfigError(f"{key}: {text!r} is neither a name nor a pattern nor `{_SUBJECT}`") from None


EVERYTHING: Final = Principal("", "", ADMIN)
"""The rights to do what was allowed in another way than by the grants of a role."""
