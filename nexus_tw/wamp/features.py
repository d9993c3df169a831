"""What the router can do, as it announces it, and what of a client's own announcement matters to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from nexus_tw.wamp.codecs import Violation

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
        }
    },
}
"""`details.roles` of WELCOME: all that is here works, and has a test."""


class Features(NamedTuple):
    """What a client can do as a callee; what it did not announce is not asked of it."""

    progressive_call_results: bool = False
    progressive_call_invocations: bool = False
    call_canceling: bool = False

    @classmethod
    def announced(cls, details: Mapping[str, Any]) -> Features:
        """Of a HELLO; a `Violation` where it names no role, or says something that cannot be a feature."""
        said = details.get("roles")
        roles = {role: said[role] for role in CLIENT_ROLES if said.get(role) is not None} if type(said) is dict else {}
        if not roles:
            raise Violation("details.roles: must be a map with a role of the client's")
        for role, what in roles.items():
            if type(what) is not dict:
                raise Violation(f"details.roles.{role}: must be a map")
        features = roles.get("callee", {}).get("features")
        if features is None:
            return cls()
        if type(features) is not dict:
            raise Violation("details.roles.callee.features: must be a map")
        return cls(*(features.get(name) is True for name in cls._fields))
