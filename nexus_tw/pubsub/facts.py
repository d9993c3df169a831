"""What the meta API tells about sessions, subscriptions and registrations, and the topics of its events."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from nexus_tw.interfaces.peers import Peer, Registration, Subscription
from nexus_tw.model.times import format_millis

ON_JOIN: Final = "wamp.session.on_join"
ON_LEAVE: Final = "wamp.session.on_leave"
ON_CREATE: Final = "wamp.subscription.on_create"
ON_SUBSCRIBE: Final = "wamp.subscription.on_subscribe"
ON_UNSUBSCRIBE: Final = "wamp.subscription.on_unsubscribe"
ON_DELETE: Final = "wamp.subscription.on_delete"
ON_CREATE_REGISTRATION: Final = "wamp.registration.on_create"
ON_REGISTER: Final = "wamp.registration.on_register"
ON_UNREGISTER: Final = "wamp.registration.on_unregister"
ON_DELETE_REGISTRATION: Final = "wamp.registration.on_delete"


class SessionFacts(NamedTuple):
    """A session, as nodes tell each other of it."""

    number: int
    authid: str
    authrole: str
    authmethod: str
    authprovider: str
    address: str
    protocol: str

    @classmethod
    def of(cls, peer: Peer) -> SessionFacts:
        who = peer.principal
        return cls(
            peer.number, who.subject, who.role, peer.authmethod, peer.authprovider, peer.address, peer.encoding.name
        )

    @property
    def details(self) -> dict[str, Any]:
        """`{session, authid, authrole, authmethod, authprovider, transport}`."""
        return {
            "session": self.number,
            "authid": self.authid,
            "authrole": self.authrole,
            "authmethod": self.authmethod,
            "authprovider": self.authprovider,
            "transport": {"peer": self.address, "protocol": self.protocol},
        }


class SubscriptionFacts(NamedTuple):
    """A subscription, as nodes tell each other of it."""

    number: int
    created: int  # ms since the epoch: when it had its first subscriber on the node
    uri: str
    match: str

    @classmethod
    def of(cls, subscription: Subscription) -> SubscriptionFacts:
        match, uri = subscription.pattern.policy
        return cls(subscription.number, subscription.created, uri, match)

    @property
    def details(self) -> dict[str, Any]:
        """`{id, created, uri, match}`."""
        return {"id": self.number, "created": format_millis(self.created), "uri": self.uri, "match": self.match}


Facts = SessionFacts | SubscriptionFacts


def registration_details(registration: Registration) -> dict[str, Any]:
    """Return `{id, created, uri, match, invoke}`."""
    match, uri = registration.pattern.policy
    created = format_millis(registration.created)
    return {"id": registration.number, "created": created, "uri": uri, "match": match, "invoke": registration.invoke}
