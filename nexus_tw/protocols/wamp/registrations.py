"""Registrations: REGISTER and UNREGISTER."""

from __future__ import annotations

from functools import partial
from typing import Final

from nexus_tw.interfaces.peers import Registration
from nexus_tw.interfaces.realm import AuthorizeRequest
from nexus_tw.model.errors import NOT_REGISTERED
from nexus_tw.model.policy import Principal
from nexus_tw.protocols.wamp.messages import REGISTERED, UNREGISTERED, Register, Unregister
from nexus_tw.protocols.wamp.session import OVER, WampSession
from nexus_tw.protocols.wamp.uris import check_free, checked_pattern

SINGLE: Final = "single"  # the invocation policy of a procedure with only one callee


def register(session: WampSession, message: Register) -> None:
    options = message.options
    verbs = session.verbs
    check_free(message.procedure)
    pattern = checked_pattern(message.procedure, options.match, verbs.strict)
    fail = partial(session.refuse, message)

    def act(rights: Principal) -> None:
        if options.invoke == SINGLE:
            verbs.make_way(session, pattern, options.agent, partial(settle, rights))
        else:
            settle(rights)

    def settle(rights: Principal) -> None:
        if session.expected is OVER:
            return
        verbs.register_procedure(session, rights, pattern, options.invoke, options.agent, registered, fail)

    def registered(registration: Registration) -> None:
        if session.expected is OVER:
            return
        if options.disclose_caller:
            session.disclosing = session.disclosing or set()
            session.disclosing.add(registration.number)
        session.send(REGISTERED, message.request, registration.number)

    session.authorize(AuthorizeRequest("register", message.procedure, pattern), act, fail)


def unregister(session: WampSession, message: Unregister) -> None:
    session.in_turn(message, lambda: _unregister(session, message))


def _unregister(session: WampSession, message: Unregister) -> None:
    pattern = session.verbs.registered(session, message.registration)
    if pattern is None:
        raise NOT_REGISTERED.error("No such registration of this session")
    session.verbs.unregister(session, [pattern.text])
    session.forget(message.registration)
    session.send(UNREGISTERED, message.request)
