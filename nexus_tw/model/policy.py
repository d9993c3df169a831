"""Authorization: roles grant actions by patterns, and each principal has one role. Denied by default."""

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
REMEMBERED: Final = 4096  # decisions cached for one set of grants
REMEMBERED_BYTES: Final = 1 << 20  # of these, for grants shared by all principals with the role
OWN_BYTES: Final = 1 << 16  # for the grants of one subject
MAX_SUBJECT: Final = 255  # characters
OF_AGENTS: Final[tuple[Action, ...]] = ("telemetry", "read")  # their names are agent ids, of which none is reserved

_SUBJECT: Final = "{subject}"
_APART: Final = "\0"  # never in a subject: those are printable
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
    """The grants of a role, for one subject or for all that have it, with a cache of decisions.

    Reserved names (`nexus.`, `wamp.`) are granted only by patterns with the same first component.
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

    def texts(self, action: Action) -> list[str]:
        return [pattern.text for pattern in self._patterns[action]]

    def covers(self, action: Action, pattern: Pattern) -> bool:
        own = action not in OF_AGENTS
        return any(grant.covers(pattern) and (not own or grant.selects_all_of(pattern)) for grant in self._patterns[action])


@lru_cache(maxsize=1024)
def _shared(role: Role) -> Grants:
    return Grants(role, "")


def _grants(role: Role, subject: str) -> Grants:
    # Most roles do not refer to the subject: a fleet of sessions then shares one set of grants and one cache.
    personal = any(_SUBJECT in text for action in ACTIONS for text in getattr(role, action))
    return Grants(role, subject) if personal else _shared(role)


class Principal:
    """An authenticated client: its subject, its role's grants, and when it expires (seconds since the epoch; None: never).

    Without a `role` it only names one of `[roles]` and has no rights: an authenticator of the operator's own returns such a
    principal, and the server looks up the role. `basis` identifies the configuration entry that authenticated it, and is equal
    only for the same entry; None if there is no such entry, as with an authenticator of the operator's own.

    `issued` is when its token was issued (seconds since the epoch), None for credentials without such a time, and `token_id`
    the id of the token (`jti`), if it has one: revocations refer to these.

    `subject` is shown to others and replaces `{subject}`. Two issuers may use the same one for different clients, so
    ownership goes by `identity`; shares of budgets are counted by `account`.
    """

    __slots__ = (
        "_grants",
        "account",
        "admin",
        "basis",
        "expires",
        "identity",
        "issued",
        "issuer",
        "metrics",
        "named",
        "realms",
        "rights",
        "role",
        "subject",
        "token_id",
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
        issued: float | None = None,
        token_id: str = "",
    ) -> None:
        """`issuer` is the authority that asserts the subject: empty for the configuration file and the token of the start,
        whose author is the same. `account` is given if one client can obtain any number of subjects."""
        self.named = role is None
        self.issuer = issuer
        self.identity = f"{issuer}{_APART}{subject}" if issuer else subject
        self.account = account or self.identity
        self.subject = subject
        self.role = role_name
        self.expires = expires
        self.basis = basis
        self.issued = issued
        self.token_id = token_id
        self.regrant(NOTHING if role is None else role)

    def regrant(self, role: Role) -> None:
        """Replace the rights by those of `role`."""
        self.rights = role
        self.admin = role.admin
        self.metrics = role.metrics or role.admin
        self.realms = role.realms
        self._grants = _grants(role, self.subject)

    def allows(self, action: Action, name: str) -> bool:
        """Return whether the action is allowed on this name."""
        return self._grants.allows(action, name)

    def has(self, action: Action) -> bool:
        """Return whether the action is allowed on any name at all."""
        return self._grants.has(action)

    def readable(self) -> list[str]:
        """Return patterns of the agents that the principal may read: all of them for an administrator."""
        return ["**"] if self.admin else self._grants.texts("read")

    def covers(self, action: Action, pattern: Pattern) -> bool:
        """Return whether the action is allowed on every name that the pattern matches."""
        return self.allows(action, pattern.text) if pattern.exact else self._grants.covers(action, pattern)

    def may_join(self, realm: str) -> bool:
        """Return whether the principal may join this realm; the JSON protocol and HTTP belong to the realm `nexus`."""
        return may_join(self.realms, realm)

    def require(self, action: Action, name: str) -> None:
        """Raise `forbidden` unless `allows` returns True."""
        if not self.allows(action, name):
            raise forbidden(action, name)

    def require_cover(self, action: Action, pattern: Pattern) -> None:
        """Raise `forbidden` unless `covers` returns True."""
        if not self.covers(action, pattern):
            raise forbidden(action, pattern.text)

    def __repr__(self) -> str:
        until = "" if self.expires is None else f" until {self.expires:.0f} s since the epoch"
        return f"<Principal {self.subject!r} with the role {self.role!r}{' to be looked up' * self.named}{until}>"


def forbidden(action: Action, name: str) -> NexusError:
    return NexusError("forbidden", f"Not allowed to {_NOUNS[action]} {name}")


def may_join(realms: Collection[str], realm: str) -> bool:
    """Return whether a role with these `realms` may join `realm`."""
    return realm in realms or EVERY_REALM in realms


def is_subject(text: str) -> bool:
    """Return whether the text is a valid subject: printable and bounded, since logs and other clients get it."""
    return 0 < len(text) <= MAX_SUBJECT and text.isprintable()


def is_realm(text: str) -> bool:
    """Return whether the text is a valid realm name: a letter, then letters, digits and `_ - @ .`, 3 to 255 characters."""
    return _REALM.match(text) is not None and not text.startswith("wamp.")


def _patterns(role: Role, subject: str) -> dict[Action, tuple[Pattern, ...]]:
    named = is_name(subject)
    grants: dict[Action, tuple[Pattern, ...]] = {}
    for action in ACTIONS:
        patterns = (_grant(text, subject, named) for text in getattr(role, action))
        grants[action] = tuple(pattern for pattern in patterns if pattern is not None)
    return grants


def _grant(text: str, subject: str, named: bool) -> Pattern | None:
    """Return the grant's pattern for this subject.

    Return None if it does not apply: a subject that is no name (say `*`) must not become a pattern, and a name that would be
    too long with it does not exist.
    """
    if _SUBJECT not in text:
        return parse_pattern(text, "grant")
    if not named:
        return None
    try:
        return parse_pattern(text.replace(_SUBJECT, subject), "grant")
    except NexusError:
        return None


def check_roles(roles: Mapping[str, Role]) -> None:
    """Raise `ConfigError` if a role has an invalid name or a grant that is no pattern."""
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
"""All rights, for actions that were authorized by other means than the grants of a role."""
