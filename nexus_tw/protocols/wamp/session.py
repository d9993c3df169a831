"""A WAMP session: its life cycle, its methods for the core, and the sending of messages.

Each message of a client is handled by a function `(session, message)` in one of the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from nexus_tw.interfaces.authentication import Introduction, Welcome
from nexus_tw.interfaces.peers import Fail, Invocation, Reason, Registration, Subscription
from nexus_tw.interfaces.realm import AuthorizeRequest, Verbs
from nexus_tw.interfaces.sessions import Link
from nexus_tw.model.errors import INTERNAL, UNSUPPORTED, Close, NexusError
from nexus_tw.model.events import Rule, new_session_id
from nexus_tw.model.payloads import ApplicationError, Options, Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.serializers import Violation
from nexus_tw.protocols.wamp.context import WampContext
from nexus_tw.protocols.wamp.encoding import WampFrames
from nexus_tw.protocols.wamp.features import Features, passes
from nexus_tw.protocols.wamp.messages import (
    ABORT,
    ERROR,
    GOODBYE,
    INTERRUPT,
    INVOCATION,
    TRANSPARENT,
    UNREGISTERED,
    UNSUBSCRIBED,
    Carrier,
)
from nexus_tw.protocols.wamp.pending import PendingCalls

PROTOCOL_VIOLATION: Final = "wamp.error.protocol_violation"
VIOLATED: Final = Close(1002, "Protocol violation", False)

Handlers = Mapping[type, Callable[["WampSession", Any], None]]
"""The handlers of the messages that are allowed now. A `Violation` is answered by ABORT, a `NexusError` by ERROR."""

OVER: Final[Handlers] = {}


class WampSession:
    """The session of one WAMP client; for the core it is a `Peer` once it has joined a realm.

    Its state is `expected`, the handlers of the allowed messages (`nexus_tw.protocols.wamp.states`); at the end `OVER`.
    """

    __slots__ = (
        "address",
        "authmethod",
        "authprovider",
        "calls",
        "client_id",
        "context",
        "deliver",
        "disclosing",
        "encoding",
        "expected",
        "features",
        "introduction",
        "joined",
        "known",
        "link",
        "number",
        "others",
        "principal",
        "verbs",
    )

    # Both are set by `join`.
    principal: Principal
    verbs: Verbs

    def __init__(
        self, context: WampContext, link: Link, principal: Principal | None, address: str, expected: Handlers
    ) -> None:
        """`principal` is the one authenticated at the upgrade, if any."""
        self.context = context
        self.link = link
        self.known = principal
        self.expected = expected
        self.introduction: Introduction | None = None  # while a challenge waits for its answer
        self.joined = False  # also once it is over
        self.features = Features()
        self.encoding: WampFrames = context.encoding
        # Most sessions have none of these three.
        self.calls: PendingCalls | None = None
        self.others: Rule | None = None  # the rule that excludes this session
        self.disclosing: set[int] | None = None  # registrations with `disclose_caller`
        self.address = address
        self.number = new_session_id()
        self.client_id = f"session-{self.number}"
        self.authmethod = self.authprovider = ""
        self.deliver: Callable[[bytes], None] = link.push

    # --- Session

    @property
    def peer(self) -> None:
        return None  # broadcasts come as events

    @property
    def client(self) -> WampSession | None:
        return self if self.joined else None

    def begin(self) -> None:
        pass  # the client sends the first message

    def received(self, payload: bytes, is_binary: bool) -> None:
        codec = self.context.codec
        try:
            if is_binary is not codec.binary:
                raise Violation(f"{codec.name} travels in {'binary' if codec.binary else 'text'} messages")
            message = self.context.read(payload)
            handle = self.expected.get(type(message))
            if handle is None:
                raise Violation(f"{type(message).__name__.upper()} may not come now")
            handle(self, message)
        except Violation as violation:
            self._violated(str(violation))
        except NexusError as error:
            self.refuse(message, error)

    def broken(self, _payload: bytes) -> None:
        self.link.close(INTERNAL)

    def farewell(self, close: Close) -> bytes | None:
        if self.expected is OVER:
            return b""
        self.expected = OVER
        if not close.reconnect:
            return self.context.last_words(GOODBYE if self.joined else ABORT, close)
        # After GOODBYE or ABORT most client libraries do not reconnect; after a lost session all of them do. But before WELCOME
        # an orderly close makes Autobahn|Python regard its component as done, so the connection is dropped.
        return b"" if self.joined else None

    def join(self, verbs: Verbs, welcome: Welcome) -> None:
        """Become a member of the realm with these verbs."""
        self.introduction = None
        self.principal = welcome.principal
        self.authmethod = welcome.authmethod
        self.authprovider = welcome.authprovider
        self.verbs = verbs
        self.joined = True

    def overran(self) -> None:
        if self.joined:
            self.verbs.overran(self)

    def end(self) -> None:
        self.expected = OVER
        introduction, self.introduction = self.introduction, None
        if introduction is not None:
            introduction.abandon()
        calls, self.calls = self.calls, None
        if calls is not None:
            calls.abandon()
        if self.joined:
            self.verbs.gone(self)

    # --- Peer

    @property
    def streams(self) -> bool:
        return self.features.callee.progressive_call_invocations

    @property
    def answers(self) -> bool:
        return self.features.callee.call_canceling

    def invoke(self, invocation: Invocation) -> None:
        details: dict[str, Any] = {}
        features = self.features.callee
        registration = invocation.registration
        if not registration.pattern.exact:
            details["procedure"] = invocation.procedure
        if invocation.progressive and features.progressive_call_results:
            details["receive_progress"] = True
        if invocation.more:
            details["progress"] = True
        asked = self.disclosing is not None and registration.number in self.disclosing
        disclosed = invocation.disclosed and features.caller_identification
        if (disclosed or asked) and invocation.caller.session:
            details["caller"], details["caller_authid"], details["caller_authrole"] = invocation.caller
        if invocation.options is not None:
            if not passes(invocation.options, features):
                invocation.error(UNSUPPORTED.error(f"the callee of {invocation.procedure} cannot open an encrypted payload"))
                return
            details.update(invocation.options)
        try:
            self.carry((INVOCATION, invocation.number, registration.number, details), invocation.payload)
        except NexusError as error:
            invocation.error(error)

    def room(self, size: int) -> bool:
        return self.link.room(size)

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        if not self.features.callee.call_canceling:
            return False
        mode = "killnowait" if invocation.over else "kill"
        why = "wamp.error.timeout" if reason == "timeout" else "wamp.error.canceled"
        self.send(INTERRUPT, invocation.number, {"mode": mode, "reason": why})
        return True

    def unsubscribed(self, subscription: Subscription, reason: str) -> None:
        if self.features.subscriber.subscription_revocation:
            self.send(UNSUBSCRIBED, 0, {"subscription": subscription.number, "reason": reason})

    def unregistered(self, registration: Registration, reason: str) -> None:
        self.forget(registration.number)
        if self.features.callee.registration_revocation:
            self.send(UNREGISTERED, 0, {"registration": registration.number, "reason": reason})

    def probe(self, done: Callable[[], None]) -> None:
        self.link.probe(done)

    def close(self, close: Close) -> None:
        self.link.close(close)

    # --- for the handlers of messages: authorization and order

    def authorize(self, request: AuthorizeRequest, act: Callable[[Principal], None], fail: Fail) -> None:
        """Call `act` with the rights for it once the request is allowed and all before it have taken effect, unless the
        session is over by then."""

        def allowed(rights: Principal) -> None:
            if self.expected is not OVER:
                try:
                    act(rights)
                except Exception:
                    self.broken(b"")
                    raise

        self.verbs.authorize(self, request, allowed, fail)

    def in_turn(self, message: Any, act: Callable[[], None], size: int = 0) -> None:
        """Call `act` once all requests before this one have taken effect, unless the session is over by then.

        Raise `rate_limited` if too many are queued. Exceptions of `act` are answered in the same way whether it runs at once
        or later.
        """
        if self not in self.verbs.waiting:
            act()
            return

        def late() -> None:
            if self.expected is not OVER:
                try:
                    act()
                except Violation as violation:
                    self._violated(str(violation))
                except NexusError as error:
                    self.refuse(message, error)
                except Exception:
                    self.broken(b"")
                    raise

        self.verbs.queue(self, size, late)

    def payload(self, message: Carrier, options: Options) -> Payload:
        """Return the message's payload; `options` are those of passthru mode. Raise `invalid_message` if it is malformed."""
        if options is not None and TRANSPARENT in options:
            return Payload.of_opaque(self.context.codec, message.args, message.kwargs)
        return Payload.of_arguments(self.context.codec, message.args, message.kwargs, self.context.depth)

    def forget(self, registration: int) -> None:
        """Forget a registration that has ended."""
        if self.disclosing is not None:
            self.disclosing.discard(registration)

    # --- sending; nothing is sent once the session is over

    def send(self, *elements: Any) -> None:
        """Send a message of these elements."""
        self._write(self.context.codec.encode(elements))

    def carry(self, header: tuple[Any, ...], payload: Payload) -> None:
        """Send a message with a payload. Raise `too_large` if the client accepts no message of that size."""
        codec = self.context.codec
        message = codec.join(header, *payload.arguments(codec))
        largest = self.link.largest
        if 0 < largest < len(message):
            raise NexusError("too_large", "The message is larger than its recipient accepts")
        self._write(message)

    def refuse(self, request: Any, error: NexusError) -> None:
        """Answer a request by ERROR."""
        self.fail(type(request).__struct_config__.tag, request.request, error)

    def fail(self, kind: int, request: int, error: NexusError) -> None:
        """Answer the request with this type code and id by ERROR."""
        if self.expected is OVER:
            return
        self.context.metrics.errors[error.code] += 1
        codec = self.context.codec
        if isinstance(error, ApplicationError):
            try:
                if not passes(error.options, self.features.caller):
                    raise UNSUPPORTED.error(f"{error.uri}, with an encrypted payload that this caller cannot open")
                self.carry((ERROR, kind, request, dict(error.options or {}), error.uri), error.payload)
                return
            except NexusError as unsayable:
                error = unsayable
        args = codec.encode([error.message])
        kwargs = codec.encode({"code": error.code, "retryable": error.kind.retryable})
        self._write(codec.join((ERROR, kind, request, {}, error.uri), args, kwargs))

    def abort(self, uri: str, why: str, close: Close) -> None:
        """Send ABORT, and close."""
        self.send(ABORT, {"message": why}, uri)
        self.end()
        self.link.close(close)

    # ---

    def _violated(self, why: str) -> None:
        if self.expected is not OVER:
            self.context.metrics.errors["invalid_message"] += 1
            self.abort(PROTOCOL_VIOLATION, why, VIOLATED)

    def _write(self, message: bytes) -> None:
        if self.expected is not OVER:
            self.link.write(self.context.encoding.frame(message))
