"""The client as a service."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_client.address import parse_address
from nexus_client.core import effects
from nexus_client.core.core import Core
from nexus_client.core.options import Options
from nexus_client.core.queue import LIMIT
from nexus_client.core.stats import Stats
from nexus_client.core.user import User
from nexus_client.errors import Stopped
from nexus_client.samples import make_sample
from nexus_client.spool import Spool
from nexus_client.twisted.attempt import Attempt, Token
from nexus_client.twisted.handlers import Handlers
from nexus_client.twisted.results import Outcome, deferred
from nexus_client.twisted.subscription import Consumer, Subscription
from nexus_client.twisted.telemetry import Recorded, Telemetry

F = TypeVar("F", bound=Callable[..., Any])

GLANCE: Final = 5.0  # seconds between looks at the wall clock, at most


class _Waiting(NamedTuple):
    """Who waits for a request."""

    result: Deferred[Any]
    progress: Callable[[Any], Any] | None
    outcome: Callable[[dict[str, Any]], Any] | None


class Nexus(Service):
    """A client of Nexus: connects when the service starts, and stays connected until it stops.

    * `url`: `http(s)://` or `ws(s)://HOST[:PORT]`; a path is kept.
    * `token`: a text, or a function (also of a Deferred, or a coroutine function) that is called before each attempt.
    * `agent`: the id under which commands are registered and telemetry is sent.
    * `spool`: where samples wait; memory by default.
    * `tls`: a context factory, for example of `twisted.internet.ssl.optionsForClientTLS`.
    * `queue`: how many events may wait for a consumer; `requests`: how many requests for their answer; `handlers`: how many
      commands may run at once.

    Use it in the reactor's thread. It starts once.
    """

    _log = Logger("nexus_client")

    def __init__(
        self,
        reactor: Any,
        url: str,
        *,
        token: Token = None,
        agent: str | None = None,
        spool: Spool | None = None,
        tls: Any = None,
        queue: int = LIMIT,
        requests: int = 10_000,
        handlers: int = 100,
    ) -> None:
        self._reactor = reactor
        self._address = parse_address(url)
        self._token = token
        self._agent = agent
        self._tls = tls
        self._queue = queue
        options = Options(agent, callable(token), requests, handlers)
        self._core = Core(options, random.random, lambda: str(uuid.uuid4()))
        self._attempt: Attempt | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._requests: dict[int, _Waiting] = {}
        self._handlers = Handlers(self._succeeded, self._failed, self._progressed, self._now)
        self._telemetry = Telemetry(Spool() if spool is None else spool, reactor, self._spooled, self._batch)
        self._states: list[Callable[[effects.State], Any]] = []
        self._broadcasts: list[Callable[[Any], Any]] = []
        self._connected: Outcome[None] = Outcome()
        self._closed: Outcome[None] = Outcome()
        self._timer: Any = None
        self._rearming: Any = None
        self._working = False
        self._offset: float = reactor.seconds() - self._now()  # of the wall clock

    # The service.

    def startService(self) -> None:
        if self.running or self._closed.happened:
            raise RuntimeError("this client has been started before")
        super().startService()  # type: ignore[no-untyped-call]
        self._telemetry.open().addCallbacks(lambda _: self._start(), self._no_spool)

    def stopService(self) -> Deferred[None]:
        """Close, giving what is spooled 5 s to be sent."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self.close()

    def close(self, timeout: float = 5.0) -> Deferred[None]:
        """Send what is spooled, as far as that goes within `timeout` seconds, then end."""

        def stop(_: Any) -> None:
            self._core.stop(self._now())
            self._work()

        if self._core.state == "connected":
            self._telemetry.emptied().addTimeout(timeout, self._reactor).addBoth(stop)
        else:
            stop(None)
        return self._closed.wait().addErrback(lambda failure: failure.trap(Stopped) and None)

    def woke(self) -> None:
        """The network or the machine is back: try again at once, or check the connection if there is one."""
        self._core.woke(self._now())
        self._work()

    def connected(self) -> Deferred[None]:
        """Return a Deferred that fires once there is a connection; with the error if there will be none."""
        return self._connected.wait()

    def closed(self) -> Deferred[None]:
        """Return a Deferred that fires at the end: with the error if the client had to stop."""
        return self._closed.wait()

    @property
    def state(self) -> str:
        """`idle`, `connecting`, `connected`, `waiting` or `closed`."""
        return self._core.state

    @property
    def user(self) -> User | None:
        """The `subject` and `role` that the server gave this client when it connected last; None before that."""
        return self._core.user

    @property
    def stats(self) -> Stats:
        return self._core.stats

    def on_state(self, callback: Callable[[effects.State], Any]) -> Callable[[effects.State], Any]:
        """Call this function with each `State`: `state`, `retry_in` (s), `error`, `reason`."""
        self._states.append(callback)
        return callback

    def on_broadcast(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Call this function with the data of each broadcast."""
        self._broadcasts.append(callback)
        return callback

    # Events.

    def subscribe(
        self,
        patterns: str | Sequence[str],
        consumer: Consumer,
        *,
        where: Mapping[str, Any] | None = None,
        since: Mapping[str, str] | None = None,
    ) -> Subscription:
        """Call `consumer` with each `Event` that matches, and with a `Gap` wherever events may be missing.

        It may be a plain function, return a Deferred, or be a coroutine function; it is called with one item at a time.
        `since`: the saved `positions` of an earlier subscription, to miss nothing in between. Raise `ValueError` for a
        malformed pattern, filter or position.
        """
        number = self._core.subscribe(self._now(), [patterns] if isinstance(patterns, str) else patterns, where, since)

        def close() -> None:
            self._core.unsubscribe(self._now(), number)
            self._work()

        subscription = Subscription(consumer, self._queue, close, lambda: self._core.positions(number))
        self._subscriptions[number] = subscription
        self._work()
        return subscription

    def publish(self, type: str, data: Any = None, *, timeout: float = 10.0) -> Deferred[str | None]:
        """Publish an event, once, and return a Deferred of its position (None: no history).

        Fails with `NotConnected`, `ConnectionLost`, `Timeout` (see their `maybe_sent`) or `RequestError`.
        """
        return self._request(lambda: self._core.publish(self._now(), type, data, timeout))

    # Commands.

    def call(
        self,
        command: str,
        parameters: Any = None,
        *,
        target: str | Sequence[str] | None = None,
        timeout: float = 30.0,
        ttl: float = 0.0,
        retries: int = 0,
        command_id: str | None = None,
        progress: Callable[[Any], Any] | None = None,
        outcome: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Deferred[Any]:
        """Call a command and return a Deferred of its result; for a list of targets, of the list of their outcomes.

        Cancelling the Deferred cancels the command. `progress` is called with what the handler reports, `outcome` for a list of
        targets with `{agentId, status, result or message, code}` of each agent as it ends. Fails with `CommandError` and
        `Timeout`.
        """

        def request() -> int:
            return self._core.call(self._now(), command, parameters, target, timeout, ttl, retries, command_id)

        return self._request(request, progress, outcome)

    def command(self, name: str) -> Callable[[F], F]:
        """Return a decorator: the function executes this command from now on.

        It is called with a `Call` and the command's parameters by name, and may be plain, return a Deferred, or be a coroutine
        function. The Deferred is cancelled when nobody waits for the result any more. `CommandFailed` tells the caller why.
        """

        def decorate(handler: F) -> F:
            self._handlers.add(name, handler)
            self._core.register(self._now(), name)
            self._work()
            return handler

        return decorate

    def forget_command(self, name: str) -> None:
        """Execute this command no more. What runs may finish."""
        self._core.unregister(self._now(), name)
        self._work()

    # Telemetry.

    def telemetry(
        self, metrics: Mapping[str, Any] | None = None, /, *, agent: str | None = None, at: datetime | None = None, **named: Any
    ) -> Deferred[Recorded]:
        """Put a sample into the spool; return a Deferred that fires once it is there.

        Metrics are numbers, booleans, strings and objects of these, by name or as one object. Fails with `OSError` if the spool
        cannot be written. Raise `ValueError` for wrong metrics, `Overloaded` if the disk is too slow.
        """
        sample = make_sample(str(uuid.uuid4()), agent or self._agent, {**(metrics or {}), **named}, at)
        if self._closed.happened:
            raise Stopped("the client has ended")
        return self._telemetry.add(sample)

    # What the core wants.

    def _now(self) -> float:
        """Return the core's time. The reactor's is that of the wall clock, which may be set."""
        return monotonic()

    def _start(self) -> None:
        self._core.start(self._now())
        self._work()

    def _no_spool(self, failure: Failure) -> None:
        self._log.failure("the client cannot start without its spool", failure)
        self._core.stop(self._now())
        self._work()

    def _work(self) -> None:
        """Carry out all effects, also those of callbacks; then wait for the next deadline."""
        if self._working:
            return
        self._working = True
        try:
            while wanted := self._core.drain():
                for effect in wanted:
                    self._carry_out(effect)
        finally:
            self._working = False
        if self._rearming is None:
            self._rearming = self._reactor.callLater(0, self._rearm)

    def _rearm(self) -> None:
        self._rearming = None
        deadline = self._core.deadline()
        waits = [] if deadline is None else [max(0.0, deadline - self._now())]
        if self._core.state not in ("idle", "closed"):
            waits.append(GLANCE)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(min(waits), self._tick) if waits else None

    def _tick(self) -> None:
        offset = self._reactor.seconds() - self._now()
        if abs(offset - self._offset) > GLANCE:  # the machine slept, while the core's clock stood still
            self._core.woke(self._now())
        self._offset = offset
        self._core.tick(self._now())
        self._work()

    def _carry_out(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Deliver(stream, item):
                if stream in self._subscriptions:
                    self._subscriptions[stream].put(item)
            case effects.Send(text):
                if self._attempt is not None:
                    self._attempt.send(text)
            case effects.Settle(request, result, error):
                waiting = self._requests.pop(request, None)
                if waiting is None:
                    return  # its Deferred was cancelled
                if error is None:
                    waiting.result.callback(result)
                else:
                    waiting.result.errback(Failure(error))
            case effects.Connect(attempt):
                self._attempt = Attempt(
                    attempt, self._core, self._reactor, self._now, self._address, self._token, self._tls, self._work
                )
                self._attempt.begin()
            case effects.Close(code, reason) if self._attempt is not None:
                self._attempt.close(code, reason)
            case effects.Drop() if self._attempt is not None:
                self._attempt.drop()
            case effects.State():
                self._turned(effect)
            case effects.Subscribed(stream):
                if stream in self._subscriptions:
                    self._subscriptions[stream].accept()
            case effects.End(stream, error, positions):
                if stream in self._subscriptions:
                    self._subscriptions.pop(stream).end(error, positions)
            case effects.Invoke():
                self._handlers.invoke(effect)
            case effects.CancelInvocation(execution):
                self._handlers.cancel(execution)
            case effects.Progress(request, _, data):
                if request in self._requests:
                    self._tell(self._requests[request].progress, data)
            case effects.Outcome(request, outcome):
                if request in self._requests:
                    self._tell(self._requests[request].outcome, outcome)
            case effects.Fetch(limit):
                self._telemetry.fetch(limit)
            case effects.Stored(ids):
                self._telemetry.stored(ids)
            case effects.Refused(ids, error):
                self._telemetry.refused(ids, error)
            case effects.Broadcast(data):
                for callback in self._broadcasts:
                    self._tell(callback, data)
            case effects.Report(kind, message):
                self._log.warn("{kind}: {message}", kind=kind, message=message)

    def _turned(self, state: effects.State) -> None:
        if state.state == "connected":
            self._log.info("connected to {url}", url=self._address.url.partition("?")[0])
            self._connected.happen(None)
        elif state.state == "waiting":
            self._log.info("connects again in {wait:.1f} s: {reason}", wait=state.retry_in, reason=state.reason)
            if self._connected.happened:
                self._connected = Outcome()
        elif state.state == "closed":
            if state.error is not None:
                self._log.critical("the client has stopped: {error}", error=state.error)
            error = state.error or Stopped("the client was closed")
            self._connected, before = Outcome(), self._connected
            before.happen(error)
            self._connected.happen(error)
            self._telemetry.close(error).addErrback(lambda failure: self._log.failure("the spool failed", failure)).addCallback(
                lambda _: self._closed.happen(state.error)
            )
        for callback in self._states:
            self._tell(callback, state)

    def _tell(self, callback: Callable[[Any], Any] | None, what: Any) -> None:
        if callback is not None:
            deferred(callback, what).addErrback(lambda failure: self._log.failure("a callback failed", failure))

    def _request(
        self,
        begin: Callable[[], int],
        progress: Callable[[Any], Any] | None = None,
        outcome: Callable[[dict[str, Any]], Any] | None = None,
    ) -> Deferred[Any]:
        number = begin()

        def cancel(_: Deferred[Any]) -> None:
            # The Deferred fails with `CancelledError` now, and cannot take an answer any more.
            self._requests.pop(number, None)
            self._core.cancel(self._now(), number)
            self._work()

        result: Deferred[Any] = Deferred(cancel)
        self._requests[number] = _Waiting(result, progress, outcome)
        self._work()
        return result

    # What handlers and the spool report.

    def _succeeded(self, execution: int, result: Any) -> None:
        self._core.succeed(self._now(), execution, result)
        self._work()

    def _failed(self, execution: int, message: str) -> None:
        self._core.fail(self._now(), execution, message)
        self._work()

    def _progressed(self, execution: int, data: Any) -> None:
        self._core.progress(self._now(), execution, data)
        self._work()

    def _spooled(self) -> None:
        self._core.spooled(self._now())
        self._work()

    def _batch(self, samples: list[Any]) -> None:
        self._core.batch(self._now(), samples)
        self._work()
