"""Meta events about sessions, subscriptions and registrations (WAMP: session, subscription and registration meta API).

They do not use the bus: their ids are valid on this node only, and without subscribers they cost no work. There are no meta
events about subscriptions to meta events.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nexus_tw.interfaces.peers import Peer, Registration, Subscription
from nexus_tw.model.events import Event
from nexus_tw.model.payloads import Payload
from nexus_tw.model.times import format_millis
from nexus_tw.pubsub.hub import Hub

_encode: Final = msgspec.json.Encoder().encode


class Meta:
    """Publishes the meta events of a realm to subscribers on this node."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def joined(self, peer: Peer) -> None:
        if self._hub.wanted("wamp.session.on_join"):
            self._tell("wamp.session.on_join", session_details(peer))

    def left(self, peer: Peer) -> None:
        if self._hub.wanted("wamp.session.on_leave"):
            self._tell("wamp.session.on_leave", peer.number, peer.principal.subject, peer.principal.role)

    def subscribed(self, peer: Peer, subscription: Subscription, created: bool) -> None:
        if _watches(subscription):
            return
        if created and self._hub.wanted("wamp.subscription.on_create"):
            self._tell("wamp.subscription.on_create", peer.number, details(subscription))
        self._changed("wamp.subscription.on_subscribe", peer, subscription)

    def unsubscribed(self, peer: Peer, subscription: Subscription, deleted: bool) -> None:
        if _watches(subscription):
            return
        self._changed("wamp.subscription.on_unsubscribe", peer, subscription)
        if deleted:
            self._changed("wamp.subscription.on_delete", peer, subscription)

    def registered(self, peer: Peer, registration: Registration, created: bool) -> None:
        if created and self._hub.wanted("wamp.registration.on_create"):
            self._tell("wamp.registration.on_create", peer.number, details(registration, invoke=registration.invoke))
        self._changed("wamp.registration.on_register", peer, registration)

    def unregistered(self, peer: Peer, registration: Registration, deleted: bool) -> None:
        self._changed("wamp.registration.on_unregister", peer, registration)
        if deleted:
            self._changed("wamp.registration.on_delete", peer, registration)

    def _changed(self, topic: str, peer: Peer, what: Subscription | Registration) -> None:
        if self._hub.wanted(topic):
            self._tell(topic, peer.number, what.number)

    def _tell(self, topic: str, *args: Any) -> None:
        data = _encode({"args": args, "kwargs": {}})
        self._hub.event(Event(topic, Payload.of_value(data, "pair")))


def _watches(subscription: Subscription) -> bool:
    return subscription.pattern.text.startswith("wamp.")


def session_details(peer: Peer) -> dict[str, Any]:
    """Return a session's details: `{session, authid, authrole, authmethod, authprovider, transport}`."""
    return {
        "session": peer.number,
        "authid": peer.principal.subject,
        "authrole": peer.principal.role,
        "authmethod": peer.authmethod,
        "authprovider": peer.authprovider,
        "transport": {"peer": peer.address, "protocol": peer.encoding.name},
    }


def details(what: Subscription | Registration, **more: Any) -> dict[str, Any]:
    """Return the details of a subscription or registration: `{id, created, uri, match}`, and those in `more` (`invoke`)."""
    match, uri = what.pattern.policy
    return {"id": what.number, "created": format_millis(what.created), "uri": uri, "match": match, **more}
