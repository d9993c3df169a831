"""The core: takes what happens and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nexus_client.core.connection import Connection
from nexus_client.core.effects import Effect
from nexus_client.core.executions import failure, success
from nexus_client.core.link import Link
from nexus_client.core.matching import check_name
from nexus_client.core.options import Options, Sample
from nexus_client.core.parts import Parts
from nexus_client.core.stats import Stats
from nexus_client.core.user import User

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
        self._link = Link(random)
        self._parts = Parts(self._link, self.stats, options, new_id)
        self._connection = Connection(self._link, self._parts, self.stats, options.renewable, random)

    def drain(self) -> list[Effect]:
        """Return the effects since the last call."""
        effects = self._link.effects
        self._link.effects = []
        return effects

    def deadline(self) -> float | None:
        """Return the time at which `tick` is wanted next; None if nothing waits."""
        return self._connection.deadline()

    @property
    def state(self) -> str:
        """`idle` (not started), `connecting`, `connected`, `waiting` or `closed`."""
        return self._connection.state

    @property
    def user(self) -> User | None:
        """Whom the server took this client for when it connected last; None before that, or if the server did not tell."""
        return self._connection.user

    # The client's life.

    def start(self, now: float) -> None:
        """Begin to connect, and stay connected. Has an effect once."""
        self._connection.start(now)

    def stop(self, now: float) -> None:
        """End in order: settle what is pending with `Stopped`, close with 1000. `State("closed")` follows the last socket."""
        self._connection.stop(now)

    def woke(self, now: float) -> None:
        """The network or the machine is back: retry at once if waiting, check the connection if there is one."""
        self._connection.woke(now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._connection.tick(now)

    # The connection. Reports of an attempt that is not the present one are ignored.

    def token(self, now: float, attempt: int, token: str) -> bool:
        """Return whether the token may be sent; false ends the attempt: the server has refused this very token before.

        The core keeps only a digest of it.
        """
        return self._connection.token(now, attempt, token)

    def token_failed(self, now: float, attempt: int, error: str) -> None:
        """No token could be obtained. `error` must not hold a secret: it is reported."""
        self._connection.token_failed(now, attempt, error)

    def opened(self, now: float, attempt: int) -> None:
        """The WebSocket is open."""
        self._connection.opened(now, attempt)

    def refused(
        self, now: float, attempt: int, status: int | None, retry_after: float | None, detail: str, certificate: bool = False
    ) -> None:
        """The attempt failed before the WebSocket was open.

        `status` is that of the HTTP response, None if there was none; `retry_after` its `Retry-After` in seconds;
        `certificate`: the server's certificate does not verify.
        """
        self._connection.refused(now, attempt, status, retry_after, detail, certificate)

    def received(self, now: float, attempt: int, text: str | bytes) -> None:
        """A text message came; bytes are its UTF-8."""
        self._connection.received(now, attempt, text)

    def binary(self, now: float, attempt: int) -> None:
        """A binary message came, which the protocol does not have."""
        self._connection.binary(now, attempt)

    def lost(self, now: float, attempt: int, code: int, reason: str) -> None:
        """The socket is gone.

        `code` and `reason` are those of the server's close frame if the server began the close; 1006 if there was no close
        frame, if this side began (also because the library found a violation), or after `Drop`.
        """
        self._connection.lost(now, attempt, code, reason)

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
        return self._parts.subscriptions.open(now, patterns, where, since)

    def unsubscribe(self, now: float, stream: int) -> None:
        """End a stream. `End` follows at once; an unknown or ended stream is ignored."""
        self._parts.subscriptions.close(stream, None)

    def positions(self, stream: int) -> dict[str, str]:
        """Return the position of each type up to which the stream has been delivered; see `Queue.positions`."""
        return self._parts.subscriptions.positions(stream)

    # Requests. Each returns a number for which exactly one `Settle` follows. Raise `Overloaded` if too many are pending,
    # `TypeError` if the data is no JSON.

    def publish(self, now: float, type: str, data: Any, timeout: float = 10.0) -> int:
        """Publish an event, once. While there is no connection it waits, for `timeout` seconds in all."""
        self._check()
        return self._parts.requests.publish(now, check_name(type, "type"), data, timeout)

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
        return self._parts.requests.call(now, message, timeout * (retries + 1) + ttl + GRACE, command_id)

    def cancel(self, now: float, request: int) -> None:
        """Cancel a request: a command on the server; an event if it was not sent yet. Others, and ended ones, are ignored."""
        self._parts.requests.cancel(request)

    # Commands that this client executes.

    def register(self, now: float, command: str) -> None:
        """Execute this command from now on. Raise `ValueError` if the name is malformed."""
        self._check()
        self._parts.registrations.add(now, command)

    def unregister(self, now: float, command: str) -> None:
        """Execute this command no more. What runs may finish."""
        self._parts.registrations.remove(command)

    def progress(self, now: float, execution: int, data: Any) -> None:
        """Tell the caller how far an execution is. Nothing is sent while the server cannot attribute it."""
        self._parts.executions.progress(execution, data)

    def succeed(self, now: float, execution: int, data: Any) -> None:
        """An execution ended with this result. Raise `TypeError` if it is no JSON; the execution then still runs."""
        self._parts.executions.end(now, execution, success(data))

    def fail(self, now: float, execution: int, message: str) -> None:
        """An execution ended without a result; the caller is told the message."""
        self._parts.executions.end(now, execution, failure(message))

    # Telemetry.

    def spooled(self, now: float) -> None:
        """The spool holds samples that were not given to `batch` yet. Call it at the start and after each new sample."""
        self._parts.sender.spooled(now)

    def batch(self, now: float, samples: Sequence[Sample]) -> None:
        """The answer to `Fetch`: samples in the order of the spool; fewer than its limit if there are no more."""
        self._parts.sender.batch(now, samples)

    def _check(self) -> None:
        if self._connection.stopped is not None:
            raise self._connection.stopped
