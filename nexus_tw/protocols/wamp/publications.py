"""Publications: PUBLISH, answered by PUBLISHED if the client requests an acknowledgement."""

from __future__ import annotations

from typing import Final

from nexus_tw.interfaces.realm import AuthorizeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata, Publisher, Rule, new_publication_id
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.quoting import quoted
from nexus_tw.protocols.wamp import uris
from nexus_tw.protocols.wamp.features import announced
from nexus_tw.protocols.wamp.messages import PUBLISHED, Publish, PublishOptions
from nexus_tw.protocols.wamp.session import WampSession

EVERYBODY: Final = Rule()


def publish(session: WampSession, message: Publish) -> None:
    options = message.options
    verbs = session.verbs
    topic = message.topic
    passed = announced(options, session.features.publisher)
    try:
        uris.check_free(topic)
        uris.check(topic, verbs.strict)
        payload = session.payload(message, passed)
    except NexusError as error:
        _failed(session, message, error)
        return
    who = session.principal
    metadata = EventMetadata(
        new_publication_id(),
        payload.shape,
        Publisher(session.number, who.subject, who.role) if options.disclose_me or verbs.discloses else None,
        _rule(session, options),
        passed,
        who.account if options.retain and verbs.retains else None,
    )

    def allowed(rights: Principal) -> None:
        verbs.publish(rights, topic, payload, ok, fail, metadata)

    def ok(_position: Position | None) -> None:
        if options.acknowledge:
            session.send(PUBLISHED, message.request, metadata.publication)

    def fail(error: NexusError) -> None:
        _failed(session, message, error)

    # Also if the session is over by then: a client that publishes and leaves has published.
    verbs.authorize(session, AuthorizeRequest("publish", topic, None, payload), allowed, fail)


def _failed(session: WampSession, message: Publish, error: NexusError) -> None:
    if message.options.acknowledge:
        session.refuse(message, error)
    else:  # no error is sent for an unacknowledged publication, by the specification
        session.context.metrics.errors[error.code] += 1
        session.context.metrics.publications_refused[error.code] += 1
        if error.code == "bus_unavailable":
            session.verbs.lost(message.topic)
        session.link.note(f"dropped a publication without acknowledge to {quoted(message.topic)}: {quoted(error.message)}")


def _rule(session: WampSession, options: PublishOptions) -> Rule | None:
    """Return the rule that selects the recipients; None for all subscribers."""
    if (
        options.exclude is None
        and options.eligible is None
        and options.exclude_authid is None
        and options.exclude_authrole is None
        and options.eligible_authid is None
        and options.eligible_authrole is None
    ):  # nearly always
        if not options.exclude_me:
            return None
        if session.others is None:
            session.others = Rule((session.number,))
        return session.others
    exclude = options.exclude or ()
    rule = Rule(
        (*exclude, session.number) if options.exclude_me else exclude,
        frozenset(options.exclude_authid or ()),
        frozenset(options.exclude_authrole or ()),
        options.eligible,
        _set(options.eligible_authid),
        _set(options.eligible_authrole),
    )
    return None if rule == EVERYBODY else rule


def _set(listed: list[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(listed)
