"""Subscriptions: SUBSCRIBE and UNSUBSCRIBE, each answered once it has taken effect."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nexus_tw.interfaces.realm import AuthorizeRequest, Placed, SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import NOT_SUBSCRIBED
from nexus_tw.model.events import Event
from nexus_tw.model.policy import Principal
from nexus_tw.protocols.wamp.messages import SUBSCRIBED, UNSUBSCRIBED, Subscribe, Unsubscribe
from nexus_tw.protocols.wamp.session import WampSession
from nexus_tw.protocols.wamp.uris import checked_pattern


def subscribe(session: WampSession, message: Subscribe) -> None:
    verbs = session.verbs
    pattern = checked_pattern(message.topic, message.options.match, verbs.strict)
    fail = partial(session.refuse, message)

    def act(rights: Principal) -> None:
        verbs.subscribe(session, rights, SubscribeRequest((pattern,)), SubscribeReply(ok, fail))

    def ok(placed: Placed) -> None:
        number = verbs.subscription(pattern).number
        session.send(SUBSCRIBED, message.request, number)
        if message.options.get_retained:
            verbs.retained(session, pattern, placed, partial(retained, number))

    def retained(number: int, events: Sequence[Event]) -> None:
        if verbs.subscribed(session, number) is None:  # it was given up, or the session has ended
            return
        subscription = verbs.subscription(pattern)
        for event in events:
            frame = session.encoding.event(event, subscription, retained=True)
            if frame:
                session.link.write(frame)

    session.authorize(AuthorizeRequest("subscribe", message.topic, pattern), act, fail)


def unsubscribe(session: WampSession, message: Unsubscribe) -> None:
    session.in_turn(message, lambda: _unsubscribe(session, message))


def _unsubscribe(session: WampSession, message: Unsubscribe) -> None:
    pattern = session.verbs.subscribed(session, message.subscription)
    if pattern is None:
        raise NOT_SUBSCRIBED.error("No such subscription of this session")
    session.verbs.unsubscribe(session, [pattern.text], lambda: session.send(UNSUBSCRIBED, message.request))
