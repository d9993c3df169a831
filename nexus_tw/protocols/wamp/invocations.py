"""Answers of callees to invocations: YIELD and ERROR. An answer that crossed the end of its
invocation is ignored."""

from __future__ import annotations

from typing import Any

import msgspec

from nexus_tw.model.errors import INVALID_URI, NexusError
from nexus_tw.model.payloads import ApplicationError
from nexus_tw.model.serializers import Violation
from nexus_tw.protocols.wamp.features import announced
from nexus_tw.protocols.wamp.heads import read
from nexus_tw.protocols.wamp.messages import INVOCATION, Error, Passthru, Yield
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
    passed = announced(_options(message.details), session.features.callee)
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
        invocation.error(INVALID_URI.error("The callee answered with an error that has no valid URI"))


def _options(details: dict[str, Any]) -> Passthru:
    """Return the options among the details of an ERROR. Raise `Violation` if one is of the wrong type."""
    try:
        options: Passthru = read(details, Passthru)
    except msgspec.ValidationError as error:
        raise Violation(f"ERROR: details: {error}") from None
    return options
