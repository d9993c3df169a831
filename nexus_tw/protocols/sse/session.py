"""The session of one event stream: a client that only receives the events named in its request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final, NamedTuple

from nexus_tw.interfaces.peers import Encoding, Invocation, Reason, Registration, Subscription
from nexus_tw.interfaces.realm import Placed, SubscribeReply, SubscribeRequest, Verbs
from nexus_tw.interfaces.sessions import Answering, Link
from nexus_tw.model import events
from nexus_tw.model.errors import DISCONNECTED, UNSUPPORTED, Close, NexusError
from nexus_tw.model.names import is_name
from nexus_tw.model.policy import Principal
from nexus_tw.protocols.native import messages
from nexus_tw.protocols.sse.encoding import COMMENT, SINGLE_TYPE, OwnEncoding, block, lost, mark, retry
from nexus_tw.protocols.sse.places import UNKNOWN, place, read

SOON: Final = (1000, 3000)  # ms until a client comes back after a stream that ended without a word
LEAST: Final = 500  # ms


class StreamRequest(NamedTuple):
    """A request for an event stream."""

    events: list[str]  # types and patterns
    filters: dict[str, Any] | None
    last_id: str | None  # the last id that it has seen; None if it comes for the first time


class StreamDialect:
    """Makes the sessions of event streams."""

    def __init__(self, verbs: Verbs, random: Random, new_id: Callable[[], str]) -> None:
        """`new_id` returns a unique id for a connection."""
        self.verbs = verbs
        self._random = random
        self._new_id = new_id

    def asked(self, request: StreamRequest) -> StreamAsked:
        """Return the dialect for one request."""
        return StreamAsked(self, request)

    def new_client_id(self) -> str:
        return f"client-{self._new_id()}"

    def begins(self) -> bytes:
        """Return the first bytes of a stream."""
        return retry(self._random.randint(*SOON)) + b"\n"

    def farewell(self, close: Close) -> bytes:
        """Return the last block of a stream: the reason for its end, and when to reconnect."""
        said = messages.Disconnect(code=close.code, reason=close.reason, reconnect=close.reconnect, delay=close.delay)
        return retry(LEAST + self._random.randint(0, max(close.delay, LEAST))) + block(said)


class StreamAsked:
    """The dialect of the one session that a request opens."""

    heartbeat = COMMENT
    introduces = False

    def __init__(self, dialect: StreamDialect, request: StreamRequest) -> None:
        self._dialect = dialect
        self._request = request
        self.answer: Answering | None = None  # set before the session is made; it answers before it sends anything

    def session(self, link: Link, principal: Principal | None, address: str) -> StreamSession:
        assert principal is not None and self.answer is not None
        return StreamSession(self._dialect, link, principal, address, self._request, self.answer)

    def farewell(self, close: Close) -> bytes:
        return self._dialect.farewell(close)


class StreamSession:
    """One client of an event stream; for the core it is a `Peer`."""

    __slots__ = (
        "_accepted",
        "_answer",
        "_dialect",
        "_link",
        "_request",
        "address",
        "client_id",
        "deliver",
        "encoding",
        "number",
        "principal",
    )

    authmethod = authprovider = "token"
    streams = False
    answers = False

    def __init__(
        self,
        dialect: StreamDialect,
        link: Link,
        principal: Principal,
        address: str,
        request: StreamRequest,
        answer: Answering,
    ) -> None:
        self._dialect = dialect
        self._link = link
        self._request = request
        self._answer = answer
        self._accepted = False
        self.principal = principal
        self.address = address
        self.client_id = dialect.new_client_id()
        self.number = events.new_session_id()
        self.deliver: Callable[[bytes], None] = link.push
        single = len(set(request.events)) == 1 and is_name(request.events[0])
        self.encoding: Encoding = SINGLE_TYPE if single else OwnEncoding()

    # --- Peer

    def invoke(self, invocation: Invocation) -> None:
        invocation.error(UNSUPPORTED.error("an event stream executes nothing"))

    def room(self, size: int) -> bool:
        return self._link.room(size)

    def interrupt(self, _invocation: Invocation, _reason: Reason) -> bool:
        return False

    def unsubscribed(self, _subscription: Subscription, _reason: str) -> None:
        """End the stream: an administrator has ended one of its subscriptions, which the client would not notice."""
        self._link.close(DISCONNECTED)

    def unregistered(self, _registration: Registration, _reason: str) -> None:
        """Do nothing: the client has no registrations."""

    def probe(self, done: Callable[[], None]) -> None:
        self._link.probe(done)

    def close(self, close: Close) -> None:
        self._link.close(close)

    # --- Session

    @property
    def peer(self) -> StreamSession | None:
        return self if self._accepted else None

    @property
    def client(self) -> StreamSession:
        return self

    def begin(self) -> None:
        verbs, request = self._dialect.verbs, self._request
        verbs.join(self)
        verbs.subscribe(
            self,
            self.principal,
            SubscribeRequest(request.events, request.filters, None if request.last_id is None else read(request.last_id)),
            SubscribeReply(self._begun, self._answer.refuse),
        )

    def _begun(self, placed: Placed) -> None:
        self._answer.accept()
        self._accepted = True
        # The news that events are missing is read before the id is that hides it.
        self._link.write(self._dialect.begins() + b"".join(self._lost(placed)) + mark(self._place(placed)))

    def _lost(self, placed: Placed) -> Iterator[bytes]:
        """Yield what the client must be told if it comes back: of which types events may be missing."""
        if self._request.last_id is None:
            return
        positions, recovered = placed.positions or {}, placed.recovered or {}
        for event_type, complete in recovered.items():
            if not complete:
                yield lost(event_type, positions.get(event_type))
        by_type = placed.positions is not None and placed.recovered is not None
        for pattern in dict.fromkeys(self._request.events):
            if pattern not in recovered and not (by_type and not is_name(pattern)):
                yield lost(pattern, positions.get(pattern))

    def _place(self, placed: Placed) -> bytes:
        """Return the id of the beginning."""
        positions = placed.positions or {}
        if isinstance(self.encoding, OwnEncoding):
            places = self.encoding.places
            places.known = placed.positions is not None
            for event_type, position in positions.items():
                places.move(event_type, position)
            return places.text
        (event_type,) = set(self._request.events)
        return place(event_type, positions[event_type]) if event_type in positions else UNKNOWN

    def received(self, payload: bytes, is_binary: bool) -> None:
        raise NexusError("invalid_message", "An event stream takes no messages")

    def broken(self, _payload: bytes) -> None:
        """Do nothing: no messages are received."""

    def farewell(self, close: Close) -> bytes:
        return self._dialect.farewell(close)

    def overran(self) -> None:
        """Do nothing: no messages are received."""

    def end(self) -> None:
        self._dialect.verbs.gone(self)
