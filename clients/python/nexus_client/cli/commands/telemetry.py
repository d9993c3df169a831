"""`nexus telemetry`: samples of an agent, stored durably."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import click

from nexus_client.cli import parsing, requests
from nexus_client.cli.app import App, with_curl, with_server
from nexus_client.cli.failures import Failure, WrongUsage
from nexus_client.cli.registry import examples
from nexus_client.errors import Stopped

FLIGHT: Final = 2_000  # samples that await their acknowledgement

Sample = tuple[dict[str, Any], str | None]


@click.command(
    epilog=examples(
        "nexus telemetry agent-001 cpu=45.2 disk.used=0.7 state=idle",
        'vmstat 1 | awk \'NR>2 {print "{\\"idle\\": " $15 "}"; fflush()}\' | nexus telemetry agent-001 --stdin',
        "nexus telemetry agent-001 cpu=45.2 --spool samples.db      kept there until it is stored",
    )
)
@click.argument("agent", metavar="AGENT")
@click.argument("metrics", nargs=-1, metavar="NAME=VALUE...")
@click.option(
    "--stdin", "from_stdin", is_flag=True, help="Read samples, one JSON object a line: metrics, or {timestamp, metrics}."
)
@click.option("--timestamp", metavar="ISO8601", help="When it was measured. [default: now]")
@click.option(
    "--spool", metavar="FILE", type=click.Path(dir_okay=False), help="Keep samples in this file until they are stored."
)
@click.option("--wait", type=parsing.Seconds(), default=10, show_default=True, help="How long to wait for the last ones.")
@with_curl
@with_server
def command(
    app: App,
    agent: str,
    metrics: tuple[str, ...],
    from_stdin: bool,
    timestamp: str | None,
    spool: str | None,
    wait: float,
    curl: bool,
) -> None:
    """Send samples of AGENT, and return when the server has stored them.

    With --spool samples survive a lost connection, and this process: what is not stored when the time is over stays in the
    file, and goes out with the next run.
    """
    if bool(metrics) == from_stdin:
        raise WrongUsage("give metrics as NAME=VALUE, or --stdin")
    given = parsing.pairs(metrics, "metrics")
    if curl:
        if from_stdin:
            raise WrongUsage("--curl: give the metrics as arguments")
        when = {"timestamp": timestamp} if timestamp else {}
        requests.websocat(app.output, app.target, [{"type": "telemetry", "agentId": agent, "metrics": given, **when}])
        return
    app.run(_send(app, agent, None if from_stdin else (given, timestamp), spool, wait))


async def _send(app: App, agent: str, sample: Sample | None, spool: str | None, wait: float) -> None:
    """Send one sample, or those of standard input; tell how many were stored, and what became of the others."""
    from nexus_client import Spool
    from nexus_client.cli.link import connected

    options = {"spool": Spool(spool)} if spool is not None else {}
    tally = Tally()
    async with connected(app, patient=spool is not None, agent=agent, **options) as nexus:
        async for metrics, timestamp in _samples(sample):
            # With a file the samples of a lost connection wait there, not here.
            await tally.room(lambda: spool is None or nexus.state == "connected")
            tally.add((await nexus.telemetry(metrics, at=_time(timestamp))).stored)
        await tally.settled(wait)
        if nexus.state == "closed":
            await nexus.closed()  # says why
        _tell(app, agent, tally, spool, wait)


def _tell(app: App, agent: str, tally: Tally, spool: str | None, wait: float) -> None:
    """Tell what became of the samples. Raise what the server said of the first that it refused, `Failure` for lost ones."""
    kept = tally.waiting if spool is not None else 0
    record = {"type": "telemetry", "agentId": agent, "stored": tally.stored, "kept": kept}
    app.output.record(record, (f"stored {tally.stored}", "green"), (f" of {tally.count} samples of {agent}", ""))
    if kept:
        app.output.note(f"{kept} samples stay in {spool}; the next run sends them", "yellow")
    if tally.error is not None:
        raise tally.error
    if tally.waiting and not kept:
        raise Failure(f"{tally.waiting} samples were not acknowledged in {wait:g} s", "--spool FILE keeps them", "timeout")


async def _samples(sample: Sample | None) -> AsyncIterator[Sample]:
    """Yield the sample, or without one those of standard input."""
    if sample is not None:
        yield sample
        return
    from nexus_client.cli.lines import values

    async for number, given in values():
        if not isinstance(given, dict):
            raise WrongUsage(f"line {number}: is no JSON object of metrics")
        metrics, timestamp = given, None
        if isinstance(given.get("metrics"), dict) and given.keys() <= {"metrics", "timestamp"}:
            metrics, timestamp = given["metrics"], given.get("timestamp")
        yield metrics, timestamp


def _time(timestamp: Any) -> datetime | None:
    """Return when a sample was measured; None for now. Raise `WrongUsage` if that is no time."""
    if timestamp is None:
        return None
    try:
        return datetime.fromisoformat(timestamp)
    except (TypeError, ValueError):
        raise WrongUsage(f"timestamp: {timestamp!r} is not ISO 8601", hint="such as 2026-01-31T12:00:00Z") from None


class Tally:
    """How many samples were given to the client, and what the server made of them."""

    def __init__(self) -> None:
        self.count = self.stored = self.waiting = 0
        self.error: BaseException | None = None  # the first one
        self._moved = asyncio.Event()
        self._over = False

    def add(self, stored: Awaitable[None]) -> None:
        """Count a sample, and watch for its acknowledgement."""
        self.count += 1
        self.waiting += 1
        asyncio.ensure_future(stored).add_done_callback(self._settled)

    async def room(self, bounded: Callable[[], bool]) -> None:
        """Wait while too many are on their way, as long as they are `bounded`."""
        while self.waiting >= FLIGHT and bounded():
            await self._next(1.0)

    async def settled(self, seconds: float) -> None:
        """Wait until none is on its way, or the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.waiting and not self._over and loop.time() < end:
            await self._next(end - loop.time())

    async def _next(self, seconds: float) -> None:
        self._moved.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), seconds)

    def _settled(self, outcome: asyncio.Future[None]) -> None:
        self._moved.set()
        if outcome.cancelled():
            return
        error = outcome.exception()
        if isinstance(error, Stopped):
            self._over = True  # what is not stored stays in the spool
            return
        self.waiting -= 1
        if error is None:
            self.stored += 1
        else:
            self.error = self.error or error
