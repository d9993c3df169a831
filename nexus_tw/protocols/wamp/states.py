"""The states of a session: joining by HELLO and perhaps AUTHENTICATE, joined, and leaving by GOODBYE or ABORT."""

from __future__ import annotations

from typing import Any, Final

from nexus_tw.interfaces.authentication import Refusal, Welcome
from nexus_tw.model.errors import Close, NexusError
from nexus_tw.protocols.wamp import calls, invocations, messages, publications, registrations, subscriptions
from nexus_tw.protocols.wamp.features import Features, roles
from nexus_tw.protocols.wamp.messages import CHALLENGE, GOODBYE, WELCOME
from nexus_tw.protocols.wamp.session import PROTOCOL_VIOLATION, VIOLATED, Handlers, WampSession

REFUSED: Final = Close(1008, "Unauthorized", False)
LATER: Final = Close(1013, "Try again later", True)
LEFT: Final = Close(1000, "Goodbye", False)
AGENT: Final = "Nexus"


def hello(session: WampSession, message: messages.Hello) -> None:
    session.features = Features.announced(message.details)
    session.encoding = session.context.encoding.to(session.features.subscriber)
    session.expected = JOINING
    introduction = session.context.introductions.introduce(
        message.realm,
        message.details,
        session.number,
        session.known,
        session.address,
        lambda authmethod, extra: _challenged(session, authmethod, extra),
        lambda welcome: _welcomed(session, message.realm, welcome),
        lambda refusal: _refused(session, refusal),
    )
    if session.expected is CHALLENGED:
        session.introduction = introduction


def authenticate(session: WampSession, message: messages.Authenticate) -> None:
    assert session.introduction is not None
    session.expected = JOINING
    session.introduction.authenticate(message.signature, message.extra)


def goodbye(session: WampSession, _message: messages.Goodbye) -> None:
    session.send(GOODBYE, {}, "wamp.close.goodbye_and_out")
    session.end()
    session.link.finish(LEFT)


def abort(session: WampSession, _message: messages.Abort) -> None:
    session.end()
    session.link.close(LEFT)


def event_received(_session: WampSession, _message: messages.EventReceived) -> None:
    """Do nothing: the message needs no answer."""


def _challenged(session: WampSession, authmethod: str, extra: dict[str, Any]) -> None:
    session.expected = CHALLENGED
    session.send(CHALLENGE, authmethod, extra)


def _welcomed(session: WampSession, realm: str, welcome: Welcome) -> None:
    who = welcome.principal
    try:
        if session.known is None:
            session.link.identified(who)
    except NexusError:
        session.link.close(LATER)
        return
    session.join(session.context.realms[realm], welcome)
    session.expected = JOINED
    details = {
        "realm": realm,
        "authid": who.subject,
        "authrole": who.role,
        "authmethod": welcome.authmethod,
        "authprovider": welcome.authprovider,
        "authextra": dict(welcome.authextra),
        "agent": AGENT,
        "roles": roles(session.verbs.remembers, session.verbs.retains),
    }
    session.send(WELCOME, session.number, details)
    session.verbs.join(session)


def _refused(session: WampSession, refusal: Refusal) -> None:
    if refusal.passing:
        session.link.close(LATER)
        return
    session.abort(refusal.uri, refusal.message, VIOLATED if refusal.uri == PROTOCOL_VIOLATION else REFUSED)


NEW: Final[Handlers] = {messages.Hello: hello, messages.Abort: abort}
JOINING: Final[Handlers] = {messages.Abort: abort}
CHALLENGED: Final[Handlers] = {messages.Authenticate: authenticate, messages.Abort: abort}
JOINED: Final[Handlers] = {
    messages.Goodbye: goodbye,
    messages.Abort: abort,
    messages.Publish: publications.publish,
    messages.Subscribe: subscriptions.subscribe,
    messages.Unsubscribe: subscriptions.unsubscribe,
    messages.Call: calls.call,
    messages.Cancel: calls.cancel,
    messages.Register: registrations.register,
    messages.Unregister: registrations.unregister,
    messages.Yield: invocations.result,
    messages.Error: invocations.error,
    messages.EventReceived: event_received,
}
