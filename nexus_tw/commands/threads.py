"""Threads for command handlers that block: a bounded number of threads, and a bounded queue.

A subject has a share of the queue, and the subjects in it take turns, so that one with many commands does not delay the others.

Progress and results of a handler reach the reactor in its order. A thread cannot be stopped from outside: a handler that
continues although no caller waits keeps its thread until it returns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from copy import copy
from functools import partial
from itertools import chain
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Any, Final

import msgspec
from msgspec import Raw
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_tw.interfaces.plugins import Handler, Invoked
from nexus_tw.model.budgets import Budget, follow
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits, renew

PROGRESS: Final = 64  # progress messages of one handler on their way to the reactor; it waits before it sends more
GLANCE: Final = 0.1  # s after which a waiting handler checks whether it was cancelled
PATIENCE: Final = 3.0  # s that a stopping server waits for handlers; less than a worker's parent waits for the worker

_Work = Callable[[], None]


def as_json(result: Any) -> Raw:
    """Encode what a handler returned as JSON. Raise `TypeError` if that is not possible."""
    try:
        return Raw(msgspec.json.encode(result))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"a handler must return JSON, not {type(result).__name__}: {error}") from error


class Threads:
    """Runs handlers in at most `limits.threads` threads, while at most `limits.thread_queue` wait for one."""

    _log = Logger()

    def __init__(self, reactor: Any, limits: Limits, metrics: Metrics) -> None:
        self._reactor = reactor
        self._limits = copy(limits)
        self._metrics = metrics
        self._places = Budget("thread_queue", "thread_queue", self._limits, metrics, "rate_limited")
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._started = 0
        self._running: set[_Run] = set()
        # By account, in the order of their turns.
        self._waiting: OrderedDict[str, deque[_Run]] = OrderedDict()
        self._stopping: Deferred[None] | None = None

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return self._places.taken

    def take(self, limits: Limits) -> None:
        """Apply these limits from now on."""
        renew(self._limits, limits)
        follow(self._limits)
        self._go_on()

    def wrap(self, handler: Handler) -> Handler:
        """Return the same handler, executed in a thread."""
        return partial(self.run, handler)

    def run(self, handler: Handler, call: Invoked) -> Deferred[Raw]:
        """Execute a handler in a thread. Return a Deferred of its result as JSON. Cancelling it removes the run from the queue,
        or tells the handler.

        Raise `rate_limited` if the queue is full, or the subject's share of it, and `shutting_down` once the server stops.
        """
        if self._stopping is not None:
            raise NexusError("shutting_down", "Server shutting down")
        run = _Run(self, self._reactor, handler, call)
        if len(self._running) < self._limits.threads:
            self._start(run)
            return run.result
        account = call.caller.account
        whose = "" if self._places.taken >= self._limits.thread_queue else " of one subject"
        if not whose or self._places.refusal(account) is not None:
            self._metrics.threads_full += 1
            share = "limits.share of " if whose else ""
            raise NexusError("rate_limited", f"too many commands{whose} wait for a thread ({share}limits.thread_queue)")
        self._places.count(account, 1)
        self._waiting.setdefault(account, deque()).append(run)
        return run.result

    async def stop(self) -> None:
        """Cancel all runs. Handlers that do not return within `PATIENCE` are left behind."""
        stopped: Deferred[None] = Deferred()
        self._stopping = stopped
        for run in (*chain.from_iterable(self._waiting.values()), *self._running):
            run.cancel("shutting_down")
        if self._running:
            late = self._reactor.callLater(PATIENCE, stopped.callback, None)
            await stopped
            if late.active():
                late.cancel()
        for run in self._running:
            self._log.warn("The handler of {command} is left behind in its thread", command=run.command)
        for _ in range(self._started):
            self._work.put(None)

    def leave(self, run: _Run) -> None:
        """Remove a waiting run from the queue."""
        account = run.caller.account
        queue = self._waiting.get(account)
        if queue is not None and run in queue:
            queue.remove(run)
            self._places.give_back(account)
            if not queue:
                del self._waiting[account]

    def ended(self, run: _Run) -> None:
        """Release the thread of a run that has ended."""
        self._running.discard(run)
        self._go_on()
        if self._stopping is not None and not self._running and not self._stopping.called:
            self._stopping.callback(None)

    def _go_on(self) -> None:
        """Start waiting runs as far as there are threads: the oldest of the subject whose turn it is, then of the next."""
        while self._waiting and len(self._running) < self._limits.threads:
            account, queue = self._waiting.popitem(last=False)
            run = queue.popleft()
            if queue:
                self._waiting[account] = queue
            self._places.give_back(account)
            self._start(run)

    def _start(self, run: _Run) -> None:
        self._running.add(run)
        # As many threads as were ever busy at once. They do not delay the end of the process.
        if self._started < len(self._running):
            self._started += 1
            Thread(target=self._serve, name=f"nexus-handler-{self._started}", daemon=True).start()
        self._work.put(run.execute)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class _Run:
    """One run of a handler: the command for the handler (`interfaces.plugins.Invoked`), and the run for the reactor."""

    attempt = 1

    def __init__(self, threads: Threads, reactor: IReactorFromThreads, handler: Handler, call: Invoked) -> None:
        self.command_id = call.command_id
        self.command = call.command
        self.parameters = call.parameters
        self.caller: Principal = call.caller
        self.cancelled = False
        self.result: Deferred[Raw] = Deferred(lambda _: self.cancel())
        self._threads = threads
        self._reactor: Any = reactor
        self._handler = handler
        self._call = call
        self._room = BoundedSemaphore(PROGRESS)

    # --- in the reactor

    def cancel(self, code: str = "cancelled") -> None:
        self.cancelled = True
        self._threads.leave(self)
        if not self.result.called:
            self.result.errback(NexusError(code, "no caller waits any more"))

    def _tell(self, body: Raw) -> None:
        self._room.release()
        self._call.progress(body)

    def _finish(self, outcome: Raw | Failure) -> None:
        self._threads.ended(self)
        if not self.result.called:
            self.result.callback(outcome)

    # --- in a thread

    def execute(self) -> None:
        outcome: Raw | Failure
        try:
            outcome = as_json(self._handler(self))
        except BaseException:  # SystemExit, too, would end the thread and nothing else
            outcome = Failure()
            outcome.cleanFailure()
        self._reactor.callFromThread(self._finish, outcome)

    def progress(self, data: Any) -> None:
        """See `interfaces.plugins.Invoked`."""
        body = Raw(msgspec.json.encode(data))
        while not self.cancelled:
            if self._room.acquire(timeout=GLANCE):
                self._reactor.callFromThread(self._tell, body)
                return

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        """See `interfaces.plugins.Invoked`."""
        self._reactor.callFromThread(self._call.on_cancel, callback)
