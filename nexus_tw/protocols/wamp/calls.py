"""Calls: CALL and CANCEL, and RESULT or ERROR for each."""

from __future__ import annotations

from typing import Final

from nexus_tw.interfaces.realm import AuthorizeRequest, CallRequest, CancelMode, OpenCall
from nexus_tw.model.errors import UNSUPPORTED, NexusError
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.serializers import Violation
from nexus_tw.protocols.wamp import messages, uris
from nexus_tw.protocols.wamp.features import announced, passes
from nexus_tw.protocols.wamp.messages import CALL, RESULT
from nexus_tw.protocols.wamp.pending import PendingCalls
from nexus_tw.protocols.wamp.session import WampSession

PARTS_HELD: Final = 64  # further parts of a session's calls that are queued


def call(session: WampSession, message: messages.Call) -> None:
    calls = session.calls
    if calls is None:
        calls = session.calls = PendingCalls()
    request = message.request
    pending = calls.by_request.get(request)
    if pending is not None:
        pending.further(message)
        return
    if calls.ended is not None and request in calls.ended:
        return  # a late part of a call that has ended
    options = message.options
    passed = announced(options, session.features.caller)
    uris.check(message.procedure, session.verbs.strict)
    payload = session.payload(message, passed)
    limit = session.context.limits.pending
    if 0 < limit <= len(calls.by_request):
        raise NexusError("limit_exceeded", f"More than {limit} calls of this session have not ended")
    wanted = CallRequest(
        message.procedure,
        payload,
        options.timeout / 1000,
        options.receive_progress,
        options.progress,
        options.disclose_me,
        passed,
    )
    one = calls.by_request[request] = PendingCall(session, calls, request, options.progress)
    wish = AuthorizeRequest("call", message.procedure, None, payload)
    session.authorize(wish, lambda rights: one.begin(rights, wanted), one.error)


def cancel(session: WampSession, message: messages.Cancel) -> None:
    pending = None if session.calls is None else session.calls.by_request.get(message.request)
    if pending is not None:  # otherwise it crossed the result
        pending.cancel(message.options.mode or "killnowait")


class PendingCall:
    """A call that has not ended, perhaps not even authorized yet. Sends the replies to the caller.

    Replies after its end are ignored: its id may by then be that of another call.
    """

    __slots__ = ("_call", "_calls", "_in_parts", "_more", "_request", "_session")

    def __init__(self, session: WampSession, calls: PendingCalls, request: int, more: bool) -> None:
        """`more`: further parts of its arguments follow."""
        self._session = session
        self._calls = calls
        self._request = request
        self._in_parts = self._more = more
        self._call: OpenCall | None = None

    def begin(self, rights: Principal, wanted: CallRequest) -> None:
        """Make the call: it has been authorized."""
        if not self._open:
            return  # cancelled meanwhile
        session = self._session
        try:
            call = session.verbs.call(session, rights, wanted, self)
        except NexusError as error:
            self.error(error)
            return
        self._call = call

    def further(self, message: messages.Call) -> None:
        """Pass on a further part of the arguments; procedure and options were fixed by the first part."""
        if not self._more:
            raise Violation("request: belongs to a call in progress whose arguments are complete")
        session, calls = self._session, self._calls
        more = self._more = message.options.progress
        try:
            payload = session.payload(message, announced(message.options, session.features.caller))
            if calls.parts >= PARTS_HELD:
                raise NexusError("limit_exceeded", f"More than {PARTS_HELD} parts of calls wait for their turn")

            def hand_on() -> None:
                calls.parts -= 1
                if self._call is not None:
                    self._call.further(payload, more)

            calls.parts += 1
            try:
                session.in_turn(message, hand_on, payload.size)
            except NexusError:
                calls.parts -= 1
                raise
        except NexusError as error:
            self.abandon()
            self.error(error)

    def cancel(self, mode: CancelMode) -> None:
        if self._call is not None:
            self._call.cancel(mode)
        else:
            self.error(NexusError("cancelled", "the call was cancelled"))

    def abandon(self) -> None:
        """Give up the call: its caller is gone."""
        if self._call is not None:
            self._call.abandon()

    # --- CallReply

    def progress(self, payload: Payload, options: Options) -> None:
        if self._open:
            self._result({"progress": True}, payload, options)

    def result(self, payload: Payload, options: Options) -> None:
        if not self._end():
            return
        try:
            self._result({}, payload, options)
        except NexusError as error:
            self._session.fail(CALL, self._request, error)

    def error(self, error: NexusError) -> None:
        if self._end():
            self._session.fail(CALL, self._request, error)

    # ---

    def _result(self, details: dict[str, object], payload: Payload, options: Options) -> None:
        """Send RESULT. Raise `too_large` if the client accepts no message of that size, `UNSUPPORTED` if it cannot open it."""
        if options is not None:
            if not passes(options, self._session.features.caller):
                raise UNSUPPORTED.error("the result is an encrypted payload that this caller cannot open")
            details.update(options)
        self._session.carry((RESULT, self._request, details), payload)

    @property
    def _open(self) -> bool:
        return self._calls.by_request.get(self._request) is self

    def _end(self) -> bool:
        """End the call. Return False if it had ended before."""
        if not self._open:
            return False
        self._calls.end(self._request, self._in_parts)
        return True
