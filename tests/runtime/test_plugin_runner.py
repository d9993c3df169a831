"""Guests: what the operator's own functions may return, and what is said of those that are slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from nexus_tw.runtime import plugin_runner
from nexus_tw.runtime.plugin_runner import NEEDS_ASYNCIO, PluginRunner


class Stopwatch:
    """A clock that moves when a guest says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr(plugin_runner, "perf_counter", watch)
    return watch


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == "nexus_tw.runtime.plugin_runner.PluginRunner":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def outcome(deferred: Deferred[Any]) -> Any:
    """Return the result so far: a value, an exception, or None before it has fired."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return (results[0].value if isinstance(results[0], Failure) else results[0]) if results else None


class Other:
    """To be awaited, but no coroutine."""

    def __await__(self) -> Generator[Any, Any, int]:
        return (yield from succeed(5).__await__())


async def coroutine() -> int:
    return await succeed(5)


@pytest.mark.parametrize("function", [lambda: 5, lambda: succeed(5), coroutine, Other])
def test_a_value_a_deferred_a_coroutine_and_anything_else_to_be_awaited(function: Callable[[], Any]) -> None:
    assert outcome(PluginRunner("it").run(function)) == 5


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3)])
def test_whatever_is_raised_is_a_failure(error: BaseException) -> None:
    def plain() -> None:
        raise error

    async def late() -> None:
        raise error

    assert isinstance(outcome(PluginRunner("it").run(plain)), type(error))
    assert isinstance(outcome(PluginRunner("it").run(late)), KeyError | RuntimeError)


def test_a_coroutine_sees_what_its_deferreds_come_to() -> None:
    first: Deferred[int] = Deferred()
    second: Deferred[int] = Deferred()

    async def handler() -> Any:
        value = await first
        try:
            await second
        except ValueError as error:
            return value, str(error)

    result = PluginRunner("it").run(handler)
    first.callback(1)
    assert not result.called
    second.errback(ValueError("no"))
    assert outcome(result) == (1, "no")


def test_cancelling_reaches_what_is_awaited() -> None:
    cancelled: list[str] = []
    awaited: Deferred[None] = Deferred(lambda _: cancelled.append("Deferred"))

    async def handler() -> None:
        try:
            await awaited
        except CancelledError:
            cancelled.append("coroutine")
            raise

    result = PluginRunner("it").run(handler)
    result.cancel()
    assert cancelled == ["Deferred", "coroutine"]
    assert isinstance(outcome(result), CancelledError)


async def sleeps() -> None:
    await asyncio.sleep(1)


async def waits_for_a_future() -> None:
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


@pytest.mark.parametrize("function", [sleeps, waits_for_a_future])
def test_asyncio_without_its_reactor_names_the_remedy(function: Callable[[], Any]) -> None:
    error = outcome(PluginRunner("it").run(function))
    assert isinstance(error, RuntimeError)
    assert str(error) == NEEDS_ASYNCIO


def test_another_runtime_error_is_left_alone() -> None:
    async def handler() -> None:
        raise RuntimeError("mine")

    assert str(outcome(PluginRunner("it").run(handler))) == "mine"


# --- with asyncio's loop


def in_asyncio(test: Callable[[], Any]) -> Any:
    return asyncio.run(test())


def test_under_asyncio_a_coroutine_awaits_futures_and_deferreds() -> None:
    async def test() -> Any:
        deferred: Deferred[int] = Deferred()
        failing: Deferred[int] = Deferred()

        async def handler() -> Any:
            async with asyncio.timeout(10):
                await asyncio.sleep(0)
                value = await deferred
                try:
                    await failing
                except ValueError as error:
                    return value, str(error), await succeed(3)

        result = PluginRunner("it").run(handler)
        await asyncio.sleep(0)
        deferred.callback(1)
        failing.errback(ValueError("no"))
        return await result.asFuture(asyncio.get_running_loop())

    assert in_asyncio(test) == (1, "no", 3)


def test_under_asyncio_cancelling_reaches_what_is_awaited() -> None:
    async def test() -> list[str]:
        cancelled: list[str] = []
        awaited: Deferred[None] = Deferred(lambda _: cancelled.append("Deferred"))

        async def handler() -> None:
            try:
                await awaited
            except asyncio.CancelledError:
                cancelled.append("coroutine")
                raise

        result = PluginRunner("it").run(handler)
        result.addErrback(lambda _: None)
        for _ in range(3):
            await asyncio.sleep(0)
        result.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        return cancelled

    assert in_asyncio(test) == ["Deferred", "coroutine"]


# --- who is slow


def test_a_guest_that_blocks_for_more_than_100_ms_is_logged_once_by_name(watch: Stopwatch, logged: list[str]) -> None:
    def slow(seconds: float) -> None:
        watch.now += seconds

    guest = PluginRunner("The handler of report", "give it `thread = true`")
    guest.run(slow, 0.1)
    assert logged == []
    guest.run(slow, 0.3)
    guest.run(slow, 0.5)
    assert logged == ["The handler of report held up all clients for 0.30 s: give it `thread = true`; this is said once"]
    PluginRunner("Another").run(slow, 1)
    assert logged[1:] == ["Another held up all clients for 1.00 s; this is said once"]


def test_a_coroutine_is_timed_from_one_await_to_the_next(watch: Stopwatch, logged: list[str]) -> None:
    waiting: Deferred[None] = Deferred()

    async def handler(after: float) -> None:
        watch.now += 0.06
        await waiting
        watch.now += after

    patient = PluginRunner("patient").run(handler, 0.06)
    hasty = PluginRunner("hasty").run(handler, 0.2)
    watch.now += 10
    waiting.callback(None)
    assert [outcome(each) for each in (patient, hasty)] == [None, None]
    assert logged == ["hasty held up all clients for 0.20 s; this is said once"]
