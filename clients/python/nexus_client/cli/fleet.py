"""A fleet of simulated agents, each with a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nexus_client import Call, CommandFailed, Nexus, NexusError, Stopped
from nexus_client.cli.device import Device

STARTS: Final = 200  # connections per second at the beginning
MOST: Final = 1_000  # blinks that one command may ask for

# Told of what happens: (what, agent, members).
Tell = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class Tally:
    """What a fleet has done so far."""

    online: int = 0
    samples: int = 0
    events: int = 0
    commands: int = 0


class Fleet:
    """Runs simulated agents. `client` makes a client of the server for an agent id; `interval` is in seconds."""

    def __init__(self, client: Callable[[str], Nexus], devices: list[Device], interval: float, tell: Tell) -> None:
        self.tally = Tally()
        self._client = client
        self._devices = devices
        self._interval = interval
        self._tell = tell

    async def run(self) -> None:
        """Run until it is cancelled; then all agents leave. Raise what stopped an agent, such as `Unauthorized`."""
        try:
            async with asyncio.TaskGroup() as group:
                for number, device in enumerate(self._devices):
                    group.create_task(self._live(device, number / STARTS))
        except* Stopped as stopped:
            raise stopped.exceptions[0] from None  # all of them have the same token

    async def _live(self, device: Device, later: float) -> None:
        """Connect, work, and leave, again and again."""
        await asyncio.sleep(later)
        while True:
            nexus = self._client(device.name)
            for command in Commands(device, self._executed).all():
                nexus.command(command.__name__)(command)
            async with nexus:
                self.tally.online += 1
                try:
                    away = await self._work(nexus, device)
                finally:
                    self.tally.online -= 1
            self._tell("left", device.name, {"seconds": round(away, 1)})
            await asyncio.sleep(away)
            self._tell("came back", device.name, {})

    async def _work(self, nexus: Nexus, device: Device) -> float:
        """Send telemetry and events until the agent leaves. Return for how many seconds."""
        while True:
            if nexus.state == "closed":
                await nexus.closed()  # raises why
            moment = device.step(self._interval)
            await nexus.telemetry(moment.metrics)
            self.tally.samples += 1
            for kind, data in moment.events:
                self._tell(kind, device.name, {"value": data["value"]})
                with contextlib.suppress(NexusError):  # the next alarm may be heard again
                    await nexus.publish(kind, data)
                    self.tally.events += 1
            if moment.away:
                return moment.away
            await asyncio.sleep(self._interval)

    def _executed(self, command: str, agent: str, call: Call) -> None:
        self.tally.commands += 1
        self._tell("command", agent, {"command": command, "caller": call.caller})


class Commands:
    """What can be asked of a simulated agent; each method is a command of its name."""

    def __init__(self, device: Device, executed: Callable[[str, str, Call], None]) -> None:
        self._device = device
        self._executed = executed

    def all(self) -> tuple[Callable[..., Any], ...]:
        """Return the handlers."""
        return self.restart, self.deploy, self.blink, self.fail

    async def restart(self, call: Call) -> dict[str, Any]:
        """Leave in a moment, and come back."""
        self._executed("restart", self._device.name, call)
        self._device.restart()
        return {"restarts": True}

    async def deploy(self, call: Call, version: str) -> dict[str, Any]:
        """Install a version, with progress."""
        self._executed("deploy", self._device.name, call)
        for step, percent in (("fetching", 20), ("unpacking", 50), ("checking", 80)):
            await call.progress({"step": step, "percent": percent})
            await asyncio.sleep(0.4)
        before, self._device.version = self._device.version, version
        return {"version": version, "before": before}

    async def blink(self, call: Call, times: int = 3) -> dict[str, Any]:
        """Blink a lamp."""
        self._executed("blink", self._device.name, call)
        if not 0 < times <= MOST:
            raise CommandFailed(f"times: must be from 1 to {MOST}")
        return {"blinked": times}

    async def fail(self, call: Call) -> None:
        """Fail."""
        self._executed("fail", self._device.name, call)
        raise CommandFailed("this command fails whenever it is called")
