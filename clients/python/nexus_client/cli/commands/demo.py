"""`nexus demo`: a simulated fleet, for a first look."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_client.cli import parsing
from nexus_client.cli.app import App, with_server
from nexus_client.cli.registry import examples
from nexus_client.cli.words import compact, now

if TYPE_CHECKING:
    from nexus_client.cli.tally import Tally

_STYLES: Final = {"alarm.raised": "red", "alarm.cleared": "green", "left": "yellow", "came back": "green", "command": "cyan"}


@click.command(
    epilog=examples(
        "nexus demo --agents 5",
        "nexus demo --agents 1000 --interval 5 --duration 60 --json",
        "nexus demo --agents 20 --seed 7                        the same faults at the same times",
    )
)
@click.option("--agents", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many agents.")
@click.option("--interval", type=parsing.Seconds(), default=1, show_default=True, help="Between two samples of an agent.")
@click.option("--duration", type=parsing.Seconds(), help="End after this time. [default: with Ctrl-C]")
@click.option("--seed", type=int, help="Of the faults and their times. [default: chosen]")
@with_server
def command(app: App, agents: int, interval: float, duration: float | None, seed: int | None) -> None:
    """Simulate a fleet of agents until Ctrl-C.

    Agents agent-001, agent-002 and so on drive about, send telemetry, overheat now and then (`alarm.raised`, `alarm.cleared`),
    lose their network and come back. They execute the commands restart, deploy (with a version), blink (times) and fail. The
    token must allow all that, as the one that `bin/serve` prints does. A terminal has the fleet's figures at its end; elsewhere
    a line tells them every 10 s.
    """
    app.run(_demo(app, agents, interval, duration, random.randrange(1_000_000) if seed is None else seed))  # noqa: S311  no secret


async def _demo(app: App, agents: int, interval: float, duration: float | None, seed: int) -> None:
    """Run the fleet, show what happens, and tell what it did."""
    from nexus_client.cli.device import Device
    from nexus_client.cli.fleet import Fleet
    from nexus_client.cli.link import connected
    from nexus_client.cli.overview import watch

    def tell(what: str, agent: str, members: dict[str, Any]) -> None:
        words = "" if not members else f"  {compact(members)}"
        style = _STYLES[what]
        app.output.record({"type": what, "agentId": agent, **members}, (now(), "dim"), (f"  {agent}  {what}{words}", style))

    devices = [Device(f"agent-{number:03}", seed) for number in range(1, agents + 1)]
    fleet = Fleet(lambda agent: app.client(agent=agent), devices, max(0.01, interval), tell)
    async with connected(app):  # says what is wrong before a thousand agents do, and what becomes of the connection
        _greet(app, agents, seed)
        tasks = [asyncio.create_task(fleet.run()), asyncio.create_task(watch(app.output, fleet))]
        try:
            ended, _ = await asyncio.wait(tasks, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            _farewell(app, agents, fleet.tally)
        for task in ended:
            task.result()  # raises why


def _greet(app: App, agents: int, seed: int) -> None:
    """Tell what runs, and what to type in another terminal."""
    app.output.note(f"{agents} agents at {app.target.http()}, seed {seed}; Ctrl-C ends them. In another terminal:")
    for line in (
        "nexus subscribe 'alarm.*' agent.status telemetry.received",
        "nexus command deploy version=1.2.3 --target agent-001",
    ):
        app.output.note(f"  {line}", "bold")


def _farewell(app: App, agents: int, tally: Tally) -> None:
    done = {"samples": tally.stored, "events": tally.events, "commands": tally.commands}
    words = ", ".join(f"{number:,} {name}" for name, number in done.items())
    app.output.record({"type": "demo", "agents": agents, **done}, (f"{agents} agents: {words}", "green"))
