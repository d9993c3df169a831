"""The common part of every client's connection, whatever carries its messages: authentication, rate limiting, closing.

A carrier (`nexus_tw.transport.websocket`, `nexus_tw.transport.rawsocket`) converts bytes into messages and closes in its own
way. The session and the core handle the messages and the client's rights.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nextafter
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.sessions import Session
from nexus_tw.model.errors import HEARTBEAT_TIMEOUT, RATE_LIMITED, SLOW_CONSUMER, TOKEN_EXPIRED, UNAUTHORIZED, Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.quoting import quoted
from nexus_tw.model.settings import Limits
from nexus_tw.protocols.frames import MANY
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.turn import Turn
from nexus_tw.runtime.walltime import wall
from nexus_tw.transport.admission import Admitted
from nexus_tw.transport.bucket import TokenBucket
from nexus_tw.transport.connections import Connections, Full
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.life import ENDED, Life, new_life
from nexus_tw.transport.outbox import Outbox
from nexus_tw.transport.rates import GRAIN

STRANGER: Final = 16384  # bytes of a message from a client that is not yet authenticated
PARTING: Final = 5.0  # s for a client that has left its session to close
LINGER: Final = 10.0  # s for a client to answer our close, which may be behind a full queue
PATIENCE: Final = 60.0  # s for which a client may exceed its rate
OWN_CODE: Final = 3000  # the first close code for applications (RFC 6455 section 7.4.2)
PROBE: Final = 0.1  # s between two checks for a sign of life of a probed client
LOOKS: Final = 30  # checks before it counts as dead
ASKERS: Final = 1024  # requests that wait for one client's sign of life; further ones are answered at once
PORTION: Final = 128  # frames processed in a turn, shared by all connections that have read more than that
INFLATED: Final = 262144  # bytes to which compressed messages inflate in a turn, before the last one; shared like the frames
LEAST: Final = 8  # frames of each connection processed in a turn
RECOVERED: Final = 0.1  # of the bucket: the level from which on the client no longer exceeds its rate


_guarded: Final = Guard("nexus_tw.transport.conversation", "The result of a client's probe could not be passed on")


class Shared:
    """The objects that the connections of a node share; each carrier has a subclass that makes its connections."""

    def __init__(
        self,
        clock: IReactorTime,
        turn: Turn,
        pulse: Pulse,
        connections: Connections,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.clock = clock
        self.turn = turn
        self.pulse = pulse
        self.connections = connections
        self.limits = limits
        self.metrics = metrics


class Conversation:
    """One client's connection, a mixin of its carrier's protocol; its states are in `nexus_tw.transport.life`."""

    __slots__ = (
        "address",
        "admitted",
        "answers",
        "askers",
        "bucket",
        "closed",
        "door",
        "dry_since",
        "expires",
        "further",
        "heard",
        "last_call",
        "life",
        "next_ping",
        "noted",
        "opened",
        "outbox",
        "principal",
        "received",
        "resting",
        "resuming",
        "session",
        "slot",
        "stream",
        "unmetered",
    )

    _log = Logger()
    transport: Any

    def __init__(self, door: Shared, admitted: Admitted) -> None:
        self.door = door
        self.admitted = admitted
        self.life: Life = new_life(self)
        self.address = admitted.address
        self.principal: Principal | None = admitted.principal
        self.outbox: Outbox | None = None  # set from the handshake to the loss of the transport
        self.session: Session | None = None  # set while the client's messages are processed
        self.answers = True
        self.noted = False
        self.received = self.further = 0  # further: messages that others stood for, not metered yet
        self.opened = 0.0
        self.heard = self.next_ping = self.expires = 0.0
        self.slot = -1
        self.bucket = TokenBucket(door.limits.rate, door.clock.seconds()) if door.limits.rate else None
        self.dry_since: float | None = None
        self.stream: TokenBucket | None = None  # of bytes, once the client has sent some
        self.unmetered = 0  # bytes that are not counted yet
        self.resuming: IDelayedCall | None = None  # the end of a pause
        self.resting = False  # whether frames that were read wait for the next turn
        self.closed: Close | None = None
        self.askers: list[Callable[[], None]] = []
        self.last_call: IDelayedCall | None = None  # for a client that does not close, or does not finish closing

    # --- what a carrier does

    def take_leave(self, close: Close) -> None:
        """Send the queued bytes and then the carrier's own close, after which nothing is sent."""
        raise NotImplementedError

    def bound(self, size: int) -> None:
        """Accept no message of more than `size` bytes from now on; 0: any size."""
        raise NotImplementedError

    def take(self, most: int, inflated: int) -> bool:
        """Process at most this many of the frames that were read, until they have inflated to this many bytes. Return whether
        there may be more."""
        raise NotImplementedError

    # --- called by a carrier

    def open(self, pack: Callable[[bytes], bytes] | None = None, largest: int = 0, first: bytes = b"") -> None:
        """The handshake has succeeded; `pack` and `first` as for `Outbox`, `largest` as for `Link`."""
        door = self.door
        door.metrics.connections_opened += 1
        self.opened = door.clock.seconds()
        limit = max(door.limits.send_queue, 2 * self.admitted.message)
        self.outbox = Outbox(self.transport, door.turn, door.connections.backlog, limit, self, pack, largest, first)
        if self.principal is None:
            # Messages of an unauthenticated client are kept in memory before it is known whether it may join.
            self.bound(min(self.admitted.message or STRANGER, STRANGER))
        door.connections.add(self)
        self.life.upgraded()
        if self.admitted.welcome:
            self.life.accepted()
        else:
            self.life.close(UNAUTHORIZED)

    def hand(self, payload: bytes, is_binary: bool) -> bool:
        """Pass a message to the session. Return whether further messages are accepted."""
        session = self.session
        if session is None:
            return False
        try:
            session.received(payload, is_binary)
        except Exception:
            self._log.failure("A message from {address} could not be handled", address=self.address)
            session.broken(payload)
        return self.session is not None

    def meter(self, messages: int, size: int) -> None:
        """Count received messages and bytes, including those that keep a connection alive, and slow down a client that
        sends too many."""
        self.unmetered += size
        wait = 0.0
        if messages:
            self.door.metrics.messages_received += messages
            bucket = self.bucket
            if bucket is not None:
                now = self.door.clock.seconds()
                if self.dry_since is not None:
                    bucket.spend(0, now)
                    if bucket.slack > RECOVERED:  # it had paused, however large the present input is
                        self.dry_since = None
                further, self.further = self.further, 0
                wait = bucket.spend(messages + further, now)
                if wait:
                    self._kept_empty(now)
        if self.unmetered >= GRAIN:
            wait = max(wait, self._bytes_wait())
        if wait and self.session is not None:
            self._pause(wait)

    def handle(self, size: int) -> None:
        """Process a portion of the bytes read, `size` of them just now. Read nothing more until all of them are processed."""
        before = self.received
        most, inflated = PORTION, INFLATED
        others = self.door.connections.resting
        if others:
            most, inflated = max(LEAST, most // (1 + others)), inflated // (1 + others)
        more = self.take(most, inflated)
        self.meter(self.received - before, size)
        if more:
            self._rest(True)
            if self.resuming is None:
                self.transport.pauseProducing()
                self.resuming = self.door.clock.callLater(0, self._resume)

    def finish_reading(self) -> None:
        """The transport is lost: process the bytes read from it at once. No answer can be sent any more.

        Of compressed messages process no more than fit into a turn: they may inflate to a thousand times their size.
        """
        if self.resting:
            self._rest(False)
            assert self.outbox is not None
            self.outbox.discard()
            self.take(MANY, INFLATED)

    def overran(self) -> None:
        """The client sent a message that is too long: the carrier is about to close it with 1009."""
        if self.session is not None:
            self.session.overran()

    def linger(self, seconds: float) -> None:
        """Drop the client if it is not gone by then: it may never read, and so keep the last bytes and the socket."""
        self._call_last(seconds, self.drop)

    def gone(self, code: int, reason: str) -> None:
        """The transport is lost. `code` and `reason` describe how; if this side closed, they are the client's own."""
        self.life.lost()
        self._nothing_last()
        if self.resuming is not None:
            self.resuming.cancel()
            self.resuming = None
        self.life = ENDED
        outbox, self.outbox = self.outbox, None
        if outbox is None:
            return
        outbox.gone()
        door = self.door
        door.connections.remove(self)
        if self.closed is not None:
            code, said = self.closed.code, self.closed.reason
        else:
            said = quoted(reason) if reason else ""
        # A client may close with any of 2,000 codes of its own.
        door.metrics.connections_closed[OWN_CODE if self.closed is None and code > OWN_CODE else code] += 1
        self._log.info(
            "{subject} from {address} left after {seconds:.1f} s: {code} {reason} ({received} messages in)",
            subject=quoted(self.subject or "nobody"),
            address=quoted(self.address),
            seconds=door.clock.seconds() - self.opened,
            code=code,
            reason=said,
            received=self.received,
        )

    # --- the life's owner

    def begin(self) -> None:
        assert self.outbox is not None
        self.session = self.admitted.dialect.session(self.outbox, self.principal, self.address)
        self.door.pulse.add(self, self._lifetime())
        self.session.begin()

    def farewell(self, close: Close) -> None:
        assert self.outbox is not None
        self.closed = close
        speaker = self.admitted.dialect if self.session is None else self.session
        words = speaker.farewell(close)
        if words is None:
            self.drop()
            return
        self.outbox.write(words)
        self.take_leave(close)

    def end(self) -> None:
        session, self.session = self.session, None
        self.door.pulse.remove(self)
        assert session is not None
        session.end()

    # --- called by the session, the doors and the pulse

    @property
    def subject(self) -> str:
        return "" if self.principal is None else self.principal.subject

    @property
    def identity(self) -> str:
        return "" if self.principal is None else self.principal.identity

    @property
    def account(self) -> str:
        return "" if self.principal is None else self.principal.account

    @property
    def audience(self) -> Peer | None:
        return None if self.session is None else self.session.peer

    @property
    def client(self) -> Peer | None:
        return None if self.session is None else self.session.client

    @property
    def waiting(self) -> int:
        return 0 if self.outbox is None else self.outbox.waiting()

    def identified(self, principal: Principal) -> None:
        if self.session is None:  # it left during its authentication
            return
        try:
            self.door.connections.identify(self, principal.identity)
        except Full as full:
            self.door.metrics.connections_refused[full.reason] += 1
            raise
        self.principal = principal
        self.bound(self.admitted.message)
        self.door.pulse.renew(self, self._lifetime())

    def count(self, messages: int) -> None:
        self.further += messages

    def charge(self, size: int) -> None:
        """Count these bytes as if the client had sent them."""
        self.unmetered += size

    def note(self, text: str) -> None:
        if not self.noted:
            self.noted = True
            subject, address = quoted(self.subject or "nobody"), quoted(self.address)
            self._log.info("{subject} from {address}: {text}", subject=subject, address=address, text=text)

    def probe(self, done: Callable[[], None]) -> None:
        if self.session is None or len(self.askers) >= ASKERS:
            self.door.metrics.probes_skipped += self.session is not None
            done()
            return
        self.askers.append(done)
        if len(self.askers) == 1:
            self.heard = mark = nextafter(self.heard, -inf)  # any later input changes it
            self.inquire()
            self._look(mark, 0)

    def inquire(self) -> None:
        """Ask the client for a sign of life."""
        self.ping()

    def shows_life(self, mark: float, _seconds: float) -> bool:
        """Return whether the client has shown a sign of life since `heard` was `mark`, that many seconds ago."""
        return self.heard != mark

    def finish(self, close: Close) -> None:
        if self.session is not None:
            self.closed = close
            self._call_last(PARTING, self.close, close)

    def close(self, close: Close) -> None:
        self.life.close(close)

    def overrun(self) -> None:
        self.door.metrics.shares_refused["send_queues"] += 1
        self.life.close(SLOW_CONSUMER)
        self.drop()

    def drop(self) -> None:
        self.transport.abortConnection()

    def ping(self) -> None:
        assert self.outbox is not None
        self.outbox.push(self.admitted.dialect.heartbeat)

    def expired(self) -> None:
        self.life.close(UNAUTHORIZED if self.principal is None else TOKEN_EXPIRED)

    # ---

    def _lifetime(self) -> float | None:
        """Return the seconds until the client's token expires, or its time to authenticate ends; None: never."""
        if self.principal is None:
            return self.door.limits.auth
        expires = self.principal.expires
        return None if expires is None else max(0.0, expires - wall(self.door.clock))

    def _look(self, mark: float, looks: int) -> None:
        # Checks are counted, not seconds: after a pause of this process, input that arrived meanwhile has to be read first.
        if self.session is not None and not self.shows_life(mark, looks * PROBE):
            if looks < LOOKS:
                self.door.clock.callLater(PROBE, self._look, mark, looks + 1)
                return
            self.life.close(HEARTBEAT_TIMEOUT)
        askers, self.askers = self.askers, []
        for done in askers:
            _guarded(done)

    def _call_last(self, seconds: float, what: Callable[..., None], *args: Any) -> None:
        self._nothing_last()
        self.last_call = self.door.clock.callLater(seconds, what, *args)

    def _nothing_last(self) -> None:
        last_call, self.last_call = self.last_call, None
        if last_call is not None and last_call.active():
            last_call.cancel()

    def _kept_empty(self, now: float) -> None:
        """Close the client if it has exceeded its rate for too long."""
        if self.dry_since is None:
            self.dry_since = now
        elif now - self.dry_since > PATIENCE:
            self.life.close(RATE_LIMITED)

    def _bytes_wait(self) -> float:
        """Count received bytes. Return the seconds for which nothing more should be read. No client is closed for it: it can
        learn the allowed rate only from the rate at which it is read."""
        door = self.door
        size, self.unmetered = self.unmetered, 0
        wait = 0.0
        if door.limits.bytes_rate:
            now = door.clock.seconds()
            if self.stream is None:
                self.stream = TokenBucket(door.limits.bytes_rate, now)
            wait = self.stream.spend(size, now)
        if self.principal is not None:
            wait = max(wait, door.connections.rates.spend(self.principal.account, size))
        return wait

    def _pause(self, wait: float) -> None:
        self.door.metrics.reads_paused += 1
        self.transport.pauseProducing()
        # Under TLS more may arrive during the pause, which then has to be extended.
        if self.resuming is not None and self.resuming.active():
            if self.resuming.getTime() < self.door.clock.seconds() + wait:
                self.resuming.reset(wait)
            return
        self.resuming = self.door.clock.callLater(wait, self._resume)

    def _rest(self, resting: bool) -> None:
        if resting is not self.resting:
            self.resting = resting
            self.door.connections.resting += 1 if resting else -1

    def _resume(self) -> None:
        self.resuming = None
        if self.outbox is not None and self.resting:
            self._rest(False)
            try:
                self.handle(0)
            except Exception:
                self.drop()
                raise
        if self.outbox is not None and self.resuming is None:
            self.transport.resumeProducing()
