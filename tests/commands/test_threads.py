"""Handlers in threads: how many, in which order, what happens when there are too many, and at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from msgspec import Raw
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from nexus_tw.commands import threads as module
from nexus_tw.commands.threads import PATIENCE, PROGRESS, Threads
from nexus_tw.interfaces.plugins import Invoked
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from tests.node import until
from tests.recording import principal

clock: Any = reactor


class Call:
    """A command, as a handler gets it."""

    command_id = "c"
    command = "report"
    parameters = None
    attempt = 1
    cancelled = False

    def __init__(self, subject: str = "somebody") -> None:
        self.caller = principal(subject)
        self.told: list[Any] = []
        self.callbacks: list[Callable[[str], None]] = []

    def progress(self, data: Any) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.told.append(bytes(data))

    def on_cancel(self, callback: Callable[[str], None]) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.callbacks.append(callback)


class Gate:
    """Handlers that stay until they are let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, call: Invoked) -> str:
        self.entered.release()
        assert self.open.wait(30)
        return threading.current_thread().name


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def failure(deferred: Deferred[Any]) -> Any:
    """The error it has failed with."""
    errors: list[Any] = []
    deferred.addErrback(lambda failure: errors.append(failure.value))
    return errors[0]


@pytest_twisted.ensureDeferred
async def test_a_handler_in_a_thread_tells_of_its_progress_and_returns_json() -> None:
    threads, call = Threads(clock, Limits(threads=2, thread_queue=0), Metrics()), Call()

    def handler(call: Invoked) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        for n in range(3 * PROGRESS):
            call.progress(n)
        with pytest.raises(TypeError):
            call.progress(object())
        call.on_cancel(print)
        return {"subject": call.caller.subject}

    result = await threads.run(handler, call)
    assert bytes(result) == b'{"subject":"somebody"}'
    assert call.told == [b"%d" % n for n in range(3 * PROGRESS)], "in order, and before the result"
    assert call.callbacks == [print]
    await threads.stop()


@pytest_twisted.ensureDeferred
async def test_what_a_handler_in_a_thread_raises_is_a_failure_and_the_thread_goes_on() -> None:
    threads = Threads(clock, Limits(threads=1, thread_queue=0), Metrics())

    def wrong(call: Invoked) -> Any:
        raise KeyError("nothing")

    def leaves(call: Invoked) -> Any:
        raise SystemExit

    with pytest.raises(KeyError):
        await threads.run(wrong, Call())
    with pytest.raises(SystemExit):
        await threads.run(leaves, Call())
    with pytest.raises(TypeError, match="a handler must return JSON, not set"):
        await threads.run(lambda _: {object()}, Call())
    assert bytes(await threads.run(lambda _: 5, Call())) == b"5"
    await threads.stop()


@pytest_twisted.ensureDeferred
async def test_threads_and_their_queue_are_bounded_and_the_next_is_refused_and_counted(gate: Gate) -> None:
    metrics = Metrics()
    threads = Threads(clock, Limits(threads=2, thread_queue=1), metrics)
    results = [threads.run(gate, Call()) for _ in range(3)]
    assert (threads.running, threads.waiting) == (2, 1)
    with pytest.raises(NexusError) as refused:
        threads.run(gate, Call())
    assert refused.value.code == "rate_limited"
    assert refused.value.message == "too many commands wait for a thread (limits.thread_queue)"
    assert metrics.threads_full == 1
    for _ in range(2):  # else the thread that is first may do the work of both
        gate.entered.acquire()
    gate.open.set()
    names = [bytes(await result) for result in results]
    assert len(set(names)) == 2, "the third one got a thread that had become free"
    assert (threads.running, threads.waiting) == (0, 0)
    await threads.stop()


@pytest_twisted.ensureDeferred
async def test_a_subject_has_a_share_of_the_queue_and_takes_turns_with_the_others(gate: Gate) -> None:
    metrics = Metrics()
    threads, order = Threads(clock, Limits(threads=1, thread_queue=8, share=0.5), metrics), list[str]()

    def handler(call: Invoked) -> None:
        order.append(call.caller.subject)

    first = threads.run(gate, Call("greedy"))
    runs = [threads.run(handler, Call("greedy")) for _ in range(4)]
    with pytest.raises(NexusError, match=r"of one subject .*limits\.share of limits\.thread_queue") as refused:
        threads.run(handler, Call("greedy"))
    assert refused.value.code == "rate_limited"
    assert (metrics.threads_full, metrics.shares_refused) == (1, {"thread_queue": 1})
    runs += [threads.run(handler, Call(subject)) for subject in ("b", "b", "c")]
    assert threads.waiting == 7
    gate.open.set()
    for run in (first, *runs):
        await run
    assert order == ["greedy", "b", "c", "greedy", "b", "greedy", "greedy"] and threads.waiting == 0
    await threads.stop()


@pytest_twisted.ensureDeferred
async def test_limits_that_are_read_again_hold_at_once(gate: Gate) -> None:
    threads = Threads(clock, Limits(threads=1, thread_queue=1), Metrics())
    results = [threads.run(gate, Call()) for _ in range(2)]
    threads.take(Limits(threads=2, thread_queue=0))
    assert (threads.running, threads.waiting) == (2, 0)
    with pytest.raises(NexusError, match=r"limits\.thread_queue"):
        threads.run(gate, Call())
    gate.open.set()
    for result in results:
        await result
    await threads.stop()


@pytest_twisted.ensureDeferred
async def test_one_that_is_cancelled_while_it_waits_leaves_the_queue_and_one_that_runs_is_told(gate: Gate) -> None:
    threads = Threads(clock, Limits(threads=1, thread_queue=1), Metrics())
    seen: list[bool] = []

    def handler(call: Invoked) -> Any:
        gate(call)
        seen.append(call.cancelled)
        for n in range(3 * PROGRESS):
            call.progress(n)  # does not wait for anybody
        return 1

    call = Call()
    running, waiting = threads.run(handler, call), threads.run(gate, Call())
    waiting.cancel()
    assert failure(waiting).code == "cancelled"
    assert threads.waiting == 0
    gate.entered.acquire()
    running.cancel()
    assert failure(running).code == "cancelled"
    gate.open.set()
    await until(lambda: threads.running == 0)
    assert seen == [True]
    assert call.told == []
    await threads.stop()


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_handlers_and_refuses_further_ones(gate: Gate) -> None:
    threads = Threads(clock, Limits(threads=1, thread_queue=1), Metrics())
    running, waiting = threads.run(gate, Call()), threads.run(gate, Call())
    stopped: list[None] = []
    ending = Deferred.fromCoroutine(threads.stop())
    ending.addCallback(stopped.append)
    assert [failure(each).code for each in (running, waiting)] == ["shutting_down", "shutting_down"]
    with pytest.raises(NexusError) as refused:
        threads.run(gate, Call())
    assert refused.value.code == "shutting_down"
    assert stopped == []
    gate.open.set()
    await until(lambda: stopped)


def test_the_end_does_not_wait_for_a_handler_for_ever(gate: Gate) -> None:
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "nexus_tw.commands.threads.Threads":
            lines.append(formatEvent(event))

    time: Any = Clock()
    time.callFromThread = lambda *_: None
    threads = Threads(time, Limits(threads=1, thread_queue=0), Metrics())
    failure_of = threads.run(gate, Call())
    stopped: list[None] = []
    globalLogPublisher.addObserver(observe)
    try:
        Deferred.fromCoroutine(threads.stop()).addCallback(stopped.append)
        time.advance(PATIENCE - 0.1)
        assert stopped == []
        time.advance(0.2)
        assert stopped == [None]
    finally:
        globalLogPublisher.removeObserver(observe)
    assert failure(failure_of).code == "shutting_down"
    assert lines == ["The handler of report is left behind in its thread"]


def test_threads_hold_nothing_up_when_the_process_ends(gate: Gate) -> None:
    time: Any = Clock()
    time.callFromThread = lambda *_: None
    Threads(time, Limits(threads=1, thread_queue=0), Metrics()).run(gate, Call())
    gate.entered.acquire()
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("nexus-handler-")]
    assert mine and all(thread.daemon for thread in mine)


def test_json_of_a_result() -> None:
    assert module.as_json({"a": 1}) == Raw(b'{"a":1}')
