"""A simulated fleet at a glance."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from nexus_client.cli.output import Output, text
from nexus_client.cli.tally import Rates
from nexus_client.cli.words import now

if TYPE_CHECKING:
    from rich.table import Table

    from nexus_client.cli.fleet import Fleet

LINE: Final = 10.0  # s between two lines
GLANCE: Final = 0.5  # s between two looks of the table
STATES: Final = {"connected": "green", "connecting": "cyan", "waiting": "yellow", "away": "dim"}


class Overview:
    """Looks at a fleet now and then: as a record, a line, or a table for a terminal."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._rates = Rates()

    def look(self, now: float) -> dict[str, Any]:
        """Return the figures of this moment. `now` is in monotonic seconds."""
        tally = self._fleet.tally
        samples, events = self._rates.look(now, tally.stored, tally.events)
        return {
            "type": "status",
            "agents": len(self._fleet.devices),
            "states": {state: tally.states[state] for state in STATES},
            "samplesPerSecond": round(samples, 1),
            "eventsPerSecond": round(events, 1),
            "alarms": sum(1 for device in self._fleet.devices if device.alarm),
            "samples": tally.stored,
            "unstored": tally.samples - tally.stored,
            "events": tally.events,
            "commands": tally.commands,
        }


async def watch(output: Output, fleet: Fleet) -> None:
    """Show the figures until it is cancelled: a table at a terminal's end, elsewhere lines or records."""
    clock = asyncio.get_running_loop().time
    overview = Overview(fleet)
    if output.json or not output.console.is_terminal:
        overview.look(clock())  # rates are since then
        while True:
            await asyncio.sleep(LINE)
            status = overview.look(clock())
            output.record(status, (now(), "dim"), (f"  {line(status)}", ""))
    from rich.live import Live

    # Without a thread of its own, which would look at figures that change.
    with Live(console=output.console, auto_refresh=False, transient=True, redirect_stderr=False) as live:
        while True:
            live.update(table(overview.look(clock())), refresh=True)
            await asyncio.sleep(GLANCE)


def line(status: dict[str, Any]) -> str:
    """Return the figures on one line."""
    states = ", ".join(f"{count:,} {state}" for state, count in status["states"].items() if count)
    return (
        f"{states or 'nobody yet'}; {status['samplesPerSecond']:,} samples/s, {status['eventsPerSecond']:,} events/s, "
        f"{status['alarms']:,} overheated, {status['commands']:,} commands answered"
    )


def table(status: dict[str, Any]) -> Table:
    """Return the figures as a table of rich."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(justify="right", style="bold")
    grid.add_column()
    states = [(f"{count:,} {state}   ", STATES[state] if count else "dim") for state, count in status["states"].items()]
    grid.add_row("agents", f"{status['agents']:,}", text(states))
    unstored = f", {status['unstored']:,} on their way" if status["unstored"] else ""
    grid.add_row("samples/s", f"{status['samplesPerSecond']:,}", text([(f"{status['samples']:,} stored{unstored}", "")]))
    grid.add_row("events/s", f"{status['eventsPerSecond']:,}", text([(f"{status['events']:,} published", "")]))
    away = status["states"]["away"]
    faults = f"{status['alarms']:,} overheated, {away:,} away"
    grid.add_row("faults now", f"{status['alarms'] + away:,}", text([(faults, "")]))
    grid.add_row("commands", f"{status['commands']:,}", text([("answered", "")]))
    return grid
