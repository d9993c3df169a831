"""Invocations, as their callee answers them: YIELD and ERROR. One that is over is passed over: the client could not know."""

from __future__ import annotations

from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import ApplicationError
from nexus_tw.model.serializers import Violation
from nexus_tw.protocols.wamp.codes import INVOCATION
from nexus_tw.protocols.wamp.errors import invalid_uri
from nexus_tw.protocols.wamp.messages import Error, Yield
from nexus_tw.protocols.wamp.passthru import announced, of_details
from nexus_tw.protocols.wamp.session import WampSession
from nexus_tw.protocols.wamp.uris import is_loose


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
