"""The client for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import random
import ssl
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from nexus_client.address import parse_address
from nexus_client.aio.attempt import Attempt, Token, check_token
from nexus_client.aio.handlers import Handlers
from nexus_client.aio.run import Run
from nexus_client.aio.subscription import Subscription
from nexus_client.aio.telemetry import Recorded, Telemetry
from nexus_client.core import effects
from nexus_client.core.core import Core
from nexus_client.core.options import Options, Sample
from nexus_client.core.queue import LIMIT
from nexus_client.core.stats import Stats
from nexus_client.core.user import User
from nexus_client.errors import NexusError, Stopped
from nexus_client.samples import make_sample
from nexus_client.spool import Spool

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = 5.0  # seconds for what is under way when the client is closed
GLANCE = 5.0  # seconds between looks at the wall clock

_log = logging.getLogger("nexus_client")


class Nexus:
    """A client of Nexus: connects with `async with` or `run`, and stays connected until it is closed.

    * `url`: `http(s)://` or `ws(s)://HOST[:PORT]`; a path is kept.
    * `token`: a text, or a function that is called before each attempt: a coroutine function, or a plain one, which runs in a
      thread.
    * `agent`: the id under which commands are registered and telemetry is sent.
    * `spool`: where samples wait; memory by default.
    * `tls`: a context; by default `ssl.create_default_context()`.
    * `queue`: how many events may wait in a subscription; `requests`: how many requests for their answer; `handlers`: how many
      commands may run at once.

    Use it in the thread of one event loop. It starts once. Raise `ValueError` for a malformed URL or token.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        agent: str | None = None,
        spool: Spool | None = None,
        tls: ssl.SSLContext | None = None,
        queue: int = LIMIT,
        requests: int = 10_000,
        handlers: int = 100,
    ) -> None:
        self._address = parse_address(url)
        self._token = token if token is None or callable(token) else check_token(token)
        self._agent = agent
        self._tls = tls
        self._queue = queue
        options = Options(agent, callable(token), requests, handlers)
        self._core = Core(options, random.random, lambda: str(uuid.uuid4()))
        self._attempt: Attempt | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._streams: dict[Subscription, int] = {}
        self._requests: dict[int, Run] = {}
        self._handlers = Handlers(self._core, handlers, self._work, self._drained)
        self._telemetry = Telemetry(Spool() if spool is None else spool, self._spooled, self._batch)
        self._states: list[Callable[[effects.State], Any]] = []
        self._broadcasts: list[Callable[[Any], Any]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = False
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._error: Stopped | None = None
        self._ids = map(f"{uuid.uuid4()}-{{}}".format, itertools.count())  # of samples
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rearming = False
        self._working = False
        self._carriers: dict[type[effects.Effect], Callable[[Any], None]] = {
            effects.Deliver: self._deliver,
            effects.Send: self._send,
            effects.Settle: self._settle,
            effects.Connect: self._connect,
            effects.Close: self._bid_farewell,
            effects.Drop: self._drop,
            effects.State: self._turn,
            effects.Subscribed: self._accept,
            effects.End: self._end,
            effects.Invoke: self._handlers.invoke,
            effects.CancelInvocation: lambda effect: self._handlers.cancel(effect.execution),
            effects.Progress: self._report,
            effects.Outcome: lambda effect: self._requests[effect.request].end(effect.outcome),
            effects.Fetch: lambda effect: self._telemetry.fetch(effect.limit),
            effects.Stored: lambda effect: self._telemetry.settle(effect.ids, None),
            effects.Refused: lambda effect: self._telemetry.settle(effect.ids, effect.error),
            effects.Broadcast: self._broadcast,
            effects.Report: lambda effect: _log.warning("%s: %s", effect.kind, effect.message),
        }

    # The client's life.

    async def __aenter__(self) -> Self:
        """Begin to connect; do not wait for it. Raise `OSError` if the spool cannot be opened."""
        if self._started:
            raise RuntimeError("this client has been started before")
        self._started = True
        if self._address.secure and self._tls is None:
            self._tls = ssl.create_default_context()
        await self._telemetry.open()
        self._core.start(time.monotonic())
        self._work()
        self._watch_clock(time.time() - time.monotonic())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self) -> None:
        """Connect, and serve until the client is closed. Raise the error if it had to stop."""
        async with self:
            await self.closed()

    async def close(self, timeout: float = PATIENCE) -> None:
        """Send what is spooled, as far as that goes within `timeout` seconds, cancel the handlers that run, and end."""
        try:
            if self._core.state == "connected":
                async with asyncio.timeout(timeout):
                    await self._telemetry.emptied()
        except TimeoutError:
            pass
        finally:
            self._core.stop(time.monotonic())
            self._work()
        if self._started:
            await self._closed.wait()

    def woke(self) -> None:
        """The network or the machine is back: try again at once, or check the connection if there is one."""
        self._core.woke(time.monotonic())
        self._work()

    async def connected(self) -> None:
        """Return once there is a connection. Raise the error if there will be none."""
        await self._connected.wait()
        if self._core.state == "closed":
            raise self._error or Stopped("the client was closed")

    async def closed(self) -> None:
        """Return when the client has been closed. Raise the error if it had to stop."""
        await self._closed.wait()
        if self._error is not None:
            raise self._error

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
        """Call this function, plain or a coroutine function, with each `State`: `state`, `retry_in` (s), `error`, `reason`."""
        self._states.append(callback)
        return callback

    def on_broadcast(self, callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Call this function, plain or a coroutine function, with the data of each broadcast."""
        self._broadcasts.append(callback)
        return callback

    # Events.

    def subscribe(
        self, *patterns: str, where: Mapping[str, Any] | None = None, since: Mapping[str, str] | None = None
    ) -> Subscription:
        """Return a subscription to the events that match one of the patterns, and the filter if there is one.

        `since`: the saved `positions` of an earlier subscription, to miss nothing in between; `{}`: from the beginning of the
        history. A malformed pattern, filter or position raises `ValueError` when the subscription begins.
        """
        return Subscription(self, self._queue, patterns, where, since)

    async def publish(self, type: str, data: Any = None, *, timeout: float = 10.0) -> str | None:
        """Publish an event, once, and return its position (None: no history).

        Raise `NotConnected`, `ConnectionLost`, `Timeout` (see their `maybe_sent`) or `RequestError`.
        """
        position: str | None = await self._request(self._core.publish(time.monotonic(), type, data, timeout))
        return position

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
    ) -> Run:
        """Call a command; await what this returns for its result, or, for a list of targets, the list of their outcomes.

        `timeout` bounds an attempt, `ttl` how long it may wait for an agent (both in s), `retries` the attempts after an agent
        was lost. The same `command_id` is the same command, for a day. The result fails with `CommandError` or `Timeout`.
        """
        return self._request(
            self._core.call(time.monotonic(), command, parameters, target, timeout, ttl, retries, command_id)
        )

    def command(self, name: str) -> Callable[[F], F]:
        """Return a decorator: the function executes this command from now on.

        It is called with a `Call` and the command's parameters by name, converted to their annotations. A coroutine function
        runs in a task, which is cancelled when nobody waits for the result any more; a plain function runs in a thread.
        `CommandFailed` tells the caller why.
        """

        def decorate(handler: F) -> F:
            self._handlers.add(name, handler)
            self._core.register(time.monotonic(), name)
            self._work()
            return handler

        return decorate

    def forget_command(self, name: str) -> None:
        """Execute this command no more. What runs may finish."""
        self._core.unregister(time.monotonic(), name)
        self._work()

    # Telemetry.

    async def telemetry(
        self, metrics: Mapping[str, Any] | None = None, /, *, agent: str | None = None, at: datetime | None = None, **named: Any
    ) -> Recorded:
        """Put a sample into the spool; return once it is there.

        Metrics are numbers, booleans, strings and objects of these, by name or as one object. `at`: when it was measured, now
        by default. Raise `OSError` if the spool cannot be written, `ValueError` for wrong metrics.
        """
        sample = make_sample(next(self._ids), agent or self._agent, {**(metrics or {}), **named}, at)
        if self._core.state == "closed":
            raise self._error or Stopped("the client was closed")
        return await self._telemetry.add(sample)

    # What subscriptions need.

    def open_stream(
        self,
        subscription: Subscription,
        patterns: Sequence[str],
        where: Mapping[str, Any] | None,
        since: Mapping[str, str] | None,
    ) -> Callable[[], None]:
        """Begin a subscription; return the function that ends it."""
        number = self._core.subscribe(time.monotonic(), patterns, where, since)
        self._subscriptions[number] = subscription
        self._streams[subscription] = number
        self._work()

        def close() -> None:
            self._core.unsubscribe(time.monotonic(), number)
            self._work()

        return close

    def stream_positions(self, subscription: Subscription) -> dict[str, str]:
        """Return the positions up to which a subscription was given everything."""
        return self._core.positions(self._streams[subscription]) if subscription in self._streams else {}

    # The core's time.

    def _work(self) -> None:
        """Carry out all effects, also those of callbacks; at the end of this turn of the loop, wait for the next deadline."""
        if self._loop is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:  # what is wanted before there is a loop is kept by the core
                return
        if self._working:
            return
        self._working = True
        try:
            while wanted := self._core.drain():
                for effect in wanted:
                    self._carriers[type(effect)](effect)
        finally:
            self._working = False
        if not self._rearming:
            self._rearming = True
            self._loop.call_soon(self._rearm)

    def _rearm(self) -> None:
        self._rearming = False
        deadline = self._core.deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._core.tick(time.monotonic())
        self._work()

    def _watch_clock(self, offset: float) -> None:
        """Notice by the wall clock that the machine slept: the clock of timers stands still meanwhile."""
        if self._core.state == "closed" or self._loop is None:
            return
        present = time.time() - time.monotonic()
        if abs(present - offset) > GLANCE:
            self.woke()
        self._loop.call_later(GLANCE, self._watch_clock, present)

    # What the core wants.

    def _deliver(self, effect: effects.Deliver) -> None:
        subscription = self._subscriptions.get(effect.stream)
        if subscription is not None:
            subscription.put(effect.item)

    def _send(self, effect: effects.Send) -> None:
        if self._attempt is not None:
            self._attempt.send(effect.text)

    def _settle(self, effect: effects.Settle) -> None:
        self._requests.pop(effect.request).settle(effect.result, effect.error)

    def _connect(self, effect: effects.Connect) -> None:
        self._attempt = Attempt(effect.attempt, self._core, self._address, self._token, self._tls, self._work)

    def _bid_farewell(self, effect: effects.Close) -> None:
        if self._attempt is not None:
            self._attempt.close(effect.code, effect.reason)

    def _drop(self, effect: effects.Drop) -> None:
        if self._attempt is not None:
            self._attempt.drop()

    def _accept(self, effect: effects.Subscribed) -> None:
        if effect.stream in self._subscriptions:
            self._subscriptions[effect.stream].accept()

    def _end(self, effect: effects.End) -> None:
        subscription = self._subscriptions.pop(effect.stream, None)
        if subscription is not None:
            del self._streams[subscription]
            subscription.end(effect.error, effect.positions)

    def _report(self, effect: effects.Progress) -> None:
        self._requests[effect.request].report(effect.agent, effect.data)

    def _broadcast(self, effect: effects.Broadcast) -> None:
        for callback in self._broadcasts:
            self._tell(callback, effect.data)

    def _turn(self, state: effects.State) -> None:
        if state.state == "connected":
            _log.info("connected to %s", self._address.url.partition("?")[0])
            self._connected.set()
        elif state.state == "waiting":
            _log.info("connects again in %.1f s: %s", state.retry_in, state.reason)
            self._connected.clear()
        elif state.state == "closed":
            if state.error is not None:
                _log.error("the client has stopped: %s", state.error)
            self._error = state.error
            self._connected.set()
            self._start(self._finish(state.error))
        for callback in self._states:
            self._tell(callback, state)

    async def _finish(self, error: NexusError | None) -> None:
        await self._handlers.ended(PATIENCE)
        try:
            await self._telemetry.close(self._error or Stopped("the client was closed"))
        except OSError:
            _log.exception("the spool cannot be closed")
        if self._timer is not None:
            self._timer.cancel()
        self._closed.set()

    def _tell(self, callback: Callable[[Any], Any], what: Any) -> None:
        try:
            result = callback(what)
        except Exception:
            _log.exception("a callback failed")
            return
        if inspect.iscoroutine(result):
            self._start(_logged(result))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _request(self, number: int) -> Run:
        def cancel() -> None:
            self._core.cancel(time.monotonic(), number)
            self._work()

        run = self._requests[number] = Run(cancel)
        self._work()
        return run

    async def _drained(self) -> None:
        if self._attempt is not None:
            await self._attempt.drained()

    # What the spool reports.

    def _spooled(self) -> None:
        self._core.spooled(time.monotonic())
        self._work()

    def _batch(self, samples: list[Sample]) -> None:
        self._core.batch(time.monotonic(), samples)
        self._work()


async def _logged(work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
    except Exception:
        _log.exception("a callback failed")
