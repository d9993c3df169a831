"""Meta events about sessions, subscriptions and registrations (WAMP: session, subscription and registration meta API).

They do not use the bus: each node tells the others that have subscribers to a meta topic (`nexus_tw.pubsub.watching`), and
where there are none they cost no work. There are no meta events about subscriptions to meta events.
"""

from __future__ import annotations

from nexus_tw.interfaces.peers import Peer, Registration, Subscription
from nexus_tw.pubsub.facts import (
    ON_CREATE,
    ON_CREATE_REGISTRATION,
    ON_DELETE,
    ON_DELETE_REGISTRATION,
    ON_JOIN,
    ON_LEAVE,
    ON_REGISTER,
    ON_SUBSCRIBE,
    ON_UNREGISTER,
    ON_UNSUBSCRIBE,
    SessionFacts,
    SubscriptionFacts,
    registration_details,
)
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.watching import Watching, is_meta, tell


class Meta:
    """Publishes the meta events of a realm that have their cause on this node."""

    def __init__(self, hub: Hub, watching: Watching) -> None:
        self._hub = hub
        self._watching = watching

    def joined(self, peer: Peer) -> None:
        if self._hub.wanted(ON_JOIN):
            tell(self._hub, ON_JOIN, SessionFacts.of(peer).details)
        if self._watching.others:
            self._watching.session_joined(SessionFacts.of(peer))

    def left(self, peer: Peer) -> None:
        if self._hub.wanted(ON_LEAVE):
            tell(self._hub, ON_LEAVE, peer.number, peer.principal.subject, peer.principal.role)
        if self._watching.others:
            self._watching.session_left(SessionFacts.of(peer))

    def subscribed(self, peer: Peer, subscription: Subscription, created: bool) -> None:
        if is_meta(subscription.pattern):
            return
        if created:
            if self._hub.wanted(ON_CREATE) and not self._watching.elsewhere(subscription.number):
                tell(self._hub, ON_CREATE, peer.number, SubscriptionFacts.of(subscription).details)
            if self._watching.others:
                self._watching.created(peer.number, SubscriptionFacts.of(subscription))
        self._changed(ON_SUBSCRIBE, peer, subscription)

    def unsubscribed(self, peer: Peer, subscription: Subscription, deleted: bool) -> None:
        if is_meta(subscription.pattern):
            return
        self._changed(ON_UNSUBSCRIBE, peer, subscription)
        if deleted:
            if self._hub.wanted(ON_DELETE) and not self._watching.elsewhere(subscription.number):
                tell(self._hub, ON_DELETE, peer.number, subscription.number)
            if self._watching.others:
                self._watching.deleted(peer.number, SubscriptionFacts.of(subscription))

    def registered(self, peer: Peer, registration: Registration, created: bool) -> None:
        if created and self._hub.wanted(ON_CREATE_REGISTRATION):
            tell(self._hub, ON_CREATE_REGISTRATION, peer.number, registration_details(registration))
        if self._hub.wanted(ON_REGISTER):
            tell(self._hub, ON_REGISTER, peer.number, registration.number)

    def unregistered(self, peer: Peer, registration: Registration, deleted: bool) -> None:
        if self._hub.wanted(ON_UNREGISTER):
            tell(self._hub, ON_UNREGISTER, peer.number, registration.number)
        if deleted and self._hub.wanted(ON_DELETE_REGISTRATION):
            tell(self._hub, ON_DELETE_REGISTRATION, peer.number, registration.number)

    # Each node knows the registrations of all, so that it needs not be told of these once more.

    def registered_elsewhere(self, session: int, registration: Registration, created: bool) -> None:
        if created and self._hub.wanted(ON_CREATE_REGISTRATION):
            tell(self._hub, ON_CREATE_REGISTRATION, session, registration_details(registration))
        if self._hub.wanted(ON_REGISTER):
            tell(self._hub, ON_REGISTER, session, registration.number)

    def unregistered_elsewhere(self, session: int, registration: Registration, deleted: bool) -> None:
        if self._hub.wanted(ON_UNREGISTER):
            tell(self._hub, ON_UNREGISTER, session, registration.number)
        if deleted and self._hub.wanted(ON_DELETE_REGISTRATION):
            tell(self._hub, ON_DELETE_REGISTRATION, session, registration.number)

    def _changed(self, topic: str, peer: Peer, subscription: Subscription) -> None:
        if self._hub.wanted(topic):
            tell(self._hub, topic, peer.number, subscription.number)
        if self._watching.others:
            self._watching.changed(topic, peer.number, subscription.number)
