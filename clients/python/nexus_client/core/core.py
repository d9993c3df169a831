"""The core: takes what happens and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nexus_client.core.effects import Effect
from nexus_client.core.options import Options, Sample


class Core:
    """A client's behaviour, without I/O.

    Each input takes `now`, monotonic seconds. After each, `drain` returns the effects to carry out, in order; then
    `deadline` says when to call `tick` at the latest. A timer may be left armed for an earlier time: an early `tick` does no
    harm. `random` returns a number in [0, 1), `new_id` a unique text.

    Inputs that the application gives wrongly raise `ValueError` or `TypeError` and change nothing.
    """

    def __init__(self, options: Options, random: Callable[[], float], new_id: Callable[[], str]) -> None:
        raise NotImplementedError

    def drain(self) -> list[Effect]:
        """Return the effects since the last call."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """Return the time at which `tick` is wanted next; None if nothing waits."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """`idle` (not started), `connecting`, `connected`, `waiting` or `closed`."""
        raise NotImplementedError

    # The client's life.

    def start(self, now: float) -> None:
        """Begin to connect, and stay connected. Has an effect once."""
        raise NotImplementedError

    def stop(self, now: float) -> None:
        """End in order: settle what is pending with `Stopped`, close with 1000. `State("closed")` follows the last socket."""
        raise NotImplementedError

    def woke(self, now: float) -> None:
        """The network or the machine is back: retry at once if waiting, check the connection if there is one."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    # The connection. Reports of an attempt that is not the present one are ignored.

    def token(self, now: float, attempt: int, token: str) -> bool:
        """Return whether the token may be sent; false ends the attempt: the server has refused this very token before.

        The core keeps only a digest of it.
        """
        raise NotImplementedError

    def token_failed(self, now: float, attempt: int, error: str) -> None:
        """No token could be obtained. `error` must not hold a secret: it is reported."""
        raise NotImplementedError

    def opened(self, now: float, attempt: int) -> None:
        """The WebSocket is open."""
        raise NotImplementedError

    def refused(
        self, now: float, attempt: int, status: int | None, retry_after: float | None, detail: str, certificate: bool = False
    ) -> None:
        """The attempt failed before the WebSocket was open.

        `status` is that of the HTTP response, None if there was none; `retry_after` its `Retry-After` in seconds;
        `certificate`: the server's certificate does not verify.
        """
        raise NotImplementedError

    def received(self, now: float, attempt: int, text: str | bytes) -> None:
        """A text message came; bytes are its UTF-8."""
        raise NotImplementedError

    def binary(self, now: float, attempt: int) -> None:
        """A binary message came, which the protocol does not have."""
        raise NotImplementedError

    def lost(self, now: float, attempt: int, code: int, reason: str) -> None:
        """The socket is gone.

        `code` and `reason` are those of the server's close frame if the server began the close; 1006 if there was no close
        frame, if this side began (also because the library found a violation), or after `Drop`.
        """
        raise NotImplementedError

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
        raise NotImplementedError

    def unsubscribe(self, now: float, stream: int) -> None:
        """End a stream. `End` follows at once; an unknown or ended stream is ignored."""
        raise NotImplementedError

    def positions(self, stream: int) -> dict[str, str]:
        """Return the position of each type up to which the stream has been delivered; see `Queue.positions`."""
        raise NotImplementedError

    # Requests. Each returns a number for which exactly one `Settle` follows. Raise `Overloaded` if too many are pending,
    # `Stopped` if the client has ended, `TypeError` if the data is no JSON.

    def publish(self, now: float, type: str, data: Any, timeout: float = 10.0) -> int:
        """Publish an event, once. While there is no connection it waits, for `timeout` seconds in all."""
        raise NotImplementedError

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
        raise NotImplementedError

    def cancel(self, now: float, request: int) -> None:
        """Cancel a request: a command on the server; an event if it was not sent yet. Others, and ended ones, are ignored."""
        raise NotImplementedError

    # Commands that this client executes.

    def register(self, now: float, command: str) -> None:
        """Execute this command from now on. Raise `ValueError` if the name is malformed."""
        raise NotImplementedError

    def unregister(self, now: float, command: str) -> None:
        """Execute this command no more. What runs may finish."""
        raise NotImplementedError

    def progress(self, now: float, execution: int, data: Any) -> None:
        """Tell the caller how far an execution is. Nothing is sent while the server cannot attribute it."""
        raise NotImplementedError

    def succeed(self, now: float, execution: int, data: Any) -> None:
        """An execution ended with this result. Raise `TypeError` if it is no JSON; the execution then still runs."""
        raise NotImplementedError

    def fail(self, now: float, execution: int, message: str) -> None:
        """An execution ended without a result; the caller is told the message."""
        raise NotImplementedError

    # Telemetry.

    def spooled(self, now: float) -> None:
        """The spool holds samples that were not given to `batch` yet. Call it at the start and after each new sample."""
        raise NotImplementedError

    def batch(self, now: float, samples: Iterable[Sample]) -> None:
        """The answer to `Fetch`: samples in the order of the spool; fewer than its limit if there are no more."""
        raise NotImplementedError
