"""A simulated agent at the server: its connection, its telemetry, its alarms and its commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final

from nexus_client import Call, CommandFailed, Nexus, NexusError, Stopped
from nexus_client.cli.device import Device
from nexus_client.cli.tally import Tally

MOST: Final = 1_000  # blinks that one command may ask for
ALARMS: Final = 100  # events that wait for a connection; the oldest are dropped

# Told of what happens: (what, agent, members).
Tell = Callable[[str, str, dict[str, Any]], None]


class Agent:
    """Connects, works and leaves, again and again. `clock` gives the seconds since the birth of the device."""

    def __init__(
        self, device: Device, client: Callable[[str], Nexus], clock: Callable[[], float], tally: Tally, tell: Tell
    ) -> None:
        self._device = device
        self._client = client
        self._clock = clock
        self._tally = tally
        self._tell = tell
        self._alarms: deque[tuple[str, dict[str, Any]]] = deque(maxlen=ALARMS)
        self._alarmed = asyncio.Event()

    async def live(self, interval: float) -> None:
        """Live until it is cancelled, with a sample each `interval` seconds. Raise `Stopped` if the server wants it no more."""
        name = self._device.name
        while True:
            nexus = self._client(name)
            for command in Commands(self._device, self._executing).all():
                nexus.command(command.__name__)(command)
            nexus.on_state(lambda state: self._tally.turn(name, state.state))
            try:
                async with nexus:
                    away = await self._work(nexus, interval)
            finally:
                self._tally.turn(name, "away")
            self._tell("left", name, {"seconds": round(away, 1)})
            await asyncio.sleep(away)
            self._tell("came back", name, {})

    async def _work(self, nexus: Nexus, interval: float) -> float:
        """Send telemetry and events until the agent leaves. Return for how many seconds."""
        announcing = asyncio.create_task(self._announce(nexus))
        try:
            while True:
                if nexus.state == "closed":
                    await nexus.closed()  # raises why
                moment = self._device.until(self._clock())
                for kind, data in moment.events:
                    self._tell(kind, self._device.name, {"value": data["value"]})
                self._alarms.extend(moment.events)
                self._alarmed.set()
                if moment.away:
                    return moment.away
                # A sample that has been handed over is sent whatever happens, and so it is counted.
                await asyncio.shield(self._record(nexus, moment.metrics))
                await asyncio.sleep(min(interval, moment.stays))
        finally:
            announcing.cancel()

    async def _record(self, nexus: Nexus, metrics: dict[str, Any]) -> None:
        """Send a sample, and count it."""
        sample = await nexus.telemetry(metrics)
        self._tally.samples += 1
        sample.stored.add_done_callback(self._tally.settled)

    async def _announce(self, nexus: Nexus) -> None:
        """Publish alarms in their order; they wait here for a connection, and the telemetry does not wait for them."""
        with contextlib.suppress(Stopped):
            while True:
                await self._alarmed.wait()
                await nexus.connected()
                if not self._alarms:
                    self._alarmed.clear()
                    continue
                with contextlib.suppress(NexusError):  # the next alarm may be heard again
                    await nexus.publish(*self._alarms.popleft())
                    self._tally.events += 1

    @contextlib.contextmanager
    def _executing(self, command: str, call: Call) -> Iterator[None]:
        """Tell that a command is executed, and count it once it is answered."""
        self._tell("command", self._device.name, {"command": command, "caller": call.caller})
        try:
            yield
        finally:
            self._tally.commands += 1


class Commands:
    """What can be asked of a simulated agent; each method is a command of its name."""

    def __init__(self, device: Device, executing: Callable[[str, Call], AbstractContextManager[None]]) -> None:
        self._device = device
        self._executing = executing

    def all(self) -> tuple[Callable[..., Any], ...]:
        """Return the handlers."""
        return self.restart, self.deploy, self.blink, self.fail

    async def restart(self, call: Call) -> dict[str, Any]:
        """Leave in a moment, and come back."""
        with self._executing("restart", call):
            self._device.restart()
            return {"restarts": True}

    async def deploy(self, call: Call, version: str) -> dict[str, Any]:
        """Install a version, with progress."""
        with self._executing("deploy", call):
            for step, percent in (("fetching", 20), ("unpacking", 50), ("checking", 80)):
                await call.progress({"step": step, "percent": percent})
                await asyncio.sleep(0.4)
            before, self._device.version = self._device.version, version
            return {"version": version, "before": before}

    async def blink(self, call: Call, times: int = 3) -> dict[str, Any]:
        """Blink a lamp."""
        with self._executing("blink", call):
            if not 0 < times <= MOST:
                raise CommandFailed(f"times: must be from 1 to {MOST}")
            return {"blinked": times}

    async def fail(self, call: Call) -> None:
        """Fail."""
        with self._executing("fail", call):
            raise CommandFailed("this command fails whenever it is called")
