"""The core: takes what happens and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nexus_client.core.attempt import CLOSING, GREETING, Attempt, Phase
from nexus_client.core.effects import Broadcast, Close, Connect, Drop, Effect, Report, State
from nexus_client.core.executions import Executions, failure, success
from nexus_client.core.link import MESSAGE, Link
from nexus_client.core.liveness import Liveness
from nexus_client.core.matching import check_name
from nexus_client.core.messages import Garbage, Message, decode, parse_time, seconds
from nexus_client.core.options import Options, Sample
from nexus_client.core.registrations import Registrations
from nexus_client.core.requests import Requests
from nexus_client.core.retry import DELAY, Retry
from nexus_client.core.sender import Sender
from nexus_client.core.stats import Stats
from nexus_client.core.subscriptions import Subscriptions
from nexus_client.core.tokens import Tokens
from nexus_client.core.verdicts import NO_NEXUS, TOKEN_CLOSES, TOO_MANY_ERRORS, fatal
from nexus_client.errors import Forbidden, Stopped, Unauthorized, Unreachable

LATE: Final = 5.0  # seconds: a timer that is later shows that the machine slept
LONGEST_HOLD: Final = 86_400.0  # seconds of `Retry-After` that are honoured
GRACE: Final = 30.0  # seconds beside a command's own times until its caller gives up


class Core:
    """A client's behaviour, without I/O.

    Each input takes `now`, monotonic seconds. After each, `drain` returns the effects to carry out, in order; then
    `deadline` says when to call `tick` at the latest. A timer may be left armed for an earlier time: an early `tick` does no
    harm. `random` returns a number in [0, 1), `new_id` a unique text.

    Inputs that the application gives wrongly raise `ValueError` or `TypeError` and change nothing. After the end, those that
    would ask for something raise the `Stopped` that ended the client.
    """

    def __init__(self, options: Options, random: Callable[[], float], new_id: Callable[[], str]) -> None:
        self.stats = Stats()
        self._state = "idle"
        self._attempt: Attempt | None = None
        self._attempts = 0
        self._retry_at: float | None = None
        self._hold = 0.0  # not to retry before, whatever happens
        self._stopped: Stopped | None = None
        self._asked: float | None = None
        self._retry = Retry(random)
        self._tokens = Tokens(options.renewable)
        self._liveness = Liveness()
        self._link = link = Link(random)
        self._registrations = Registrations(link, options.agent)
        self._subscriptions = Subscriptions(link, self.stats)
        self._requests = Requests(link, options.requests, new_id)
        self._executions = Executions(link, self._registrations, self.stats, options.handlers)
        self._sender = Sender(link, self.stats)

    def drain(self) -> list[Effect]:
        """Return the effects since the last call."""
        effects = self._link.effects
        self._link.effects = []
        return effects

    def deadline(self) -> float | None:
        """Return the time at which `tick` is wanted next; None if nothing waits."""
        times = [
            self._retry_at,
            self._attempt.deadline if self._attempt else None,
            self._liveness.deadline() if self._connected else None,
            self._requests.deadline(),
            self._executions.deadline(),
        ]
        if self._link.up:
            times += (self._subscriptions.deadline(), self._registrations.deadline(), self._sender.deadline())
        self._asked = min((time for time in times if time is not None), default=None)
        return self._asked

    @property
    def state(self) -> str:
        """`idle` (not started), `connecting`, `connected`, `waiting` or `closed`."""
        return self._state

    # The client's life.

    def start(self, now: float) -> None:
        """Begin to connect, and stay connected. Has an effect once."""
        if self._state == "idle":
            self._connect(now)

    def stop(self, now: float) -> None:
        """End in order: settle what is pending with `Stopped`, close with 1000. `State("closed")` follows the last socket."""
        if self._stopped is not None:
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
        """The network or the machine is back: retry at once if waiting, check the connection if there is one."""
        if self._retry_at is not None:
            self._retry_at = max(now, self._hold)
            self._retry_if_due(now)
        elif self._connected:
            self._probe(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        late = self._asked is not None and now - self._asked > LATE
        self._asked = None
        attempt = self._attempt
        if attempt is not None and attempt.deadline is not None and attempt.deadline <= now:
            self._drop(attempt)
        self._retry_if_due(now)
        if self._connected and late:
            self._probe(now)
        elif self._connected and self._liveness.deadline() <= now:
            if self._liveness.probing and attempt is not None:
                self._drop(attempt)
            else:
                self._probe(now)
        self._subscriptions.tick(now)
        self._registrations.tick(now)
        self._requests.tick(now)
        self._executions.tick(now)
        self._sender.tick(now)

    # The connection. Reports of an attempt that is not the present one are ignored.

    def token(self, now: float, attempt: int, token: str) -> bool:
        """Return whether the token may be sent; false ends the attempt: the server has refused this very token before.

        The core keeps only a digest of it.
        """
        if not self._is_present(attempt) or self._stopped is not None:
            return False
        if self._tokens.offer(token):
            return True
        self._over(now, Unauthorized("the server refused this token before, and there is no other one"))
        return False

    def token_failed(self, now: float, attempt: int, error: str) -> None:
        """No token could be obtained. `error` must not hold a secret: it is reported."""
        if self._is_present(attempt):
            self._link.emit(Report("token", f"no token could be obtained: {error}"))
            self._over(now, self._retry.wait(), "no token")

    def opened(self, now: float, attempt: int) -> None:
        """The WebSocket is open."""
        present = self._attempt
        if present is not None and present.number == attempt and present.phase is Phase.OPENING:
            present.turn(Phase.OPEN, now + GREETING)

    def refused(
        self, now: float, attempt: int, status: int | None, retry_after: float | None, detail: str, certificate: bool = False
    ) -> None:
        """The attempt failed before the WebSocket was open.

        `status` is that of the HTTP response, None if there was none; `retry_after` its `Retry-After` in seconds;
        `certificate`: the server's certificate does not verify.
        """
        if not self._is_present(attempt):
            return
        reason = f"{status} {detail}" if status is not None else detail
        if status == 401:
            self._refuse_token(now, f"the server refuses the token: {reason}")
        elif status == 403:
            self._over(now, Forbidden(f"the server refuses the connection: {reason}"))
        elif certificate or status in NO_NEXUS:
            if self.stats.connections:
                self._over(now, self._retry.wait(steep=True), reason)
            else:
                self._over(now, Unreachable(f"no Nexus at this address: {reason}"))
        else:
            after = min(max(retry_after or 0.0, 0.0), LONGEST_HOLD)
            self._hold = now + after
            self._over(now, self._retry.wait(after=after, steep=bool(after)), reason)

    def received(self, now: float, attempt: int, text: str | bytes) -> None:
        """A text message came; bytes are its UTF-8."""
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
        """A binary message came, which the protocol does not have."""
        if self._attempt is not None and self._attempt.number == attempt:
            self._garbage(now, self._attempt, 1003, "the server sent a binary message")

    def lost(self, now: float, attempt: int, code: int, reason: str) -> None:
        """The socket is gone.

        `code` and `reason` are those of the server's close frame if the server began the close; 1006 if there was no close
        frame, if this side began (also because the library found a violation), or after `Drop`.
        """
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
            self._over(now, self._retry.wait(steep=True), "a violation of the protocol")
        elif code in TOKEN_CLOSES:
            self._refuse_token(now, f"the server closed the connection: {why}")
        elif error := fatal(code, reason, announced is None or announced.reconnect is not False):
            self._over(now, error)
        else:
            delay = seconds(announced.delay, self._retry.delay) if announced else None
            self._over(now, self._retry.wait(delay, steep=code == TOO_MANY_ERRORS or present.connected_at is None), why)

    # Events.

    def subscribe(
        self,
        now: float,
        patterns: Sequence[str],
        where: Mapping[str, Any] | None = None,
        since: Mapping[str, str] | None = None,
    ) -> int:
        """Open a stream of the events that match a pattern and the filter; return its number.

        `since`: positions, by type, after which to continue; `{}`: from the beginning of each type's history. Raise
        `ValueError`, naming the member, if a pattern, an operand or a position is malformed.
        """
        self._check()
        return self._subscriptions.open(now, patterns, where, since)

    def unsubscribe(self, now: float, stream: int) -> None:
        """End a stream. `End` follows at once; an unknown or ended stream is ignored."""
        self._subscriptions.close(stream, None)

    def positions(self, stream: int) -> dict[str, str]:
        """Return the position of each type up to which the stream has been delivered; see `Queue.positions`."""
        return self._subscriptions.positions(stream)

    # Requests. Each returns a number for which exactly one `Settle` follows. Raise `Overloaded` if too many are pending,
    # `TypeError` if the data is no JSON.

    def publish(self, now: float, type: str, data: Any, timeout: float = 10.0) -> int:
        """Publish an event, once. While there is no connection it waits, for `timeout` seconds in all."""
        self._check()
        return self._requests.publish(now, check_name(type, "type"), data, timeout)

    def call(
        self,
        now: float,
        command: str,
        parameters: Any = None,
        target: str | Sequence[str] | None = None,
        timeout: float = 30.0,
        ttl: float = 0.0,
        retries: int = 0,
        command_id: str | None = None,
    ) -> int:
        """Call a command; `parameters` of None are left out. Sent again with the same id after a reconnect.

        Without an answer for `timeout * (retries + 1) + ttl + 30` seconds it settles with `Timeout`.
        """
        self._check()
        message: dict[str, Any] = {"command": check_name(command, "command")}
        if parameters is not None:
            message["parameters"] = parameters
        if target is not None:
            message["target"] = target if isinstance(target, str) else list(target)
        message |= {"timeout": timeout, "ttl": ttl, "retries": retries}
        return self._requests.call(now, message, timeout * (retries + 1) + ttl + GRACE, command_id)

    def cancel(self, now: float, request: int) -> None:
        """Cancel a request: a command on the server; an event if it was not sent yet. Others, and ended ones, are ignored."""
        self._requests.cancel(request)

    # Commands that this client executes.

    def register(self, now: float, command: str) -> None:
        """Execute this command from now on. Raise `ValueError` if the name is malformed."""
        self._check()
        self._registrations.add(now, command)

    def unregister(self, now: float, command: str) -> None:
        """Execute this command no more. What runs may finish."""
        self._registrations.remove(command)

    def progress(self, now: float, execution: int, data: Any) -> None:
        """Tell the caller how far an execution is. Nothing is sent while the server cannot attribute it."""
        self._executions.progress(execution, data)

    def succeed(self, now: float, execution: int, data: Any) -> None:
        """An execution ended with this result. Raise `TypeError` if it is no JSON; the execution then still runs."""
        self._executions.end(now, execution, success(data))

    def fail(self, now: float, execution: int, message: str) -> None:
        """An execution ended without a result; the caller is told the message."""
        self._executions.end(now, execution, failure(message))

    # Telemetry.

    def spooled(self, now: float) -> None:
        """The spool holds samples that were not given to `batch` yet. Call it at the start and after each new sample."""
        self._sender.spooled(now)

    def batch(self, now: float, samples: Sequence[Sample]) -> None:
        """The answer to `Fetch`: samples in the order of the spool; fewer than its limit if there are no more."""
        self._sender.batch(now, samples)

    # Attempts.

    @property
    def _connected(self) -> bool:
        return self._attempt is not None and self._attempt.phase is Phase.CONNECTED

    def _is_present(self, attempt: int) -> bool:
        return self._attempt is not None and self._attempt.number == attempt

    def _check(self) -> None:
        if self._stopped is not None:
            raise self._stopped

    def _turn(self, state: str, retry_in: float | None = None, error: Stopped | None = None, reason: str = "") -> None:
        self._state = state
        self._link.emit(State(state, retry_in, error, reason))

    def _connect(self, now: float) -> None:
        self._attempts += 1
        self.stats.attempts += 1
        self._attempt = Attempt(self._attempts, now)
        self._link.attempt = self._attempts
        self._turn("connecting")
        self._link.emit(Connect(self._attempts))

    def _retry_if_due(self, now: float) -> None:
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._connect(now)

    def _over(self, now: float, then: Stopped | float, reason: str = "") -> None:
        """The attempt has ended: stop, or wait for so many seconds."""
        self._attempt = None
        self._link.gone()
        if self._stopped is not None:
            self._turn("closed")
            return
        if isinstance(then, Stopped):
            self._end(then)
            self._turn("closed", error=then)
            return
        self._requests.lost()
        self._subscriptions.lost()
        self._registrations.lost()
        self._sender.lost()
        self._retry_at = now + then
        self._turn("waiting", then, reason=reason)

    def _end(self, error: Stopped) -> None:
        """Nothing is done any more: everything that waits ends with the error."""
        self._stopped = error
        self._retry_at = None
        self._link.down()
        self._requests.fail_all(error)
        self._subscriptions.close_all(None if type(error) is Stopped else error)
        self._executions.cancel_all()

    def _refuse_token(self, now: float, text: str) -> None:
        if self._tokens.refuse():
            self._over(now, self._retry.wait(steep=True), text)
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
            self.stats.garbage += 1
            self._link.emit(Report("protocol", text))
            self._close(now, attempt, code, text)

    # Messages.

    def _greeted(self, now: float, attempt: Attempt, message: Message) -> None:
        link = self._link
        link.clock = parse_time(message.timestamp) - now
        link.limit = int(message.limits.get("message", MESSAGE))
        self._delay(message.reconnect.get("delay") if isinstance(message.reconnect, dict) else None)
        self._liveness.begin(now, message.heartbeat.get("interval", 0.0))
        attempt.turn(Phase.CONNECTED, None)
        attempt.connected_at = now
        self._tokens.accepted()
        self.stats.connections += 1
        self._turn("connected")
        link.up = True
        self._registrations.connected(now)
        self._subscriptions.connected(now)
        self._requests.connected()
        self._sender.connected(now)

    def _delay(self, milliseconds: float | None) -> None:
        self._retry.delay = seconds(milliseconds, DELAY)

    def _announced(self, now: float, attempt: Attempt, message: Message) -> None:
        attempt.announced = message
        attempt.deadline = now + CLOSING
        self._link.down()

    def _message(self, now: float, attempt: Attempt, message: Message) -> None:
        kind = message.type
        if kind == "event":
            self._subscriptions.event(message)
        elif kind == "ping":
            if message.delay is not None:
                self._delay(message.delay)
            if self._link.up:
                self._link.say(type="pong")
        elif kind == "command":
            if self._link.up:
                self._executions.command(now, message)
        elif kind == "command_cancel":
            self._executions.cancel(message)
        elif kind == "continuity":
            self._subscriptions.continuity(message)
        elif kind == "broadcast":
            self._link.emit(Broadcast(message.data))
        elif kind == "disconnect":
            self._announced(now, attempt, message)
        elif kind == "unsubscribed" and message.id is None:
            self._subscriptions.ended(message)
        elif kind == "unregistered" and message.id is None:
            self._registrations.ended(message)
        elif message.id is not None:
            self._link.answered(now, message)
        elif kind == "error":
            self._link.emit(Report("protocol", f"{message.code}: {message.message}"))
