"""Features: those that the router announces, and those of clients that the router uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType
from typing import Any, Final, NamedTuple, TypeVar, cast

from nexus_tw.model.serializers import Violation
from nexus_tw.protocols.wamp.messages import TRANSPARENT, Passthru

T = TypeVar("T")

CLIENT_ROLES: Final = ("publisher", "subscriber", "caller", "callee")

ROLES: Final[dict[str, Any]] = {
    "broker": {
        "features": {
            "subscriber_blackwhite_listing": True,
            "publisher_exclusion": True,
            "publisher_identification": True,
            "pattern_based_subscription": True,
            "subscription_revocation": True,
            "subscription_meta_api": True,
            "session_meta_api": True,
            "payload_passthru_mode": True,
            "payload_transparency": True,
        }
    },
    "dealer": {
        "features": {
            "progressive_call_results": True,
            "progressive_call_invocations": True,
            "call_canceling": True,
            "call_timeout": True,
            "caller_identification": True,
            "pattern_based_registration": True,
            "shared_registration": True,
            "registration_revocation": True,
            "registration_meta_api": True,
            "session_meta_api": True,
            "testament_meta_api": True,
            "payload_passthru_mode": True,
            "payload_transparency": True,
        }
    },
}
"""What works whatever the realm's bus: each of these has a test."""


@cache
def roles(remembers: bool, retains: bool) -> dict[str, Any]:
    """Return `details.roles` of WELCOME for a realm; `remembers` says whether it keeps the past of topics, `retains` whether it
    keeps retained events."""
    own = {name: True for name, there in (("event_history", remembers), ("event_retention", retains)) if there}
    return ROLES | {"broker": {"features": ROLES["broker"]["features"] | own}}


class Passing(NamedTuple):
    """The payload passthru features of a publisher or caller; subscribers and callees announce the same."""

    payload_passthru_mode: bool = False
    payload_transparency: bool = False  # Autobahn's older form of the same


class Subscriber(NamedTuple):
    """The features that a subscriber announced."""

    publisher_identification: bool = False
    subscription_revocation: bool = False
    payload_passthru_mode: bool = False
    payload_transparency: bool = False


class Callee(NamedTuple):
    """The features that a callee announced."""

    progressive_call_results: bool = False
    progressive_call_invocations: bool = False
    call_canceling: bool = False
    caller_identification: bool = False
    registration_revocation: bool = False
    payload_passthru_mode: bool = False
    payload_transparency: bool = False


class Features(NamedTuple):
    """The features that a client announced, by role. The router uses no others, unless a request asks for them."""

    publisher: Passing = Passing()
    subscriber: Subscriber = Subscriber()
    caller: Passing = Passing()
    callee: Callee = Callee()

    @classmethod
    def announced(cls, details: Mapping[str, Any]) -> Features:
        """Return the features in the details of HELLO. Raise `Violation` if they have no role, or malformed features."""
        said = details.get("roles")
        roles = {role: said[role] for role in CLIENT_ROLES if said.get(role) is not None} if type(said) is dict else {}
        if not roles:
            raise Violation("details.roles: must be a map with a role of the client's")
        for role, what in roles.items():
            if type(what) is not dict:
                raise Violation(f"details.roles.{role}: must be a map")
            if type(what.get("features", {})) not in (dict, NoneType):
                raise Violation(f"details.roles.{role}.features: must be a map")
        said = {role: what.get("features") or {} for role, what in roles.items()}
        return cls(
            _own(Passing, said.get("publisher")),
            _own(Subscriber, said.get("subscriber")),
            _own(Passing, said.get("caller")),
            _own(Callee, said.get("callee")),
        )


def _own(kind: Callable[..., T], said: dict[str, Any] | None) -> T:
    names = cast(type[Passing], kind)._fields
    return kind(*((said or {}).get(name) is True for name in names))


def passes(options: Mapping[str, str] | None, features: Passing | Subscriber | Callee) -> bool:
    """Return whether a client with these features of a role may get or send a payload with these options."""
    if options is None:
        return True
    return features.payload_transparency if TRANSPARENT in options else features.payload_passthru_mode


def announced(options: Passthru, features: Passing | Callee) -> Mapping[str, str] | None:
    """Return the options of a payload in passthru mode, to be passed on; None if it has none. Raise `Violation` if the client
    did not announce that feature for this role (WAMP, "Payload Passthru Mode")."""
    if options.ppt_scheme is None and options.enc_algo is None:  # nearly always
        return None
    passed = options.passed_on
    if not passes(passed, features):
        mode = "payload_passthru_mode" if options.enc_algo is None else "payload_transparency"
        raise Violation(f"{mode} is used, but was not announced for this role")
    return passed
