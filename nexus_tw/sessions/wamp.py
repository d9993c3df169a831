"""The WAMP dialect: a session of the WAMP protocol, its messages to verbs of the core, and what comes back to messages.

A message that is none, or that may not come now, is a protocol violation: ABORT, and the connection is closed. What is wrong
with a request that can be read is told by ERROR. https://wamp-proto.org/wamp_latest_ietf.html
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from nexus_tw.encodings import WampFrames
from nexus_tw.errors import ERRORS, ApplicationError, Close, NexusError
from nexus_tw.events import About, Publisher, Rule, new_publication_id, new_session_id
from nexus_tw.interfaces import Invocation, Reason, Registration, Subscription
from nexus_tw.metrics import Metrics
from nexus_tw.payloads import Payload
from nexus_tw.policy import Action, Principal
from nexus_tw.sessions.verbs import Call, CallRequest, CancelMode, Link, Options, Verbs
from nexus_tw.settings import Limits
from nexus_tw.topics import Pattern
from nexus_tw.wamp import messages
from nexus_tw.wamp.codecs import Violation
from nexus_tw.wamp.features import ROLES, Features
from nexus_tw.wamp.uris import is_pattern, is_uri, pattern_of

WELCOME: Final = 2
ABORT: Final = 3
CHALLENGE: Final = 4
GOODBYE: Final = 6
ERROR: Final = 8
PUBLISHED: Final = 17
SUBSCRIBED: Final = 33
UNSUBSCRIBED: Final = 35
CALL: Final = 48
RESULT: Final = 50
REGISTERED: Final = 65
UNREGISTERED: Final = 67
INVOCATION: Final = 68
INTERRUPT: Final = 69

PROTOCOL_VIOLATION: Final = "wamp.error.protocol_violation"
VIOLATED: Final = Close(1002, "Protocol violation", False)
REFUSED: Final = Close(1008, "Unauthorized", False)
CROWDED: Final = Close(1013, "Try again later", True)
LEFT: Final = Close(1000, "Goodbye", False)
PASSTHRU: Final = ("ppt_scheme", "ppt_serializer", "ppt_cipher", "ppt_keyid")
ENDED_KEPT: Final = 64  # calls with arguments in parts that have ended, whose late parts are recognised
PARTS_HELD: Final = 64  # of a session's calls, that came before it was known whether these are allowed
AGENT: Final = "Nexus"


class Introduction(Protocol):
    """A client on its way in (`nexus_tw.auth.introductions`)."""

    def authenticate(self, signature: str, extra: Mapping[str, Any]) -> None: ...

    def abandon(self) -> None: ...


class Welcome(Protocol):
    """Who the client is, and how that was found out."""

    @property
    def principal(self) -> Principal: ...

    @property
    def authmethod(self) -> str: ...

    @property
    def authprovider(self) -> str: ...

    @property
    def authextra(self) -> Mapping[str, Any]: ...


class Refusal(Protocol):
    @property
    def uri(self) -> str: ...

    @property
    def message(self) -> str: ...


class Introductions(Protocol):
    """Finds out who a client is (`nexus_tw.auth.introductions`)."""

    def introduce(
        self,
        realm: str,
        details: Mapping[str, Any],
        session: int,
        principal: Principal | None,
        challenged: Callable[[str, dict[str, Any]], None],
        welcomed: Callable[[Any], None],
        refused: Callable[[Any], None],
    ) -> Introduction: ...


class WampDialect:
    """Makes WAMP sessions of one serializer and framing, and holds what they share."""

    introduces = True

    def __init__(
        self,
        realms: Mapping[str, Verbs],
        introductions: Introductions,
        encoding: WampFrames,
        heartbeat: bytes,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """`heartbeat` is a ping of the transport."""
        self.realms = realms
        self.introductions = introductions
        self.encoding = encoding
        self.heartbeat = heartbeat
        self.metrics = metrics
        self.depth = limits.depth
        self.pending = limits.pending

    def session(self, link: Link, principal: Principal | None, address: str) -> WampSession:
        return WampSession(self, link, principal, address)

    def farewell(self, close: Close) -> bytes:
        return self.last_words(ABORT, close)

    def last_words(self, kind: int, close: Close) -> bytes:
        """The ABORT or GOODBYE behind which the connection is closed."""
        return self.encoding.frame(self.encoding.codec.encode((kind, {"message": close.message or close.reason}, close.uri)))


Handlers = Mapping[type, Callable[["WampSession", Any], None]]


class WampSession:
    """One client that speaks WAMP; to the core it is a `Peer` once it has joined a realm.

    Where it stands is which messages may come: HELLO, then perhaps AUTHENTICATE, then all those of a session, at last none.
    """

    __slots__ = (
        "_calls",
        "_dialect",
        "_disclosing",
        "_ended",
        "_expected",
        "_features",
        "_held",
        "_introduction",
        "_known",
        "_link",
        "_verbs",
        "address",
        "authmethod",
        "authprovider",
        "client_id",
        "deliver",
        "number",
        "principal",
    )

    _verbs: Verbs
    principal: Principal

    def __init__(self, dialect: WampDialect, link: Link, principal: Principal | None, address: str) -> None:
        self._dialect = dialect
        self._link = link
        self._known = principal
        self._expected: Handlers = _NEW
        self._introduction: Introduction | None = None
        self._features = Features()
        self._calls: dict[int, _Asked] = {}
        self._held = 0  # parts of them that wait
        self._ended: OrderedDict[int, None] | None = None  # calls with arguments in parts, the last that ended
        self._disclosing: set[int] | None = None  # registrations that ask for who calls
        self.address = address
        self.number = new_session_id()
        self.client_id = f"session-{self.number}"
        self.authmethod = self.authprovider = ""
        self.deliver: Callable[[bytes], None] = link.push

    # --- Session

    @property
    def peer(self) -> None:
        return None  # broadcasts come as events

    def begin(self) -> None:
        pass  # it is the client who begins

    def received(self, payload: bytes, is_binary: bool) -> None:
        codec = self._dialect.encoding.codec
        try:
            if is_binary is not codec.binary:
                raise Violation(f"{codec.name} travels in {'binary' if codec.binary else 'text'} messages")
            message = codec.message(payload)
        except Violation as violation:
            self._violated(str(violation))
            return
        handle = self._expected.get(type(message))
        if handle is None:
            self._violated(f"{type(message).__name__.upper()} may not come now")
            return
        try:
            handle(self, message)
        except Violation as violation:
            self._violated(str(violation))
        except NexusError as error:
            self._fail(_code(message), message.request, error)  # type: ignore[attr-defined]

    def broken(self) -> None:
        self._abort(ERRORS["internal"].wamp, "Something went wrong in the server")
        self._leave(Close(1011, "Internal error", True))

    def farewell(self, close: Close) -> bytes:
        if self._expected is _OVER:
            return b""
        kind = GOODBYE if self._expected is _JOINED else ABORT
        self._expected = _OVER
        return self._dialect.last_words(kind, close)

    def end(self) -> None:
        self._expected = _OVER
        if self._introduction is not None:
            self._introduction.abandon()
        self._gone()

    # --- Peer

    @property
    def encoding(self) -> WampFrames:
        return self._dialect.encoding

    @property
    def streams(self) -> bool:
        return self._features.progressive_call_invocations

    def invoke(self, invocation: Invocation) -> None:
        details: dict[str, Any] = {}
        registration = invocation.registration
        if not registration.pattern.exact:
            details["procedure"] = invocation.procedure
        if invocation.progressive and self._features.progressive_call_results:
            details["receive_progress"] = True
        if invocation.more:
            details["progress"] = True
        asked = self._disclosing is not None and registration.number in self._disclosing
        if (invocation.disclosed or asked) and invocation.caller.session:
            details["caller"], details["caller_authid"], details["caller_authrole"] = invocation.caller
        if invocation.options is not None:
            details.update(invocation.options)
        try:
            self._carry((INVOCATION, invocation.number, registration.number, details), invocation.payload)
        except NexusError as error:
            invocation.error(error)

    def interrupt(self, invocation: Invocation, reason: Reason) -> bool:
        if not self._features.call_canceling:
            return False
        mode = "killnowait" if invocation.over else "kill"
        why = "wamp.error.timeout" if reason == "timeout" else "wamp.error.canceled"
        self._send(INTERRUPT, invocation.number, {"mode": mode, "reason": why})
        return True

    def unsubscribed(self, subscription: Subscription, reason: str) -> None:
        self._send(UNSUBSCRIBED, 0, {"subscription": subscription.number, "reason": reason})

    def unregistered(self, registration: Registration, reason: str) -> None:
        self._forget(registration.number)
        self._send(UNREGISTERED, 0, {"registration": registration.number, "reason": reason})

    def close(self, close: Close) -> None:
        self._link.close(close)

    # --- joining

    def _hello(self, message: messages.Hello) -> None:
        self._features = Features.announced(message.details)
        self._expected = _JOINING
        realm = message.realm
        introduction = self._dialect.introductions.introduce(
            realm,
            message.details,
            self.number,
            self._known,
            self._challenged,
            lambda welcome: self._welcomed(realm, welcome),
            lambda refusal: self._refuse(refusal.uri, refusal.message),
        )
        if self._expected is _CHALLENGED:
            self._introduction = introduction

    def _challenged(self, authmethod: str, extra: dict[str, Any]) -> None:
        self._expected = _CHALLENGED
        self._send(CHALLENGE, authmethod, extra)

    def _authenticate(self, message: messages.Authenticate) -> None:
        assert self._introduction is not None
        self._expected = _JOINING
        self._introduction.authenticate(message.signature, message.extra)

    def _welcomed(self, realm: str, welcome: Welcome) -> None:
        self.principal = welcome.principal
        self.authmethod = welcome.authmethod
        self.authprovider = welcome.authprovider
        try:
            if self._known is None:
                self._link.identified(welcome.principal)
        except NexusError as error:
            self._abort(error.uri, error.message)
            self._leave(CROWDED)
            return
        self._introduction = None
        self._verbs = self._dialect.realms[realm]
        self._expected = _JOINED
        details = {
            "realm": realm,
            "authid": self.principal.subject,
            "authrole": self.principal.role,
            "authmethod": self.authmethod,
            "authprovider": self.authprovider,
            "authextra": dict(welcome.authextra),
            "agent": AGENT,
            "roles": ROLES,
        }
        self._send(WELCOME, self.number, details)
        self._verbs.join(self)

    def _refuse(self, uri: str, why: str) -> None:
        self._abort(uri, why)
        self._leave(VIOLATED if uri == PROTOCOL_VIOLATION else REFUSED)

    # --- leaving

    def _goodbye(self, _message: messages.Goodbye) -> None:
        self._send(GOODBYE, {}, "wamp.close.goodbye_and_out")
        self._leave(LEFT)

    def _aborted(self, _message: messages.Abort) -> None:
        self._leave(LEFT)

    def _violated(self, why: str) -> None:
        self._dialect.metrics.errors["invalid_message"] += 1
        if self._expected is not _OVER:
            self._abort(PROTOCOL_VIOLATION, why)
            self._leave(VIOLATED)

    def _abort(self, uri: str, why: str) -> None:
        self._send(ABORT, {"message": why}, uri)

    def _leave(self, close: Close) -> None:
        """Nothing is said or heard any more."""
        self._expected = _OVER
        self._gone()
        self._link.close(close)

    def _gone(self) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.abandon()
        verbs = getattr(self, "_verbs", None)
        if verbs is not None:
            verbs.gone(self)

    # --- publish and subscribe

    def _publish(self, message: messages.Publish) -> None:
        options = message.options
        try:
            self._check(message.topic)
            self._check_uri(message.topic)
            payload = self._payload(message)
        except NexusError as error:
            self._publication_failed(message, error)
            return
        who = self.principal
        about = About(
            new_publication_id(),
            payload.shape,
            Publisher(self.number, who.subject, who.role) if options.disclose_me or self._verbs.discloses else None,
            _rule(options, self.number),
            _passthru(options),
        )

        def ok() -> None:
            if options.acknowledge:
                self._send(PUBLISHED, message.request, about.publication)

        def fail(error: NexusError) -> None:
            self._publication_failed(message, error)

        self._verbs.authorize(
            self,
            "publish",
            message.topic,
            None,
            lambda rights: self._verbs.publish(rights, message.topic, payload, ok, fail, about),
            fail,
        )

    def _publication_failed(self, message: messages.Publish, error: NexusError) -> None:
        if message.options.acknowledge:
            self._fail(_code(message), message.request, error)
        else:  # nobody is told, as the specification has it
            self._dialect.metrics.errors[error.code] += 1

    def _subscribe(self, message: messages.Subscribe) -> None:
        pattern = self._pattern(message.topic, message.options.match)

        def ok() -> None:
            self._send(SUBSCRIBED, message.request, self._verbs.subscription(pattern).number)

        fail = self._failing(message)

        def subscribe(rights: Principal) -> None:
            self._verbs.subscribe(self, rights, [message.topic], lambda _text, _member: pattern, None, False, ok, fail)

        self._authorize("subscribe", message.topic, pattern, subscribe, fail)

    def _unsubscribe(self, message: messages.Unsubscribe) -> None:
        pattern = self._verbs.subscribed(self, message.subscription)
        if pattern is None:
            raise _Unknown("wamp.error.no_such_subscription", "No such subscription of this session")
        self._verbs.unsubscribe(self, [pattern.text], lambda: self._send(UNSUBSCRIBED, message.request))

    # --- calls

    def _call(self, message: messages.Call) -> None:
        options = message.options
        request = message.request
        asked = self._calls.get(request)
        if asked is not None:
            asked.further(message)
            return
        if self._ended is not None and request in self._ended:
            return  # a part that is late
        self._check_uri(message.procedure)
        payload = self._payload(message)
        if 0 < self._dialect.pending <= len(self._calls):
            raise NexusError("limit_exceeded", f"More than {self._dialect.pending} calls of this session have not ended")
        wanted = CallRequest(
            message.procedure,
            payload,
            options.timeout / 1000,
            options.receive_progress,
            options.progress,
            options.disclose_me,
            _passthru(options),
        )
        asked = self._calls[request] = _Asked(self, request, options.progress)
        self._authorize("call", message.procedure, None, lambda rights: asked.begin(rights, wanted), asked.error)

    def _cancel(self, message: messages.Cancel) -> None:
        asked = self._calls.get(message.request)
        if asked is not None:  # else it crossed with the result
            asked.cancel(message.options.mode or "killnowait")

    # --- procedures

    def _register(self, message: messages.Register) -> None:
        options = message.options
        self._check(message.procedure)
        pattern = self._pattern(message.procedure, options.match)
        fail = self._failing(message)

        def register(rights: Principal) -> None:
            try:
                registration = self._verbs.register_procedure(self, rights, pattern, options.invoke, options.agent)
            except NexusError as error:
                fail(error)
                return
            if options.disclose_caller:
                self._disclosing = (self._disclosing or set()) | {registration.number}
            self._send(REGISTERED, message.request, registration.number)

        self._authorize("register", message.procedure, pattern, register, fail)

    def _unregister(self, message: messages.Unregister) -> None:
        pattern = self._verbs.registered(self, message.registration)
        if pattern is None:
            raise _Unknown("wamp.error.no_such_registration", "No such registration of this session")
        self._verbs.unregister(self, [pattern.text])
        self._forget(message.registration)
        self._send(UNREGISTERED, message.request)

    def _yield(self, message: messages.Yield) -> None:
        invocation = self._verbs.invocation(self, message.request)
        if invocation is None:
            return  # it is over, and the client could not know
        try:
            payload = self._payload(message)
        except NexusError as error:
            invocation.error(error)
            return
        if message.options.progress:
            invocation.progress(payload, _passthru(message.options))
        else:
            invocation.result(payload, _passthru(message.options))

    def _error(self, message: messages.Error) -> None:
        if message.request_type != INVOCATION:
            raise Violation(f"request_type: a client may only send the error of an invocation ({INVOCATION})")
        invocation = self._verbs.invocation(self, message.request)
        if invocation is None:
            return
        uri = message.error
        try:
            payload = self._payload(message)
        except NexusError as error:
            invocation.error(error)
            return
        if not is_uri(uri, strict=False):
            invocation.error(_Unknown("wamp.error.invalid_uri", "The callee answered with an error that has no valid URI"))
            return
        invocation.error(ApplicationError(uri, payload, payload.summary(uri)))

    def _received(self, _message: messages.EventReceived) -> None:
        """An extension that asks for nothing."""

    # ---

    def _authorize(
        self,
        action: Action,
        uri: str,
        pattern: Pattern | None,
        act: Callable[[Principal], None],
        fail: Callable[[NexusError], None],
    ) -> None:
        """Does it, with the rights to do it, once it is known that this is allowed; not if the session is over by then."""

        def allowed(rights: Principal) -> None:
            if self._expected is _JOINED:
                act(rights)

        self._verbs.authorize(self, action, uri, pattern, allowed, fail)

    def _payload(self, message: messages.Carrier) -> Payload:
        return Payload.of_arguments(self._dialect.encoding.codec, message.args, message.kwargs, self._dialect.depth)

    def _forget(self, registration: int) -> None:
        if self._disclosing is not None:
            self._disclosing.discard(registration)

    def _check_uri(self, uri: str) -> None:
        if not is_uri(uri, self._verbs.strict):
            raise _Unknown("wamp.error.invalid_uri", "Not a valid URI")

    def _check(self, uri: str) -> None:
        """What clients may neither publish nor register."""
        if uri.startswith("wamp."):
            raise _Unknown("wamp.error.invalid_uri", "The names under wamp. are the protocol's own")

    def _pattern(self, uri: str, match: str) -> Pattern:
        if not is_pattern(uri, match, self._verbs.strict):
            raise _Unknown("wamp.error.invalid_uri", "Not a valid URI")
        return pattern_of(uri, match)

    def _result(self, request: int, details: dict[str, Any], payload: Payload, options: Options) -> None:
        """Raises `too_large` where the client takes none of that size."""
        if options is not None:
            details.update(options)
        self._carry((RESULT, request, details), payload)

    def _failing(self, message: Any) -> Callable[[NexusError], None]:
        return lambda error: self._fail(_code(message), message.request, error)

    def _fail(self, kind: int, request: int, error: NexusError) -> None:
        self._dialect.metrics.errors[error.code] += 1
        codec = self._dialect.encoding.codec
        if isinstance(error, ApplicationError):
            try:
                self._carry((ERROR, kind, request, {}, error.uri), error.payload)
                return
            except NexusError as unsayable:
                error = unsayable
        args = codec.encode([error.message])
        kwargs = codec.encode({"code": error.code, "retryable": error.kind.retryable})
        self._write(codec.join((ERROR, kind, request, {}, error.uri), args, kwargs))

    def _carry(self, header: tuple[Any, ...], payload: Payload) -> None:
        """Sends a message with a payload; raises `too_large` where the client takes none of that size."""
        codec = self._dialect.encoding.codec
        message = codec.join(header, *payload.arguments(codec))
        largest = self._link.largest
        if 0 < largest < len(message):
            raise NexusError("too_large", "More than its receiver takes")
        self._write(message)

    def _send(self, *elements: Any) -> None:
        self._write(self._dialect.encoding.codec.encode(elements))

    def _write(self, message: bytes) -> None:
        if self._expected is not _OVER:
            self._link.write(self._dialect.encoding.frame(message))


class _Asked:
    """A call of a session: whether it may be made is perhaps still to be found out. Carries the answers to it."""

    __slots__ = ("_call", "_more", "_parts", "_progressive", "_request", "_session")

    def __init__(self, session: WampSession, request: int, more: bool) -> None:
        """`more`: further parts of its arguments follow."""
        self._session = session
        self._request = request
        self._progressive = self._more = more
        self._call: Call | None = None
        self._parts: list[tuple[Payload, bool]] = []  # that came before it was begun

    def begin(self, rights: Principal, wanted: CallRequest) -> None:
        """It is allowed."""
        session = self._session
        if session._calls.get(self._request) is not self:
            return  # it was cancelled meanwhile
        try:
            call = session._verbs.call(session, rights, wanted, self)
        except NexusError as error:
            self.error(error)
            return
        self._call = call
        for payload, more in self._take_parts():
            call.further(payload, more)

    def further(self, message: messages.Call) -> None:
        """A further part of its arguments. What else the message says was settled by the first."""
        if not self._more:
            raise Violation("request: is that of a call under way, whose arguments are complete")
        session = self._session
        more = self._more = message.options.progress
        try:
            payload = session._payload(message)
            if self._call is None and session._held >= PARTS_HELD:
                raise NexusError("limit_exceeded", f"More than {PARTS_HELD} parts of calls wait to be allowed")
        except NexusError as error:
            self.abandon()
            self.error(error)
            return
        if self._call is not None:
            self._call.further(payload, more)
        else:
            self._parts.append((payload, more))
            session._held += 1

    def cancel(self, mode: CancelMode) -> None:
        if self._call is not None:
            self._call.cancel(mode)
        else:
            self.error(NexusError("cancelled", "the call was cancelled"))

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if self._call is not None:
            self._call.abandon()

    # --- CallReply

    def progress(self, payload: Payload, options: Options) -> None:
        self._session._result(self._request, {"progress": True}, payload, options)

    def result(self, payload: Payload, options: Options) -> None:
        self._end()
        try:
            self._session._result(self._request, {}, payload, options)
        except NexusError as error:
            self._session._fail(CALL, self._request, error)

    def error(self, error: NexusError) -> None:
        self._end()
        self._session._fail(CALL, self._request, error)

    # ---

    def _end(self) -> None:
        session = self._session
        self._take_parts()
        session._calls.pop(self._request, None)
        if self._progressive:
            ended = session._ended = session._ended or OrderedDict()
            ended[self._request] = None
            if len(ended) > ENDED_KEPT:
                ended.popitem(last=False)

    def _take_parts(self) -> list[tuple[Payload, bool]]:
        parts, self._parts = self._parts, []
        self._session._held -= len(parts)
        return parts


class _Unknown(NexusError):
    """A refusal for which WAMP has a name of its own."""

    uri = ""

    def __init__(self, uri: str, message: str) -> None:
        super().__init__("invalid_message", message)
        self.uri = uri


def _rule(options: messages.PublishOptions, me: int) -> Rule | None:
    exclude = frozenset(options.exclude or ())
    if options.exclude_me:
        exclude |= {me}
    rule = Rule(
        exclude,
        frozenset(options.exclude_authid or ()),
        frozenset(options.exclude_authrole or ()),
        _set(options.eligible),
        _set(options.eligible_authid),
        _set(options.eligible_authrole),
    )
    return None if rule == _EVERYBODY else rule


_EVERYBODY: Final = Rule()


def _set(listed: list[Any] | None) -> frozenset[Any] | None:
    return None if listed is None else frozenset(listed)


def _passthru(options: messages.Passthru) -> Options:
    if options.ppt_scheme is None:
        return None
    return {name: value for name in PASSTHRU if (value := getattr(options, name)) is not None}


def _code(message: object) -> int:
    code: int = type(message).__struct_config__.tag  # type: ignore[attr-defined]
    return code


_NEW: Final[Handlers] = {messages.Hello: WampSession._hello, messages.Abort: WampSession._aborted}
_JOINING: Final[Handlers] = {messages.Abort: WampSession._aborted}
_CHALLENGED: Final[Handlers] = {messages.Authenticate: WampSession._authenticate, messages.Abort: WampSession._aborted}
_JOINED: Final[Handlers] = {
    messages.Goodbye: WampSession._goodbye,
    messages.Abort: WampSession._aborted,
    messages.Publish: WampSession._publish,
    messages.Subscribe: WampSession._subscribe,
    messages.Unsubscribe: WampSession._unsubscribe,
    messages.Call: WampSession._call,
    messages.Cancel: WampSession._cancel,
    messages.Register: WampSession._register,
    messages.Unregister: WampSession._unregister,
    messages.Yield: WampSession._yield,
    messages.Error: WampSession._error,
    messages.EventReceived: WampSession._received,
}
_OVER: Final[Handlers] = {}
