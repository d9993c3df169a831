"""The connection: one attempt after the other, and what each end means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nexus_client.core.attempt import CLOSING, GREETING, Attempt, Phase
from nexus_client.core.effects import Close, Connect, Drop, Report, State
from nexus_client.core.link import MESSAGE, Link
from nexus_client.core.liveness import Liveness
from nexus_client.core.messages import Garbage, Message, decode, number, parse_time, seconds
from nexus_client.core.parts import Parts
from nexus_client.core.retry import DELAY, Retry
from nexus_client.core.stats import Stats
from nexus_client.core.tokens import Tokens
from nexus_client.core.user import User, user_of
from nexus_client.core.verdicts import NO_NEXUS, TOKEN_CLOSES, TOO_MANY_ERRORS, fatal
from nexus_client.errors import Forbidden, Stopped, Unauthorized, Unreachable

LATE: Final = 5.0  # seconds: a timer that is later shows that the machine slept
LONGEST_HOLD: Final = 86_400.0  # seconds of `Retry-After` that are honoured


class Connection:
    """Keep one connection up. The inputs are those of `Core` with the same names."""

    def __init__(self, link: Link, parts: Parts, stats: Stats, renewable: bool, random: Callable[[], float]) -> None:
        self._link = link
        self._parts = parts
        self._stats = stats
        self.state = "idle"
        self.stopped: Stopped | None = None
        self.user: User | None = None
        self._attempt: Attempt | None = None
        self._retry_at: float | None = None
        self._hold = 0.0  # not to retry before, whatever happens
        self._asked: float | None = None
        self._retry = Retry(random)
        self._tokens = Tokens(renewable)
        self._liveness = Liveness()

    def deadline(self) -> float | None:
        times = [
            self._retry_at,
            self._attempt.deadline if self._attempt else None,
            self._liveness.deadline() if self._live else None,
            self._parts.deadline(),
        ]
        self._asked = min((time for time in times if time is not None), default=None)
        return self._asked

    def start(self, now: float) -> None:
        if self.state == "idle":
            self._connect(now)

    def stop(self, now: float) -> None:
        if self.stopped is not None:
            return
        self._end(Stopped("the client was closed"))
        attempt = self._attempt
        if attempt is None:
            self._turn("closed")
        elif attempt.phase in (Phase.OPEN, Phase.CONNECTED):
            self._close(now, attempt, 1000, "")
        elif attempt.phase is Phase.OPENING:
            self._drop(attempt)

    def woke(self, now: float) -> None:
        if self._retry_at is not None:
            self._retry.hasten(now)
            self._retry_at = max(now, self._hold)
            self._retry_if_due(now)
        elif self._live:
            self._probe(now)

    def tick(self, now: float) -> None:
        late = self._asked is not None and now - self._asked > LATE
        self._asked = None
        attempt = self._attempt
        if attempt is not None and attempt.deadline is not None and attempt.deadline <= now:
            self._drop(attempt)
        self._retry_if_due(now)
        if self._live and late:
            self._probe(now)
        elif self._live and self._liveness.deadline() <= now:
            if self._liveness.probing and attempt is not None:
                self._drop(attempt)
            else:
                self._probe(now)
        self._parts.tick(now)

    def token(self, now: float, attempt: int, token: str) -> bool:
        if not self._is_present(attempt) or self.stopped is not None:
            return False
        if self._tokens.offer(token):
            return True
        self._over(now, Unauthorized("the server refused this token before, and there is no other one"))
        return False

    def token_failed(self, now: float, attempt: int, error: str) -> None:
        if self._is_present(attempt):
            self._link.emit(Report("token", f"no token could be obtained: {error}"))
            self._over(now, self._retry.wait(now), "no token")

    def opened(self, now: float, attempt: int) -> None:
        present = self._attempt
        if present is not None and present.number == attempt and present.phase is Phase.OPENING:
            present.turn(Phase.OPEN, now + GREETING)

    def refused(
        self, now: float, attempt: int, status: int | None, retry_after: float | None, detail: str, certificate: bool = False
    ) -> None:
        if not self._is_present(attempt):
            return
        reason = f"{status} {detail}" if status is not None else detail
        if status == 401:
            self._refuse_token(now, f"the server refuses the token: {reason}")
        elif status == 403:
            self._over(now, Forbidden(f"the server refuses the connection: {reason}"))
        elif certificate or status in NO_NEXUS:
            if self._stats.connections:
                self._over(now, self._retry.wait(now, steep=True), reason)
            else:
                self._over(now, Unreachable(f"no Nexus at this address: {reason}"))
        else:
            after = min(max(retry_after or 0.0, 0.0), LONGEST_HOLD)
            self._hold = now + after
            self._over(now, self._retry.wait(now, after=after, steep=bool(after)), reason)

    def received(self, now: float, attempt: int, text: str | bytes) -> None:
        present = self._attempt
        if present is None or present.number != attempt:
            return
        try:
            message = decode(text)
            if present.phase is Phase.CONNECTED:
                self._liveness.hear(now)
                if message is not None:
                    self._message(now, present, message)
            elif present.phase is Phase.OPEN and message is not None:
                if message.type == "connected":
                    self._greeted(now, present, message)
                elif message.type == "disconnect":
                    self._announced(now, present, message)
        except Garbage as error:
            self._garbage(now, present, 1002, str(error))

    def binary(self, now: float, attempt: int) -> None:
        if self._attempt is not None and self._attempt.number == attempt:
            self._garbage(now, self._attempt, 1003, "the server sent a binary message")

    def lost(self, now: float, attempt: int, code: int, reason: str) -> None:
        present = self._attempt
        if present is None or present.number != attempt:
            return
        if present.connected_at is not None:
            self._retry.ended(now - present.connected_at)
        announced = present.announced
        if announced is not None:
            code = announced.code if isinstance(announced.code, int) else code
            reason = announced.reason or reason
        why = f"{code} {reason}".rstrip()
        if present.phase is Phase.CLOSING:
            self._over(now, self._retry.wait(now, steep=True), "a violation of the protocol")
        elif code in TOKEN_CLOSES:
            self._refuse_token(now, f"the server closed the connection: {why}")
        elif error := fatal(code, reason, announced is None or announced.reconnect is not False):
            self._over(now, error)
        else:
            delay = seconds(announced.delay) if announced and announced.delay is not None else None
            self._over(now, self._retry.wait(now, delay, steep=code == TOO_MANY_ERRORS or present.connected_at is None), why)

    @property
    def _live(self) -> bool:
        """Whether there is a connection whose end the server has not announced."""
        return self._attempt is not None and self._attempt.phase is Phase.CONNECTED and self._link.up

    def _is_present(self, attempt: int) -> bool:
        return self._attempt is not None and self._attempt.number == attempt

    def _turn(self, state: str, retry_in: float | None = None, error: Stopped | None = None, reason: str = "") -> None:
        self.state = state
        self._link.emit(State(state, retry_in, error, reason))

    def _connect(self, now: float) -> None:
        self._stats.attempts += 1
        self._link.attempt += 1
        self._attempt = Attempt(self._link.attempt, now)
        self._turn("connecting")
        self._link.emit(Connect(self._link.attempt))

    def _retry_if_due(self, now: float) -> None:
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._connect(now)

    def _over(self, now: float, then: Stopped | float, reason: str = "") -> None:
        """The attempt has ended: stop, or wait for so many seconds."""
        self._attempt = None
        self._link.gone()
        if self.stopped is not None:
            self._turn("closed")
            return
        if isinstance(then, Stopped):
            self._end(then)
            self._turn("closed", error=then)
            return
        self._parts.lost()
        self._retry_at = now + then
        self._turn("waiting", then, reason=reason)

    def _end(self, error: Stopped) -> None:
        """Nothing is done any more: everything that waits ends with the error."""
        self.stopped = error
        self._retry_at = None
        self._link.down()
        self._parts.stopped(error)

    def _refuse_token(self, now: float, text: str) -> None:
        if self._tokens.refuse():
            self._over(now, self._retry.wait(now, steep=True), text)
        else:
            self._over(now, Unauthorized(text))

    def _drop(self, attempt: Attempt) -> None:
        attempt.turn(Phase.DROPPED, None)
        self._link.down()
        self._link.emit(Drop())

    def _close(self, now: float, attempt: Attempt, code: int, reason: str) -> None:
        attempt.turn(Phase.CLOSING, now + CLOSING)
        self._link.down()
        self._link.emit(Close(code, reason))

    def _probe(self, now: float) -> None:
        self._liveness.probe(now)
        self._link.say(type="ping")

    def _garbage(self, now: float, attempt: Attempt, code: int, text: str) -> None:
        if attempt.phase in (Phase.OPEN, Phase.CONNECTED):
            self._stats.garbage += 1
            self._link.emit(Report("protocol", text))
            self._close(now, attempt, code, text)

    def _greeted(self, now: float, attempt: Attempt, message: Message) -> None:
        link = self._link
        link.clock = parse_time(message.timestamp) - now
        link.limit = int(number(message.limits, "message", MESSAGE))
        wishes = message.reconnect if isinstance(message.reconnect, dict) else {}
        self._retry.greeted(seconds(number(wishes, "delay", DELAY * 1000)))
        self._liveness.begin(now, number(message.heartbeat, "interval", 0.0))
        attempt.turn(Phase.CONNECTED, None)
        attempt.connected_at = now
        self._tokens.accepted()
        self.user = user_of(message.user)
        self._stats.connections += 1
        self._turn("connected")
        link.up = True
        self._parts.connected(now)

    def _announced(self, now: float, attempt: Attempt, message: Message) -> None:
        attempt.announced = message
        attempt.deadline = now + CLOSING
        self._link.down()

    def _message(self, now: float, attempt: Attempt, message: Message) -> None:
        if message.type == "ping":
            if message.delay is not None:
                self._retry.wished(seconds(message.delay))
            if self._link.up:
                self._link.say(type="pong")
        elif message.type == "disconnect":
            self._announced(now, attempt, message)
        else:
            self._parts.message(now, message)
