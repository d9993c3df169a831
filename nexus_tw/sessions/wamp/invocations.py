"""Invocations, as their callee answers them: YIELD and ERROR. One that is over is passed over: the client could not know."""

from __future__ import annotations

from nexus_tw.errors import ApplicationError, NexusError
from nexus_tw.sessions.wamp.codes import INVOCATION
from nexus_tw.sessions.wamp.errors import invalid_uri
from nexus_tw.sessions.wamp.passthru import announced, of_details
from nexus_tw.sessions.wamp.session import WampSession
from nexus_tw.wamp.codecs import Violation
from nexus_tw.wamp.messages import Error, Yield
from nexus_tw.wamp.uris import is_loose


def result(session: WampSession, message: Yield) -> None:
    passed = announced(message.options, session.features.callee)
    invocation = session.verbs.invocation(session, message.request)
    if invocation is None:
        return
    try:
        payload = session.payload(message, passed)
    except NexusError as failure:
        invocation.error(failure)
        return
    answer = invocation.progress if message.options.progress else invocation.result
    answer(payload, passed)


def error(session: WampSession, message: Error) -> None:
    if message.request_type != INVOCATION:
        raise Violation(f"request_type: a client may only send the error of an invocation ({INVOCATION})")
    passed = announced(of_details(message.details), session.features.callee)
    invocation = session.verbs.invocation(session, message.request)
    if invocation is None:
        return
    uri = message.error
    try:
        payload = session.payload(message, passed)
    except NexusError as failure:
        invocation.error(failure)
        return
    if is_loose(uri):
        invocation.error(ApplicationError(uri, payload, payload.summary(uri), passed))
    else:
        invocation.error(invalid_uri("The callee answered with an error that has no valid URI"))
